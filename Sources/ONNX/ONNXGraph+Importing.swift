import CNormFoldOnnxProto
import NormFoldFormats
import NormFoldNetworks

extension ONNXGraph {
  /// Reads a graph that any program exported.
  ///
  /// Weights stand in the model file or in files beside it. Constants become initializers, and so do copies and
  /// transposes of initializers, so that each weight is known by the value that nodes read. What nothing reads is left
  /// out.
  ///
  /// - Parameter path: the model file.
  /// - Throws: `.malformed` for what is no graph, `.unsupported` for parts of the format that are not read here.
  package init(importing path: String) throws(Refusal) {
    let file = try MappedFile(path: path)
    guard file.byteCount <= Self.maximumImportByteCount else {
      throw Refusal(
        .unsupported, file: path,
        "a model file has at most \(Self.maximumImportByteCount) bytes, found \(file.byteCount)",
        advice: "export it with its weights in a file beside it")
    }
    self = try UnpackedModel(file, origin: .any).importedGraph(besides: ONNXDataFiles(beside: path))
    foldConstants()
    try rewriteConvolutions(file: path)
    dropUnread()
    nameNodes()
    try check(file: path)
  }

  /// Returns whether a model file says that this program wrote it.
  ///
  /// - Throws: `.malformed` for what is no model.
  package static func isWrittenHere(_ path: String) throws(Refusal) -> Bool {
    let file = try MappedFile(path: path)
    guard file.byteCount <= maximumModelByteCount else { return false }
    return try UnpackedModel(file, origin: .any).isOurs
  }

  /// No message of protobuf is larger.
  static let maximumImportByteCount = 1 << 31

  /// Makes initializers of the nodes that compute nothing but another form of one.
  private mutating func foldConstants() {
    var known = Dictionary(initializers.map { ($0.name, $0) }) { first, _ in first }
    inputs.removeAll { known[$0.name] != nil }
    var rest: [Node] = []
    for node in nodes {
      let operand = node.inputs.first.flatMap { known[$0] }
      var constant: Initializer?
      switch (node.operation, node.outputs.count) {
      case ("Constant", 1): constant = node.constant
      case ("Identity", 1): constant = operand
      case ("Transpose", 1):
        if let operand, case .external(let value) = operand.content, operand.shape.count == 2,
          node.attributes["perm"] ?? .integers([1, 0]) == .integers([1, 0])
        {
          constant = operand
          constant?.content = .external(value.transposed())
          constant?.shape = value.transposed().shape
        }
      default: break
      }
      guard var constant else {
        rest.append(node)
        continue
      }
      constant.name = node.outputs[0]
      known[constant.name] = constant
      initializers.append(constant)
    }
    nodes = rest
  }

  private mutating func dropUnread() {
    var read = Set(outputs.map(\.name))
    var kept: [Node] = []
    for var node in nodes.reversed() where node.outputs.contains(where: read.contains) {
      // Outputs at the end may be left out.
      while let last = node.outputs.last, last.isEmpty || node.operation == "Dropout" && node.outputs.count > 1 {
        node.outputs.removeLast()
      }
      read.formUnion(node.inputs)
      kept.append(node)
    }
    nodes = kept.reversed()
    initializers.removeAll { !read.contains($0.name) }
  }

  /// Names are for messages, and many programs leave them out.
  private mutating func nameNodes() {
    var seen: Set<String> = []
    for index in nodes.indices {
      if nodes[index].name.isEmpty || !seen.insert(nodes[index].name).inserted {
        nodes[index].name = "\(nodes[index].operation) \(index) (\(nodes[index].outputs.first ?? ""))"
        seen.insert(nodes[index].name)
      }
    }
  }
}

extension ONNXGraph.Node {
  /// The constant that a node gives; nil where none of its attributes holds one in a form that is read here.
  fileprivate var constant: ONNXGraph.Initializer? {
    func initializer(_ type: ElementType, _ shape: [Int], _ content: ONNXGraph.Content) -> ONNXGraph.Initializer {
      .init(name: outputs[0], type: type, shape: shape, content: content)
    }
    if case .tensor(let value)? = attributes["value"] { return value }
    if case .number(let value)? = attributes["value_float"] {
      return initializer(.f32, [], .numbers([Double(value)]))
    }
    if case .integer(let value)? = attributes["value_int"] { return initializer(.i64, [], .integers([value])) }
    if case .integers(let values)? = attributes["value_ints"] {
      return initializer(.i64, [values.count], .integers(values))
    }
    return nil
  }
}

/// The files that hold weights beside a model, opened when a weight names them.
final class ONNXDataFiles {
  private let directory: String
  private let path: String
  private var files: [String: MappedFile] = [:]

  init(beside path: String) {
    self.path = path
    directory = path.split(separator: "/", omittingEmptySubsequences: false).dropLast().joined(separator: "/")
  }

  /// - Parameter location: as the model gives it.
  /// - Throws: `.malformed` where it leads out of the model's directory, or there is no such file.
  func file(at location: String, of tensor: String) throws(Refusal) -> MappedFile {
    if let file = files[location] { return file }
    guard !location.isEmpty, !location.contains("/"), location != "..", location != "." else {
      throw Refusal(
        .malformed, file: path, subject: tensor, "location '\(location)' is not the name of a file beside the model")
    }
    let file = try MappedFile(path: directory.isEmpty ? location : directory + "/" + location)
    files[location] = file
    return file
  }
}

