/// Named tensors and metadata of one model on disk, whatever the container. No word here about what they mean.
package struct Checkpoint: Sendable {
  package enum Container: String, Sendable {
    case safetensors, gguf, pytorch
  }

  /// The path that the user named.
  package let path: String
  package let container: Container
  /// Every file that was opened, in order; the first one names the checkpoint in messages.
  package let files: [MappedFile]
  /// In the order of the header.
  package let tensors: [Tensor]
  package let metadata: [String: MetadataValue]
  /// Messages about what the reader accepted but the user should know.
  package let warnings: [String]
  /// Checksums that opening did not verify, since that means reading every byte. Whoever uses the numbers runs them
  /// first, in any order or at once (``checkIntegrity()``).
  package let integrityChecks: [IntegrityCheck]
  private let indexByName: [String: Int]

  /// - Throws: `.malformed` where two tensors share a name.
  package init(
    path: String, container: Container, files: [MappedFile], tensors: [Tensor], metadata: [String: MetadataValue],
    warnings: [String] = [], integrityChecks: [IntegrityCheck] = []
  ) throws(Refusal) {
    self.path = path
    self.container = container
    self.files = files
    self.tensors = tensors
    self.metadata = metadata
    self.warnings = warnings
    self.integrityChecks = integrityChecks
    var index: [String: Int] = [:]
    index.reserveCapacity(tensors.count)
    for (position, tensor) in tensors.enumerated() {
      if let earlier = index.updateValue(position, forKey: tensor.name) {
        let other = tensors[earlier].file.path
        throw Refusal(
          .malformed, file: tensor.file.path, subject: tensor.name,
          other == tensor.file.path ? "the name occurs twice" : "the tensor is also in \(other)",
          advice: "a name must mean one tensor; write the checkpoint again")
      }
    }
    indexByName = index
  }

  package subscript(name: String) -> Tensor? { indexByName[name].map { tensors[$0] } }

  /// The same checkpoint, which others of its numbers are read with: they have to stay intact, too.
  package func beside(_ others: [Checkpoint]) throws(Refusal) -> Checkpoint {
    guard !others.isEmpty else { return self }
    return try Checkpoint(
      path: path, container: container, files: files + others.flatMap(\.files), tensors: tensors, metadata: metadata,
      warnings: warnings + others.flatMap(\.warnings),
      integrityChecks: integrityChecks + others.flatMap(\.integrityChecks))
  }

  /// Requires that every number that was read so far is of the files as they were when they were opened. Call this
  /// before anything that was computed from the numbers is published or believed.
  ///
  /// - Throws: `.malformed` for the first file that has changed, shrunk or failed.
  package func requireIntact() throws(Refusal) {
    for file in files { try file.requireIntact() }
  }

  /// Runs `body` on the numbers of this checkpoint. Where it fails and the files have changed meanwhile, that is why.
  package func whileIntact<Result>(_ body: () throws(Refusal) -> Result) throws(Refusal) -> Result {
    do throws(Refusal) {
      return try body()
    } catch {
      if error.category != .interrupted { try requireIntact() }
      throw error
    }
  }

  /// Verifies every checksum that the container has, one after the other.
  /// - Throws: `.malformed` for the first one that does not hold.
  package func checkIntegrity() throws(Refusal) {
    for check in integrityChecks { try check.verify() }
  }
}

/// A value beside the tensors: GGUF's typed keys, safetensors' strings, the plain objects in a PyTorch archive.
/// Nested dictionaries are flattened: `model_args.n_layer`.
package enum MetadataValue: Equatable, Sendable {
  case string(String)
  case integer(Int)
  /// A GGUF u64 that does not fit an Int.
  case large(UInt64)
  case double(Double)
  case bool(Bool)
  case array([MetadataValue])
  case null

  package var string: String? { if case .string(let value) = self { value } else { nil } }
  package var integer: Int? { if case .integer(let value) = self { value } else { nil } }
  package var bool: Bool? { if case .bool(let value) = self { value } else { nil } }
  package var array: [MetadataValue]? { if case .array(let value) = self { value } else { nil } }
  package var double: Double? {
    switch self {
    case .double(let value): value
    case .integer(let value): Double(value)
    default: nil
    }
  }
}
