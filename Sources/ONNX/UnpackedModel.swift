import CNormFoldOnnxProto
import CNormFoldProtobuf
import NormFoldFormats
import NormFoldNetworks

/// A model as protobuf-c read it.
@safe final class UnpackedModel: Sendable {
  /// The origin of a model, which decides what is accepted.
  enum Origin {
    /// Only what a writer of graphs writes.
    case ours
    /// Anything that the format defines.
    case any
  }

  private nonisolated(unsafe) let model: UnsafeMutablePointer<Onnx__ModelProto>
  let path: String
  private let origin: Origin

  /// - Throws: `.malformed` for bytes that are not a protobuf message of this schema.
  init(_ file: MappedFile, origin: Origin) throws(Refusal) {
    self.origin = origin
    let unpacked = unsafe file.withBytes { bytes in
      unsafe bytes.withUnsafeBytes { bytes in
        unsafe onnx__model_proto__unpack(nil, bytes.count, bytes.baseAddress?.assumingMemoryBound(to: UInt8.self))
      }
    }
    guard let message = unsafe unpacked else {
      throw Refusal(
        .malformed, file: file.path, "is not a protobuf message of ONNX", advice: "it is damaged or incomplete")
    }
    unsafe model = message
    path = file.path
    try file.requireIntact()
  }

  deinit { unsafe onnx__model_proto__free_unpacked(model, nil) }

  func graph(data: MappedFile) throws(Refusal) -> ONNXGraph {
    let model = unsafe model.pointee
    try unsafe requireKnownFields(model.base, "model")
    let inputs = try inputs()
    let form = ONNXGraph.Form(of: inputs)
    guard unsafe model.has_ir_version != 0, unsafe model.ir_version == Int64(form.formatVersion)
    else {
      throw refusal(
        nil,
        unsafe "expected IR version \(form.formatVersion), found \(model.has_ir_version == 0 ? "none" : unsafe "\(model.ir_version)")"
      )
    }
    let operatorSets = unsafe list(model.opset_import, model.n_opset_import)
    for index in unsafe operatorSets.indices { try unsafe requireKnownFields(operatorSets[index].base, "operator set") }
    guard unsafe operatorSets.count == 1, unsafe text(operatorSets[0].domain) == "",
      unsafe operatorSets[0].version == Int64(form.operatorSet)
    else {
      let found = unsafe operatorSets.map { unsafe "'\(text($0.domain))' \($0.version)" }.joined(separator: ", ")
      throw refusal(
        nil,
        "expected operator set '' \(form.operatorSet) alone, found \(found.isEmpty ? "none" : found)"
      )
    }
    return try graph(inputs, form, ONNXDataFiles(beside: path), only: data)
  }

  /// Is true if the model says that this program wrote it.
  var isOurs: Bool { unsafe text(model.pointee.producer_name) == ONNXNames.producer }

  func importedGraph(besides files: ONNXDataFiles) throws(Refusal) -> ONNXGraph {
    let model = unsafe model.pointee
    try unsafe requireKnownFields(model.base, "model")
    return try graph(inputs(), .cached, files, only: nil)
  }

  private func inputs() throws(Refusal) -> [ONNXGraph.Value] {
    guard let message = unsafe model.pointee.graph?.pointee else { return [] }
    return try unsafe list(message.input, message.n_input).map { (message) throws(Refusal) in
      try unsafe value(message)
    }
  }

  /// - Parameter data: the one file that weights may stand in; nil where the model names files.
  private func graph(
    _ inputs: [ONNXGraph.Value], _ form: ONNXGraph.Form, _ files: ONNXDataFiles, only data: MappedFile?
  ) throws(Refusal) -> ONNXGraph {
    let model = unsafe model.pointee
    guard let message = unsafe model.graph?.pointee else { throw refusal(nil, "has no graph") }
    try unsafe requireKnownFields(message.base, "graph")
    guard unsafe origin == .any || !text(message.name).isEmpty else {
      throw refusal(nil, "the graph has no name", advice: "onnx requires one")
    }

    var graph = ONNXGraph(form: form)
    graph.metadata = try unsafe entries(model.metadata_props, model.n_metadata_props, "metadata")
    graph.initializers = try unsafe list(message.initializer, message.n_initializer).map { (message) throws(Refusal) in
      try unsafe initializer(message, text(message.name), files, only: data)
    }
    let nodes = unsafe list(message.node, message.n_node)
    for index in unsafe nodes.indices {
      if form.isPlain, let data, let constant = try unsafe constant(nodes[index], files, only: data) {
        graph.initializers.append(constant)
      } else {
        unsafe graph.nodes.append(try node(nodes[index], files))
      }
    }
    graph.inputs = inputs
    graph.outputs = try unsafe list(message.output, message.n_output).map {
      (message) throws(Refusal) in
      try unsafe value(message)
    }
    return graph
  }

