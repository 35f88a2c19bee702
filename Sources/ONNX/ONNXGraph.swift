import NormFoldFormats
import NormFoldNetworks

/// A computation as ONNX describes it, before it is written or after it was read: nodes in the order in which they
/// run, the constants that they read, and what goes in and comes out.
package struct ONNXGraph: Equatable, Sendable {
  /// The shape of the whole: what goes in, and how much a compiler must know to read it.
  package enum Form: Hashable, Sendable {
    /// Any number of sequences of any length, with the keys and values of earlier tokens.
    case cached
    /// One sequence of fixed length, from which nothing is kept; every shape is a number. It has one input, the ids of the
    /// tokens [1, length] or their embeddings [1, length, D], and one output, and every number that is no weight is a node
    /// of its own.
    case plain(length: Int, readsEmbeddings: Bool)

    /// The number of tokens of each run; nil where any number will do.
    package var length: Int? { if case .plain(let length, _) = self { length } else { nil } }
    package var isPlain: Bool { length != nil }
    package var readsEmbeddings: Bool { self == .plain(length: length ?? 0, readsEmbeddings: true) }

    /// The operator set: the newest that `optimum` exports by default, in which every operator that we emit has its final
    /// form; for compilers, the one that Concrete ML asks for.
    package var operatorSet: Int { isPlain ? 14 : 18 }
    /// The version of the format: onnxruntime reads files up to some version, of which 9 is old enough for every release in
    /// use; 7 is the one of operator set 14.
    package var formatVersion: Int { isPlain ? 7 : 9 }
  }

  package struct Node: Equatable, Sendable {
    package var name: String
    package var operation: String
    package var inputs: [String]
    package var outputs: [String]
    package var attributes: [String: Attribute]
    /// Whose operator it is: empty for those of ONNX itself.
    package var domain: String

    package init(
      name: String, operation: String, inputs: [String], outputs: [String], attributes: [String: Attribute] = [:],
      domain: String = ""
    ) {
      self.domain = domain
      self.name = name
      self.operation = operation
      self.inputs = inputs
      self.outputs = outputs
      self.attributes = attributes
    }
  }

  package enum Attribute: Equatable, Sendable {
    case integer(Int)
    case integers([Int])
    case number(Float)
    case text(String)
    /// The value of a constant.
    case tensor(Initializer)
  }

  /// A constant that nodes read by its name.
  package struct Initializer: Equatable, Sendable {
    package var name: String
    package var type: ElementType
    package var shape: [Int]
    package var content: Content

    package init(name: String, type: ElementType, shape: [Int], content: Content) {
      self.name = name
      self.type = type
      self.shape = shape
      self.content = content
    }

    package var info: TensorInfo { TensorInfo(name: name, type: type, shape: shape) }
  }

  package enum Content: Equatable, Sendable {
    /// A shape, an axis, an index: in the model file itself.
    case integers([Int])
    /// A number of a formula: in the model file itself.
    case numbers([Double])
    /// In the model file itself, in graphs of other programs.
    case booleans([Bool])
    /// In the data file. What the recipe reads is the source's tensors before writing, the data file after reading.
    case external(Parameter)
  }

  /// An input or output of the whole graph.
  package struct Value: Equatable, Sendable {
    package var name: String
    package var type: ElementType
    package var shape: [Dimension]

    package init(name: String, type: ElementType, shape: [Dimension]) {
      self.name = name
      self.type = type
      self.shape = shape
    }
  }

  package enum Dimension: Equatable, Sendable {
    case fixed(Int)
    /// Chosen by the caller; equal names mean equal extents.
    case named(String)
  }

  package var form = Form.cached
  package var nodes: [Node] = []
  package var initializers: [Initializer] = []
  package var inputs: [Value] = []
  package var outputs: [Value] = []
  /// The texts that say what made the model, by key: nothing that runs reads them.
  package var metadata: [String: String] = [:]

  package init(form: Form = .cached) { self.form = form }

  /// The number of times that each operator is used.
  package var operatorCounts: [String: Int] {
    nodes.reduce(into: [:]) { $0[$1.operation, default: 0] += 1 }
  }

  /// The initializers whose numbers stand in the data file, in its order.
  package var externalInitializers: [(info: TensorInfo, value: Parameter)] {
    initializers.compactMap { initializer in
      guard case .external(let value) = initializer.content else { return nil }
      return (initializer.info, value)
    }
  }
}

extension ONNXGraph {
  /// The operator and the attribute of a node that holds a number of a formula, where that number is no initializer.
  static let constantOperation = "Constant"
  static let constantAttribute = "value"

  /// The name of the input of a graph that is given the embeddings of its tokens.
  package static let embeddingsName = "inputs_embeds"

  /// [1, length, width]
  static func embeddings(length: Int, width: Int, type: ElementType) -> Value {
    Value(name: embeddingsName, type: type, shape: [.fixed(1), .fixed(length), .fixed(width)])
  }
}

extension ElementType {
  static let onnxFloatCode = 1
  static let onnxIntegerCode = 7
  static let onnxBooleanCode = 9
  static let onnxHalfCode = 10
  static let onnxTypes: [ElementType: Int32] = [
    .f32: Int32(onnxFloatCode), .u8: 2, .i8: 3, .i32: 6, .i64: Int32(onnxIntegerCode), .bool: Int32(onnxBooleanCode),
    .f16: Int32(onnxHalfCode), .f64: 11, .bf16: 16,
  ]

  /// TensorProto.DataType, for the types that graphs use here.
  package var onnxCode: Int32? { Self.onnxTypes[self] }

  package init?(onnxCode: Int32) {
    guard let type = Self.onnxTypes.first(where: { $0.value == onnxCode })?.key else { return nil }
    self = type
  }
}
