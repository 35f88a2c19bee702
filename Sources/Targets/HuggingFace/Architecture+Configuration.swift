import NormFoldFormats
import NormFoldNetworks

extension TargetSource {
  /// The `config.json` with which a class of Hugging Face transformers holds a network.
  ///
  /// - Parameters:
  ///   - architecture: the class's.
  ///   - sizes: the hyperparameters of the network that is written.
  ///   - head: members that come besides: the class name and the model type, unless they are the architecture's.
  ///   - omitted: keys of the architecture that are not written.
  func configuration(
    for architecture: Architecture, sizes: Hyperparameters, head: [(String, JSONValue)]? = nil,
    omitting omitted: Set<String> = [],
    type: ElementType
  ) -> JSONValue {
    var members =
      head ?? [
        ("architectures", .array([.string(architecture.className)])), ("model_type", .string(architecture.modelType)),
      ]
    members += architecture.configuration.members(of: sizes).map { ($0.key.name, $0.value) }.filter {
      !omitted.contains($0.0)
    }
    // Of the source's own words, those that do not speak of weights.
    for key in architecture.carriedKeys {
      if let value = configuration?[key] { members.append((key, value)) }
    }
    // Their number says how wide a classifier is.
    if network.task.hasLabels, configuration?["id2label"] == nil {
      let names = (0..<sizes[.labels]).map { ("\($0)", "LABEL_\($0)") }
      members.append(("id2label", .object(names.map { .init(key: $0, value: .string($1)) })))
      members.append(("label2id", .object(names.map { .init(key: $1, value: .number(Int($0) ?? 0)) })))
    }
    for (key, usual) in architecture.tokenKeys { members.append((key, token(key, usual: usual))) }
    return .huggingFaceConfiguration(members, type: type)
  }

  /// Returns what the source says of a special token, if the vocabulary holds it, or what is meant where it says nothing. A list where
  /// there are several ways to end; −1 stands for none, which transformers would look up.
  private func token(_ key: String, usual: Architecture.SpecialToken?) -> JSONValue {
    let vocabulary = 0..<network.vocabularySize
    func isValid(_ value: JSONValue) -> Bool {
      value.count.map(vocabulary.contains) ?? value.array?.allSatisfy { $0.count.map(vocabulary.contains) ?? false }
        ?? false
    }
    if let own = configuration?[key], isValid(own) { return own }
    let fallback =
      switch usual {
      case .beginOfText: beginOfText
      case .endOfText: endOfText
      case nil: nil as Int?
      }
    return fallback.map { .number($0) } ?? .null
  }
}

extension Task {
  /// Is true if the output is one number for each label.
  fileprivate var hasLabels: Bool {
    switch self {
    case .sequenceClassification, .tokenClassification, .imageClassification: true
    case .generation, .features, .fillMask, .questionAnswering, .wordRegression: false
    }
  }
}
