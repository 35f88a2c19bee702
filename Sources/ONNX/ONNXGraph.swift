import Formats
import Networks

/// A computation as ONNX describes it, before it is written or after it was read: nodes in the order in which they
/// run, the constants that they read, and what goes in and comes out.
package struct ONNXGraph: Equatable, Sendable {
  /// The newest operator set that `optimum` exports by default: every operator that we emit has its final form in it.
  package static let operatorSet = 18
  /// onnxruntime reads files up to some version of the format, of which 9 is old enough for every release in use.
  package static let formatVersion = 9

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

  package var nodes: [Node] = []
  package var initializers: [Initializer] = []
  package var inputs: [Value] = []
  package var outputs: [Value] = []
  /// What made the model, by key: nothing that runs reads it.
  package var metadata: [String: String] = [:]

  package init() {}

  /// How often each operator is used.
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
