import CNormFoldOnnxProto
import CNormFoldProtobuf
import NormFoldFormats

extension ONNXGraph {
  static let alignment = 4096

  /// The ranges of bytes in the data file where the external initializers stand, in the order of
  /// ``externalInitializers``: each on a page of its own, so that a runtime can map it instead of copying it.
  var externalRanges: [Range<Int>] {
    var end = 0
    return externalInitializers.map { info, _ in
      let start = (end + Self.alignment - 1) / Self.alignment * Self.alignment
      end = start + info.byteCount
      return start..<end
    }
  }

  /// The model files by their names: the graph, and before it the one that looks the embeddings up where it reads these.
  ///
  /// - Parameter dataName: the name of the data file beside them.
  package func packed(dataName: String) -> [(name: String, bytes: [UInt8])] {
    let ranges = Dictionary(zip(externalInitializers.map(\.info.name), externalRanges)) {
      first, _ in first
    }
    let (lookup, rest) = parts
    return (lookup.map { [(ONNXNames.lookup, $0.packed(dataName, ranges))] } ?? [])
      + [(ONNXNames.model, rest.packed(dataName, ranges))]
  }

  /// The graph that looks the embeddings up, nil where the whole reads ids, and the one of all other nodes.
  private var parts: (lookup: ONNXGraph?, rest: ONNXGraph) {
    guard form.readsEmbeddings,
      let first = nodes.firstIndex(where: { $0.outputs == [Self.embeddingsName] }),
      let type = outputs.first?.type,
      let width = initializers.first(where: { $0.name == nodes[first].inputs[0] })?.shape[1]
    else { return (nil, self) }
    let values = Self.embeddings(length: form.length ?? 0, width: width, type: type)
    var (lookup, rest) = (self, self)
    lookup.nodes = [nodes[first]]
    lookup.outputs = [values]
    rest.nodes.remove(at: first)
    rest.inputs = [values]
    lookup.initializers.removeAll { !nodes[first].inputs.contains($0.name) }
    rest.initializers.removeAll { nodes[first].inputs.contains($0.name) }
    return (lookup, rest)
  }

  private func packed(_ dataName: String, _ ranges: [String: Range<Int>]) -> [UInt8] {
    let arena = MessageArena()
    let model = unsafe arena.make(onnx__model_proto__init)
    unsafe model.pointee.has_ir_version = 1
    unsafe model.pointee.ir_version = Int64(form.formatVersion)
    unsafe model.pointee.producer_name = arena.string(ONNXNames.producer)
    if let version = metadata["normfold.version"] { unsafe model.pointee.producer_version = arena.string(version) }
    let operators = unsafe arena.make(onnx__operator_set_id_proto__init)
    unsafe operators.pointee.domain = arena.string("")
    unsafe operators.pointee.has_version = 1
    unsafe operators.pointee.version = Int64(form.operatorSet)
    unsafe model.pointee.n_opset_import = 1
    unsafe model.pointee.opset_import = arena.pointers([operators])
    unsafe model.pointee.graph = arena.graph(self, ranges, dataName: dataName)
    // Sorted, so that equal graphs are equal files.
    let properties = unsafe metadata.sorted { $0.key < $1.key }.map { unsafe arena.entry($0.key, $0.value) }
    unsafe model.pointee.n_metadata_props = properties.count
    unsafe model.pointee.metadata_props = arena.pointers(properties)

    let byteCount = unsafe onnx__model_proto__get_packed_size(model)
    return unsafe [UInt8](unsafeUninitializedCapacity: byteCount) { buffer, count in
      count = unsafe onnx__model_proto__pack(model, buffer.baseAddress)
    }
  }
}

/// The memory of messages while they are packed, all freed together.
@safe private final class MessageArena {
  private var blocks: [UnsafeMutableRawPointer] = unsafe []

  deinit { while let block = unsafe blocks.popLast() { unsafe block.deallocate() } }

  func make<Message>(_ initialise: (UnsafeMutablePointer<Message>?) -> Void) -> UnsafeMutablePointer<Message> {
    let message = UnsafeMutablePointer<Message>.allocate(capacity: 1)
    unsafe blocks.append(UnsafeMutableRawPointer(message))
    unsafe initialise(message)
    return unsafe message
  }