  /// A number of a formula that is a node; nil for every other node.
  private func constant(
    _ message: Onnx__NodeProto, _ files: ONNXDataFiles, only data: MappedFile
  ) throws(Refusal) -> ONNXGraph.Initializer? {
    guard unsafe text(message.op_type) == ONNXGraph.constantOperation else { return nil }
    let name = unsafe text(message.name)
    try unsafe requireKnownFields(message.base, "node", name)
    let outputs = unsafe texts(message.output, message.n_output)
    guard unsafe message.n_input == 0, outputs.count == 1,
      name == ONNXGraph.constantOperation + "." + outputs[0],
      unsafe message.n_attribute == 1, let attribute = unsafe list(message.attribute, 1).first,
      unsafe text(attribute.name) == ONNXGraph.constantAttribute,
      unsafe attribute.type == ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TENSOR,
      unsafe attribute.has_f == 0 && attribute.has_i == 0 && attribute.has_s == 0 && attribute.n_ints == 0,
      let tensor = unsafe attribute.t?.pointee, unsafe text(tensor.name) == outputs[0]
    else { throw refusal(name, "is no constant of one tensor") }
    try unsafe requireKnownFields(attribute.base, "attribute", name)
    let constant = try unsafe initializer(tensor, outputs[0], files, only: data)
    if case .external = constant.content {
      throw refusal(name, "a constant has its numbers in the model")
    }
    return constant
  }

  private func node(_ message: Onnx__NodeProto, _ files: ONNXDataFiles) throws(Refusal) -> ONNXGraph.Node {
    let name = unsafe text(message.name)
    try unsafe requireKnownFields(message.base, "node", name)
    var attributes: [String: ONNXGraph.Attribute] = [:]
    let found = unsafe list(message.attribute, message.n_attribute)
    for index in unsafe found.indices {
      let attribute = unsafe found[index]
      try unsafe requireKnownFields(attribute.base, "attribute", name)
      let key = unsafe text(attribute.name)
      let isNumber = unsafe attribute.has_f != 0
      let isInteger = unsafe attribute.has_i != 0
      let integers = unsafe UnsafeBufferPointer(start: attribute.ints, count: attribute.n_ints).map { Int($0) }
      let value: ONNXGraph.Attribute
      let isText = unsafe attribute.has_s != 0
      let isTensor = unsafe attribute.t != nil
      guard origin == .any || !isText && !isTensor else {
        throw refusal(name, "attribute '\(key)' is a text or a tensor, which NormFold does not write")
      }
      switch unsafe attribute.type {
      case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRING where isText:
        value = unsafe .text(
          String(decoding: UnsafeRawBufferPointer(start: attribute.s.data, count: attribute.s.len), as: UTF8.self))
      case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TENSOR where isTensor:
        guard let tensor = unsafe attribute.t?.pointee else { throw refusal(name, "attribute '\(key)' is missing") }
        value = .tensor(try unsafe initializer(tensor, key, files, only: nil))
      case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT where isInteger && !isNumber && integers.isEmpty:
        value = unsafe .integer(Int(attribute.i))
      case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS where !isInteger && !isNumber: value = .integers(integers)
      case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT where isNumber && !isInteger && integers.isEmpty:
        value = unsafe .number(attribute.f)
      default:
        throw refusal(
          name,
          unsafe origin == .ours
            ? "attribute '\(key)' is not of the type that it says (\(attribute.type.rawValue))"
            : "attribute '\(key)' of type \(attribute.type.rawValue) is not one that is read here")
      }
      guard attributes.updateValue(value, forKey: key) == nil else {
        throw refusal(name, "has two attributes '\(key)'")
      }
    }
    let domain = unsafe text(message.domain)
    guard origin == .any || domain.isEmpty else {
      throw refusal(name, "domain '\(domain)' is none that NormFold writes")
    }
    return unsafe ONNXGraph.Node(
      name: name, operation: text(message.op_type), inputs: texts(message.input, message.n_input),
      outputs: texts(message.output, message.n_output), attributes: attributes, domain: domain)
  }