// MARK: - Weights

extension UnpackedModel {
  /// A weight that is read in pieces, or a constant, from its bytes. A weight with more than two axes is a matrix as it lies: a table
  /// [1, rows, width] has its rows, the kernel of a convolution [out, in, height, width] one for each output.
  func imported(_ info: TensorInfo, tensor: Tensor) throws(Refusal) -> ONNXGraph.Initializer {
    let isNumber = [.f32, .f16, .bf16, .f64].contains(info.type)
    if isNumber, (1...4).contains(info.shape.count), tensor.info.byteCount > info.type.onnxSize {
      let shape =
        switch info.shape.count {
        case 3: [info.shape[0] * info.shape[1], info.shape[2]]
        case 4: [info.shape[0], info.shape[1...].reduce(1, *)]
        default: info.shape
        }
      let matrix = Tensor(
        info: TensorInfo(name: info.name, type: info.type, shape: shape), file: tensor.file,
        byteOffset: tensor.byteOffset)
      return .init(name: info.name, type: info.type, shape: info.shape, content: .external(.stored(matrix)))
    }
    let content: ONNXGraph.Content
    switch info.type {
    case .bool: content = .booleans(tensor.bytes.map { $0 != 0 })
    case .u8: content = .integers(tensor.bytes.map { Int($0) })
    case .i8: content = .integers(tensor.bytes.map { Int(Int8(bitPattern: $0)) })
    case .i32: content = .integers(tensor.integers(Int32.self))
    case .i64: content = .integers(tensor.integers(Int64.self))
    default:
      let flat = Tensor(
        info: TensorInfo(name: info.name, type: info.type, shape: [info.shape.reduce(1, *)]), file: tensor.file,
        byteOffset: tensor.byteOffset)
      content = .numbers(flat.decoded(as: Double.self))
    }
    return .init(name: info.name, type: info.type, shape: info.shape, content: content)
  }

  /// The tensor in the file that the model names: from an offset on, to its end or for some length.
  func located(
    _ message: Onnx__TensorProto, _ info: TensorInfo, _ byteCount: Int, _ files: ONNXDataFiles
  ) throws(Refusal) -> Tensor {
    let entries = try unsafe entries(message.external_data, message.n_external_data, "external data", info.name)
    let file = try files.file(at: entries["location"] ?? "", of: info.name)
    func number(_ key: String) throws(Refusal) -> Int? {
      guard let literal = entries[key] else { return nil }
      guard let value = Int(literal), value >= 0 else {
        throw refusal(info.name, "\(key): expected a whole number, found '\(literal)'")
      }
      return value
    }
    let offset = try number("offset") ?? 0
    guard try number("length") ?? byteCount == byteCount, offset <= file.byteCount,
      byteCount <= file.byteCount - offset
    else {
      throw refusal(
        info.name,
        "\(byteCount) bytes from byte \(offset) on are not what \(file.path) holds, which has \(file.byteCount)",
        advice: "the data file is incomplete, or of another model")
    }
    return Tensor(info: info, file: file, byteOffset: offset)
  }

  /// The tensor in the message, whose bytes are not copied where they stand as they are read.
  func copied(
    _ message: Onnx__TensorProto, _ info: TensorInfo, _ byteCount: Int
  ) throws(Refusal) -> Tensor {
    if unsafe message.has_raw_data != 0 {
      guard unsafe message.raw_data.len == byteCount else {
        throw refusal(
          info.name,
          unsafe "expected \(byteCount) bytes for \(info.type.displayName) \(info.shape), found \(message.raw_data.len)"
        )
      }
      let bytes = unsafe UnsafeRawBufferPointer(start: message.raw_data.data, count: byteCount)
      return Tensor(info: info, file: unsafe MappedFile(lending: bytes, of: self, path: path), byteOffset: 0)
    }
    let found: Int
    switch info.type {
    case .f32: found = unsafe message.n_float_data
    case .i64: found = unsafe message.n_int64_data
    case .i32, .f16, .bf16, .bool, .u8, .i8: found = unsafe message.n_int32_data
    default: throw refusal(info.name, "numbers of type \(info.type.displayName) are read from raw data only")
    }
    let count = info.shape.reduce(1, *)
    guard found == count else { throw refusal(info.name, "expected \(count) numbers, found \(found)") }
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: max(byteCount, 1), alignment: 64)
    let file = unsafe MappedFile(owning: memory, path: path)
    switch info.type {
    case .f32: unsafe memory.copyMemory(from: UnsafeRawBufferPointer(start: message.float_data, count: byteCount))
    case .i64: unsafe memory.copyMemory(from: UnsafeRawBufferPointer(start: message.int64_data, count: byteCount))
    default:
      // One number each, whose lowest bytes are the element.
      let size = info.type.onnxSize
      for index in 0..<count {
        let bits = unsafe UInt32(bitPattern: message.int32_data[index])
        for byte in 0..<size {
          unsafe memory[index * size + byte] = UInt8(truncatingIfNeeded: bits >> (8 * UInt32(byte)))
        }
      }
    }
    return Tensor(info: info, file: file, byteOffset: 0)
  }
}