  func array<Element: BitwiseCopyable>(_ elements: [Element]) -> UnsafeMutablePointer<Element> {
    let copy = UnsafeMutablePointer<Element>.allocate(capacity: max(1, elements.count))
    unsafe blocks.append(UnsafeMutableRawPointer(copy))
    for (index, element) in elements.enumerated() { unsafe (copy + index).initialize(to: element) }
    return unsafe copy
  }

  func string(_ text: String) -> UnsafeMutablePointer<CChar> { unsafe array(text.utf8CString.map { $0 }) }

  func pointers<Message>(
    _ messages: [UnsafeMutablePointer<Message>]
  ) -> UnsafeMutablePointer<UnsafeMutablePointer<Message>?> {
    unsafe array(messages.map { unsafe Optional($0) })
  }

  // MARK: Messages

  func graph(
    _ graph: ONNXGraph, _ ranges: [String: Range<Int>], dataName: String
  ) -> UnsafeMutablePointer<Onnx__GraphProto> {
    let message = unsafe make(onnx__graph_proto__init)
    unsafe message.pointee.name = string("network")
    // Compilers encrypt initializers, and may not encrypt shapes.
    let constants = graph.form.isPlain ? graph.initializers.filter { $0.inlineBytes != nil } : []
    let nodes = unsafe constants.map { unsafe constant($0) } + graph.nodes.map { unsafe node($0) }
    unsafe message.pointee.n_node = nodes.count
    unsafe message.pointee.node = pointers(nodes)
    let stored = graph.initializers.filter { !graph.form.isPlain || $0.inlineBytes == nil }
    let initializers = unsafe stored.map { unsafe tensor($0, ranges[$0.name], dataName) }
    unsafe message.pointee.n_initializer = initializers.count
    unsafe message.pointee.initializer = pointers(initializers)
    let inputs = unsafe graph.inputs.map { unsafe value($0) }
    unsafe message.pointee.n_input = inputs.count
    unsafe message.pointee.input = pointers(inputs)
    let outputs = unsafe graph.outputs.map { unsafe value($0) }
    unsafe message.pointee.n_output = outputs.count
    unsafe message.pointee.output = pointers(outputs)
    return unsafe message
  }

  /// A number of a formula as a node.
  private func constant(_ initializer: ONNXGraph.Initializer) -> UnsafeMutablePointer<
    Onnx__NodeProto
  > {
    let message = unsafe node(
      .init(
        name: ONNXGraph.constantOperation + "." + initializer.name,
        operation: ONNXGraph.constantOperation, inputs: [],
        outputs: [initializer.name]))
    let attribute = unsafe make(onnx__attribute_proto__init)
    unsafe attribute.pointee.name = string(ONNXGraph.constantAttribute)
    unsafe attribute.pointee.has_type = 1
    unsafe attribute.pointee.type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TENSOR
    unsafe attribute.pointee.t = tensor(initializer, nil, "")
    unsafe message.pointee.n_attribute = 1
    unsafe message.pointee.attribute = pointers([attribute])
    return unsafe message
  }

  private func node(_ node: ONNXGraph.Node) -> UnsafeMutablePointer<Onnx__NodeProto> {
    let message = unsafe make(onnx__node_proto__init)
    unsafe message.pointee.name = string(node.name)
    unsafe message.pointee.op_type = string(node.operation)
    unsafe message.pointee.n_input = node.inputs.count
    unsafe message.pointee.input = array(node.inputs.map { unsafe Optional(string($0)) })
    unsafe message.pointee.n_output = node.outputs.count
    unsafe message.pointee.output = array(node.outputs.map { unsafe Optional(string($0)) })
    // Sorted for the same reason.
    let sorted = node.attributes.sorted { $0.key < $1.key }
    let attributes = unsafe sorted.map { unsafe attribute($0.key, $0.value) }
    unsafe message.pointee.n_attribute = attributes.count
    unsafe message.pointee.attribute = pointers(attributes)
    return unsafe message
  }

