import NormFoldFormats
import NormFoldNetworks

/// A listing of what a checkpoint holds, where its architecture is not one that makes a network here: everything that its container
/// says.
///
///     for tensor in listing.tensors { print(tensor.name, tensor.type, tensor.shape) }
public struct CheckpointListing: Sendable, Encodable {
  public struct Pair: Sendable, Encodable {
    public let key: String
    /// Long texts and arrays are cut, with their length.
    public let value: String
  }

  public struct Tensor: Sendable, Encodable {
    public let name: String
    public let type: String
    public let shape: [Int]
  }

  public let path: String
  public let container: String
  /// The architecture as the checkpoint names it.
  public let architecture: String
  /// False always: for programs that read it beside an ``Inspection``.
  public let isSupported = false
  public let parameterCount: Int
  public let byteCount: Int
  public let tensorCount: Int
  /// Tensors by element type.
  public let elementTypes: [String: Int]
  /// In the order of their names.
  public let metadata: [Pair]
  /// In the order of the file.
  public let tensors: [Tensor]
  public let warnings: [String]

  fileprivate init(of path: String, _ checkpoint: Checkpoint, at location: CheckpointLocation, architecture: String) {
    self.path = path
    self.architecture = architecture
    container = checkpoint.container.rawValue
    parameterCount = checkpoint.tensors.reduce(0) { $0 + $1.info.elementCount }
    byteCount = checkpoint.files.reduce(0) { $0 + $1.byteCount }
    tensorCount = checkpoint.tensors.count
    elementTypes = checkpoint.tensors.reduce(into: [:]) { $0[$1.info.type.displayName, default: 0] += 1 }
    metadata = checkpoint.metadata.sorted { $0.key < $1.key }.map { Pair(key: $0.key, value: $0.value.summary) }
    tensors = checkpoint.tensors.map { Tensor(name: $0.name, type: $0.info.type.displayName, shape: $0.shape) }
    warnings = location.warnings + checkpoint.warnings
  }
}

/// The result of an inspection: a network with its norms, or what there is to see of a checkpoint that makes none here.
///
///     switch try InspectionResult(of: "model.gguf") {
///     case .network(let inspection): print(inspection.dialect)
///     case .listing(let listing): print(listing.architecture, listing.tensorCount)
///     }
public enum InspectionResult: Sendable {
  case network(Inspection)
  case listing(CheckpointListing)

  /// - Throws: what reading throws, but for an architecture that is not supported.
  public init(of path: String, options: ReadingOptions = .init()) throws(Refusal) {
    do throws(Refusal) {
      self = .network(try Inspection(of: path, options: options))
    } catch {
      guard error.category == .unsupported, options.layout == nil else { throw error }
      let location = try CheckpointLocation(path: path)
      let checkpoint = try location.open(temporaryDirectory: options.temporaryDirectory)
      guard let name = Architecture.unsupportedName(of: checkpoint, at: location) else { throw error }
      self = .listing(CheckpointListing(of: path, checkpoint, at: location, architecture: name))
    }
  }
}

extension MetadataValue {
  /// For tables: `5`, `"llama"`, `512 × "<unk>", "<s>", "</s>", …`.
  fileprivate var summary: String {
    switch self {
    case .string(let text):
      return text.count > 60 ? "\"\(text.prefix(60))…\" (\(text.count) characters)" : "\"\(text)\""
    case .integer(let number): return String(number)
    case .large(let number): return String(number)
    case .double(let number): return Float(number).description
    case .bool(let flag): return String(flag)
    case .null: return "null"
    case .array(let values):
      let first = values.prefix(3).map(\.summary).joined(separator: ", ")
      return "\(values.count) × \(first)\(values.count > 3 ? ", …" : "")"
    }
  }
}