  private func initializer(
    _ message: Onnx__TensorProto, _ name: String, _ files: ONNXDataFiles, only data: MappedFile?
  ) throws(Refusal) -> ONNXGraph.Initializer {
    try unsafe requireKnownFields(message.base, "initializer", name)
    guard unsafe message.has_data_type != 0, let type = unsafe ElementType(onnxCode: message.data_type) else {
      throw refusal(
        name,
        unsafe "data type \(message.has_data_type == 0 ? "missing" : unsafe "\(message.data_type)") is not one that \(origin == .ours ? "NormFold writes" : "is read here")"
      )
    }
    let shape = unsafe UnsafeBufferPointer(start: message.dims, count: message.n_dims).map { Int($0) }
    guard shape.allSatisfy({ origin == .any ? $0 >= 0 : $0 > 0 }), let count = TensorInfo.checkedElementCount(shape),
      let byteCount = type.byteCount(ofElements: count)
    else {
      throw refusal(name, "shape \(shape) has an extent below 1, or too many elements")
    }
    let info = TensorInfo(name: name, type: type, shape: shape)
    if unsafe message.has_data_location != 0,
      unsafe message.data_location == ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL
    {
      guard unsafe message.has_raw_data == 0 else { throw refusal(name, "has data both in the model and beside it") }
      guard let data else {
        return try unsafe imported(info, tensor: located(message, info, byteCount, files))
      }
      guard shape.count == 1 || shape.count == 2, [.f32, .f16].contains(type) else {
        throw refusal(
          name, "expected a vector or matrix of numbers beside the model, found \(type.displayName) \(shape)")
      }
      let tensor = try unsafe external(message, info, byteCount, data)
      return .init(name: name, type: type, shape: shape, content: .external(.stored(tensor)))
    }
    guard origin == .ours else { return try unsafe imported(info, tensor: copied(message, info, byteCount)) }
    guard unsafe message.n_external_data == 0, unsafe message.has_raw_data != 0 else {
      throw refusal(name, "has no data")
    }
    guard unsafe message.raw_data.len == byteCount else {
      throw refusal(
        name, unsafe "expected \(byteCount) bytes for \(type.displayName) \(shape), found \(message.raw_data.len)")
    }
    let bytes = unsafe UnsafeRawBufferPointer(start: message.raw_data.data, count: byteCount)
    let content: ONNXGraph.Content
    switch type {
    case .i64:
      content = .integers((0..<count).map { unsafe Int(bytes.loadUnaligned(fromByteOffset: 8 * $0, as: Int64.self)) })
    case .f32:
      content = .numbers((0..<count).map { unsafe Double(bytes.loadUnaligned(fromByteOffset: 4 * $0, as: Float.self)) })
    case .f16:
      content = .numbers(
        (0..<count).map {
          unsafe Double(Float(float16Bits: bytes.loadUnaligned(fromByteOffset: 2 * $0, as: UInt16.self)))
        })
    default: throw refusal(name, "a constant of type \(type.displayName) is not one that NormFold writes")
    }
    return .init(name: name, type: type, shape: shape, content: content)
  }

  /// The tensor at the place that the model gives, which must lie inside the data file and have exactly its size:
  /// onnxruntime asks for that, and onnx does not notice.
  private func external(
    _ message: Onnx__TensorProto, _ info: TensorInfo, _ byteCount: Int, _ data: MappedFile
  ) throws(Refusal) -> Tensor {
    let entries = try unsafe entries(message.external_data, message.n_external_data, "external data", info.name)
    guard entries.keys.sorted() == ["length", "location", "offset"] else {
      throw refusal(
        info.name,
        "expected the keys length, location, offset of external data, found \(entries.keys.sorted().joined(separator: ", "))"
      )
    }
    guard entries["location"] == ONNXNames.data else {
      throw refusal(info.name, "expected location '\(ONNXNames.data)', found '\(entries["location"] ?? "")'")
    }
    func number(_ key: String) throws(Refusal) -> Int {
      let literal = entries[key] ?? ""
      guard let value = Int(literal), value >= 0, String(value) == literal else {
        throw refusal(info.name, "\(key): expected a whole number, found '\(literal)'")
      }
      return value
    }
    let (offset, length) = (try number("offset"), try number("length"))
    guard length == byteCount else {
      throw refusal(
        info.name, "length: expected \(byteCount) for \(info.type.displayName) \(info.shape), found \(length)")
    }
    guard offset % ONNXGraph.alignment == 0 else {
      throw refusal(info.name, "offset: expected a multiple of \(ONNXGraph.alignment), found \(offset)")
    }
    guard offset <= data.byteCount, length <= data.byteCount - offset else {
      throw refusal(
        info.name,
        "bytes \(offset) to \(offset.addingReportingOverflow(length).partialValue) lie outside \(ONNXNames.data), which has \(data.byteCount)",
        advice: "the data file is incomplete")
    }
    return Tensor(info: info, file: data, byteOffset: offset)
  }