  private func attribute(
    _ name: String, _ attribute: ONNXGraph.Attribute
  ) -> UnsafeMutablePointer<Onnx__AttributeProto> {
    let message = unsafe make(onnx__attribute_proto__init)
    unsafe message.pointee.name = string(name)
    unsafe message.pointee.has_type = 1
    switch attribute {
    case .integer(let value):
      unsafe message.pointee.type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT
      unsafe message.pointee.has_i = 1
      unsafe message.pointee.i = Int64(value)
    case .integers(let values):
      unsafe message.pointee.type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS
      unsafe message.pointee.n_ints = values.count
      unsafe message.pointee.ints = array(values.map { Int64($0) })
    case .number(let value):
      unsafe message.pointee.type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT
      unsafe message.pointee.has_f = 1
      unsafe message.pointee.f = value
    case .text, .tensor: preconditionFailure("no node that is written has such an attribute")
    }
    return unsafe message
  }

  private func tensor(
    _ initializer: ONNXGraph.Initializer, _ range: Range<Int>?, _ dataName: String
  ) -> UnsafeMutablePointer<Onnx__TensorProto> {
    let message = unsafe make(onnx__tensor_proto__init)
    unsafe message.pointee.name = string(initializer.name)
    unsafe message.pointee.n_dims = initializer.shape.count
    unsafe message.pointee.dims = array(initializer.shape.map { Int64($0) })
    unsafe message.pointee.has_data_type = 1
    unsafe message.pointee.data_type = initializer.type.onnxCode ?? 0
    if let bytes = initializer.inlineBytes {
      unsafe message.pointee.has_raw_data = 1
      unsafe message.pointee.raw_data = ProtobufCBinaryData(len: bytes.count, data: array(bytes))
    } else if let range {
      let entries = unsafe [
        entry("location", dataName), entry("offset", String(range.lowerBound)), entry("length", String(range.count)),
      ]
      unsafe message.pointee.n_external_data = entries.count
      unsafe message.pointee.external_data = pointers(entries)
      unsafe message.pointee.has_data_location = 1
      unsafe message.pointee.data_location = ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL
    }
    return unsafe message
  }

  func entry(_ key: String, _ value: String) -> UnsafeMutablePointer<Onnx__StringStringEntryProto> {
    let message = unsafe make(onnx__string_string_entry_proto__init)
    unsafe message.pointee.key = string(key)
    unsafe message.pointee.value = string(value)
    return unsafe message
  }

  private func value(_ value: ONNXGraph.Value) -> UnsafeMutablePointer<Onnx__ValueInfoProto> {
    let message = unsafe make(onnx__value_info_proto__init)
    unsafe message.pointee.name = string(value.name)
    let tensor = unsafe make(onnx__type_proto__tensor__init)
    unsafe tensor.pointee.has_elem_type = 1
    unsafe tensor.pointee.elem_type = value.type.onnxCode ?? 0
    let dimensions = unsafe value.shape.map { dimension in
      let message = unsafe make(onnx__tensor_shape_proto__dimension__init)
      switch dimension {
      case .fixed(let extent):
        unsafe message.pointee.has_dim_value = 1
        unsafe message.pointee.dim_value = Int64(extent)
      case .named(let name): unsafe message.pointee.dim_param = unsafe string(name)
      }
      return unsafe message
    }
    let shape = unsafe make(onnx__tensor_shape_proto__init)
    unsafe shape.pointee.n_dim = dimensions.count
    unsafe shape.pointee.dim = pointers(dimensions)
    unsafe tensor.pointee.shape = shape
    let type = unsafe make(onnx__type_proto__init)
    unsafe type.pointee.tensor_type = tensor
    unsafe message.pointee.type = type
    return unsafe message
  }
}

extension ONNXGraph.Initializer {
  /// The little-endian bytes of a constant that stands in the model file; nil for one that does not.
  var inlineBytes: [UInt8]? {
    switch content {
    case .external: nil
    case .integers(let values): values.flatMap { littleEndianBytes(UInt64(bitPattern: Int64($0))) }
    case .booleans(let values): values.map { $0 ? 1 : 0 }
    case .numbers(let values):
      switch type {
      case .f16: values.flatMap { littleEndianBytes(Float16($0).bitPattern) }
      default: values.flatMap { littleEndianBytes(Float($0).bitPattern) }
      }
    }
  }
}

private func littleEndianBytes<Bits: FixedWidthInteger>(_ bits: Bits) -> [UInt8] {
  (0..<Bits.bitWidth / 8).map { UInt8(truncatingIfNeeded: bits >> (8 * Bits($0))) }
}
