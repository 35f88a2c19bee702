import NormFoldFormats

/// A form in which some program stores checkpoints of an architecture: how the form is recognised, how the config is
/// spelt, what the tensors are called.
struct StorageForm: Sendable {
  /// The steps that are done with the tensors besides filling the slots of the layout.
  struct Reading: Sendable {
    /// Refuses tensors whose meaning the forward pass does not have, before anything is read.
    var check: @Sendable (NamedTensors, Hyperparameters) throws(Refusal) -> Void = { _, _ throws(Refusal) in }
    /// Takes numbers that are no parameters of a network, once sizes are known.
    var complete: @Sendable (inout NamedTensors, inout Hyperparameters) throws(Refusal) -> Void = {
      _, _ throws(Refusal) in
    }
    /// Gives parameters that no tensor holds, by name, once sizes are known.
    var parameters: @Sendable (Hyperparameters) -> [String: Parameter] = { _ in [:] }
  }

  let recognises: @Sendable (CheckpointContent) throws(Refusal) -> Bool
  /// Reads what the config states; sizes are held against the tensors later.
  let read: @Sendable (CheckpointContent) throws(Refusal) -> Hyperparameters
  let layout: @Sendable (Hyperparameters) -> Layout
  var reading = Reading()
}

/// A checkpoint as far as it says what it is.
struct CheckpointContent: Sendable {
  let checkpoint: Checkpoint
  let configurationPath: String
  private var json: Result<JSONValue, Refusal>

  init(_ checkpoint: Checkpoint, at location: CheckpointLocation) {
    self.checkpoint = checkpoint
    configurationPath = location.configurationPath
    do throws(Refusal) {
      json = .success(try JSONValue(configurationAt: location.configurationPath))
    } catch {
      var refusal = error
      if !location.hasConfiguration {
        refusal.advice = "it belongs beside the tensors; of a network that has none \(.layout) says what they are"
      }
      json = .failure(refusal)
    }
  }

  /// The `config.json` beside the tensors.
  ///
  /// - Throws: `.malformed` where there is none, or no strict JSON object.
  func configuration() throws(Refusal) -> JSONValue { try json.get() }

  /// The same, or nil where it is not to be read.
  var presentConfiguration: JSONValue? { try? json.get() }

  /// Reads the checkpoint as another class of its type, the one that an adapter was trained in.
  mutating func setClass(_ name: String) {
    guard let members = presentConfiguration?.members else { return }
    // How many labels there are, the tensors of the head say.
    let kept = members.filter { !["architectures", "id2label", "label2id"].contains($0.key) }
    json = .success(.object(kept + [.init(key: "architectures", value: .array([.string(name)]))]))
  }

  /// Reads the checkpoint as if its config had another value under a key that it has.
  mutating func set(_ key: String, _ value: JSONValue) {
    guard let members = presentConfiguration?.members else { return }
    json = .success(.object(members.map { $0.key == key ? .init(key: key, value: value) : $0 }))
  }

  var ggufArchitecture: String? {
    checkpoint.container == .gguf ? checkpoint.metadata["general.architecture"]?.string : nil
  }

}

extension JSONValue {
  /// Configs that people publish have a few kilobytes.
  private static let maximumByteCount = 1 << 20

  /// Reads a config.
  ///
  /// - Throws: `.malformed` where there is none, or no strict JSON object.
  package init(configurationAt path: String) throws(Refusal) {
    let file = try MappedFile(path: path)
    guard file.byteCount <= Self.maximumByteCount else {
      throw Refusal(
        .malformed, file: path, "a config has at most \(Self.maximumByteCount) bytes, found \(file.byteCount)")
    }
    let json = try file.parse { (bytes) throws(Refusal) in
      try Substitute.refuse(bytes, file: path)
      return try JSONValue(parsing: bytes, file: path)
    }
    guard json.members != nil else {
      throw Refusal(.malformed, file: path, "expected a JSON object, found \(json.kind)")
    }
    self = json
  }
}

extension StorageForm {
  /// A GGUF file as llama.cpp writes it.
  static func gguf(_ description: GGUFDescription) -> StorageForm {
    StorageForm(
      recognises: { (content) throws(Refusal) in content.ggufArchitecture == description.architecture },
      read: { (content) throws(Refusal) in
        let checkpoint = content.checkpoint
        let fields = Fields(metadataOf: checkpoint, prefix: description.architecture + ".")
        var hyperparameters = Hyperparameters(path: checkpoint.path)
        hyperparameters.activation = description.activation
        try description.configuration.read(fields, into: &hyperparameters)
        hyperparameters.endOfText = checkpoint.metadata["tokenizer.ggml.eos_token_id"]?.integer
        let head = description.layout.slot(of: "unembedding.weight", blockCount: 1)
        hyperparameters.isTied = head.map { checkpoint[$0.name] == nil } ?? true
        if !description.configuration.keyNames.contains("rope.scaling.type") { try fields.requirePlainRotary() }
        if let name = description.rotaryDivisors, let divisors = checkpoint[name] {
          try hyperparameters.takeRotaryDivisors(divisors, in: checkpoint.path)
        }
        try description.check(checkpoint, hyperparameters)
        return hyperparameters
      },
      layout: { _ in description.layout })
  }
}