  private func value(_ message: Onnx__ValueInfoProto) throws(Refusal) -> ONNXGraph.Value {
    let name = unsafe text(message.name)
    try unsafe requireKnownFields(message.base, "value", name)
    guard let type = unsafe message.type?.pointee, let tensor = unsafe type.tensor_type?.pointee,
      let shape = unsafe tensor.shape?.pointee,
      let elementType = unsafe ElementType(onnxCode: tensor.elem_type)
    else { throw refusal(name, "expected a tensor with a type and a shape that NormFold writes") }
    try unsafe requireKnownFields(type.base, "type", name)
    try unsafe requireKnownFields(tensor.base, "tensor type", name)
    try unsafe requireKnownFields(shape.base, "shape", name)
    var dimensions: [ONNXGraph.Dimension] = []
    let found = unsafe list(shape.dim, shape.n_dim)
    for index in unsafe found.indices {
      let dimension = unsafe found[index]
      try unsafe requireKnownFields(dimension.base, "dimension", name)
      switch unsafe (dimension.has_dim_value != 0, text(dimension.dim_param)) {
      case (true, "") where unsafe (1..<1 << 31).contains(dimension.dim_value):
        unsafe dimensions.append(.fixed(Int(dimension.dim_value)))
      case (false, let symbol) where !symbol.isEmpty || origin == .any: dimensions.append(.named(symbol))
      default: throw refusal(name, "each dimension is a number from 1 to 2^31 - 1 or a name")
      }
    }
    return .init(name: name, type: elementType, shape: dimensions)
  }

  // MARK: Parts of messages

  /// The fields of each message that only describe it.
  private static let descriptions: [String: Set<UInt32>] = [
    "model": [4, 5], "graph": [10, 13, 16], "node": [6, 9], "attribute": [13], "initializer": [12, 16],
    "value": [3, 4], "type": [6], "dimension": [3],
  ]

  func refusal(_ subject: String?, _ problem: String, advice: Message = "") -> Refusal {
    Refusal(.malformed, file: path, subject: subject, problem, advice: advice)
  }

  /// Our schema has every field that we write: anything else was not written by us.
  private func requireKnownFields(_ message: ProtobufCMessage, _ kind: String, _ subject: String = "") throws(Refusal) {
    let ignored = origin == .any ? Self.descriptions[kind] ?? [] : []
    let fields = unsafe UnsafeBufferPointer(
      start: message.unknown_fields, count: message.unknown_fields == nil ? 0 : Int(message.n_unknown_fields))
    for index in fields.indices {
      let tag = unsafe fields[index].tag
      if ignored.contains(tag) { continue }
      throw refusal(
        subject.isEmpty ? nil : subject,
        "field \(tag) of the \(kind) is not one that \(origin == .ours ? "NormFold writes" : "is read here")")
    }
  }

  func entries(
    _ messages: UnsafeMutablePointer<UnsafeMutablePointer<Onnx__StringStringEntryProto>?>?, _ count: Int,
    _ kind: String,
    _ subject: String = ""
  ) throws(Refusal) -> [String: String] {
    var entries: [String: String] = [:]
    let found = unsafe list(messages, count)
    for index in unsafe found.indices {
      let entry = unsafe found[index]
      try unsafe requireKnownFields(entry.base, kind, subject)
      guard unsafe entries.updateValue(text(entry.value), forKey: text(entry.key)) == nil else {
        throw refusal(subject.isEmpty ? nil : subject, unsafe "\(kind) has two keys '\(text(entry.key))'")
      }
    }
    return entries
  }

  private func list<Message>(
    _ messages: UnsafeMutablePointer<UnsafeMutablePointer<Message>?>?, _ count: Int
  ) -> [Message] {
    unsafe UnsafeBufferPointer(start: messages, count: messages == nil ? 0 : count).compactMap { unsafe $0?.pointee }
  }

  private func texts(_ strings: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?, _ count: Int) -> [String] {
    unsafe UnsafeBufferPointer(start: strings, count: strings == nil ? 0 : count).map { unsafe text($0) }
  }

  private func text(_ string: UnsafeMutablePointer<CChar>?) -> String {
    unsafe string.map { unsafe String(cString: $0) } ?? ""
  }
}
