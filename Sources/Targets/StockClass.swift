import NormFoldFormats
import NormFoldNetworks

/// A class of another program that computes the networks of an architecture and cannot be told otherwise: it has a norm at
/// every place of the architecture's forward pass and one ε for all of them.
///
/// What a class holds is not listed: its network is built from the parameters that are to be written, and has to be the
/// network itself, operation by operation.
package struct StockClass: Sendable {
  /// The name of the class as the user gives it where a target has several classes that hold a network: `llama`.
  package let name: String
  package let architecture: Architecture
  let layout: Layout
  /// The only activation that the class has; nil for one that its config names.
  let activation: Activation?
  /// Is true if the unembedding has a place for a bias.
  let hasVocabularyBias: Bool
  /// Is true if an unembedding that is tied to the embedding stays so.
  let keepsTie: Bool
  /// The architectures whose networks the class may hold.
  let sources: [Architecture]
  /// The code of the class, where no library has it.
  var code: ModelingFile?

  /// A class of Hugging Face transformers.
  static func huggingFace(
    _ architecture: Architecture, sources: [Architecture]? = nil, hasVocabularyBias: Bool = false,
    keepsTie: Bool = false, code: ModelingFile? = nil
  ) -> StockClass {
    StockClass(
      name: architecture.modelType, architecture: architecture, layout: architecture.layout, activation: nil,
      hasVocabularyBias: hasVocabularyBias, keepsTie: keepsTie, sources: sources ?? [architecture],
      code: code)
  }

  /// A network as the class stores it.
  struct Stored {
    let network: Network
    let sizes: Hyperparameters
    /// The activation that the class computes instead of the network's, where the user allowed that.
    let approximation: Activation?
  }

  /// Returns whether the class has no unembedding besides the token embedding.
  func sharesEmbedding(_ sizes: Hyperparameters) -> Bool {
    sizes.isTied && layout.slot(of: "unembedding.weight", blockCount: 1)?.isOmittedWhereTied ?? true
  }

  /// The last norm, where nothing but its folding would untie the unembedding or give it a bias that the class cannot hold.
  func keptNorms(of network: Network) -> Set<Path> {
    guard !hasVocabularyBias, network.unembedding?.bias == nil else { return [] }
    let last = network.lastNorms
    // A gain alone folds into an unembedding of its own, and leaves no bias.
    let isGainAlone = last.allSatisfy { network[norm: $0]?.kind == .rms && network[norm: $0]?.bias == nil }
    return isGainAlone && !network.isTied ? [] : last
  }

  /// The last norm of a tied network whose tie stays.
  func tiedNorms(of network: Network) -> Set<Path> { keepsTie && network.isTied ? network.lastNorms : [] }

  /// The network with a norm at every place of the class, and the ε of all of them. Where every norm is computed, they are
  /// what they are; else fixed ones become gain · √ε under a large ε, none a gain of √ε.
  ///
  /// - Parameter epsilon: the large one.
  /// - Throws: `.unsupported` for a network that the class does not compute, by the first place where it differs.
  func stored(
    _ network: Network, from source: TargetSource, options: TargetOptions, target: String,
    nearIdentityEpsilon epsilon: Double = StockClass.nearIdentityEpsilon
  ) throws(Refusal) -> Stored {
    var sizes = source.hyperparameters
    if architecture != source.architecture || layout.name != architecture.layout.name {
      // Choices that only the source's own config can state.
      sizes.own = [:]
    } else {
      let known = Set(architecture.configuration.keyNames)
      sizes.own = sizes.own.filter { known.contains($0.key) }
    }
    let biased = network.withBiases(of: layout)
    sizes = architecture.hyperparameters(of: biased, from: sizes)
    try requireWindows(sizes, target: target)
    let prepared = biased.withAttentionScales(of: architecture, sizes)
    guard let own = architecture.network(sizes, parametersOf: prepared) else { throw other(source, target) }
    let kind = architecture.normKind
    if let other = prepared.norms.first(where: { $0.norm.kind != own[norm: $0.path]?.kind ?? kind }) {
      throw Refusal(
        .unsupported, subject: other.norm.name,
        "the target \(target) computes no \(other.norm.kind.displayName)s (\(architecture.className))",
        advice: "use \(.targets, "onnxruntime")")
    }
    if prepared.unembedding?.bias != nil, !hasVocabularyBias {
      throw Refusal(
        .unsupported, subject: vocabularyBiasName, "the target \(target) has no place for a bias of the unembedding",
        advice: "use \(.targets, "transformers")")
    }
    try requireRotary(sizes, target: target)
    try requireWords(for: sizes, target: target)
    let approximation = try approximation(of: prepared, from: source, options: options, target: target)
    sizes.outputScales = [:]

    // What the class computes with these parameters, a norm at every place.
    let ownSizes = sizes
    // What has no tensor in the class it does not compute, but for an unembedding that is the embedding.
    let held = Set(
      layout.slots(blockCount: prepared.blockCount).flatMap(\.parameters)
        + (prepared.isTied ? ["unembedding.weight"] : []))
    guard
      let skeleton = architecture.network(
        sizes,
        parameters: { (held.contains($0) ? prepared.parameter(named: $0) : nil) ?? layout.bareGain($0, ownSizes) })
    else { throw other(source, target) }
    var plain = skeleton
    for (path, _) in skeleton.norms { plain[norm: path] = prepared[norm: path] }
    // Where they differ, it may be that one of them computes twice what the other computes once.
    if plain.firstDifference(from: prepared) != nil,
      let path = plain.mergingEqualOperations().firstDifference(from: prepared.mergingEqualOperations())
    {
      if let split = prepared.norms.first(where: { $0.norm.isComputed && $0.norm.readers != nil }) {
        throw stillComputed(split.norm, target)
      }
      throw architecture == source.architecture || sources.contains(source.architecture)
        ? Refusal(
          .unsupported, subject: path.description,
          "the target \(target) computes something else here (\(architecture.className))",
          advice: "use \(.targets, "onnxruntime")")
        : other(source, target)
    }
    for (path, _) in skeleton.norms where kind == .layer && prepared[norm: path] == nil {
      try requireNormless(path, of: skeleton, source: source, target: target)
    }
    let common = prepared.commonEpsilon(of: skeleton)
    if let constant = architecture.constantEpsilon, common != constant {
      throw Refusal(
        .unsupported, subject: target,
        "\(architecture.className) computes every norm with an epsilon of \(constant.formula), and "
          + (common.map { "these have \($0.formula)" } ?? "with that none is near an identity"),
        advice: "use \(.targets, "onnxruntime")")
    }
    if let common {
      sizes.epsilon = common
      return Stored(network: plain.withEveryNormBias(), sizes: sizes, approximation: approximation)
    }
    var result = skeleton
    for (path, own) in skeleton.norms {
      var (gain, bias) = (Parameter.constant(1, shape: own.gain.shape), nil as Parameter?)
      if let norm = prepared[norm: path] {
        guard case .fixed(let deviation) = norm.deviation else {
          throw stillComputed(norm, target)
        }
        gain = norm.gain.divided(by: deviation)
        bias = norm.bias
      }
      result[norm: path] = Norm(
        name: own.name, kind: kind, headCount: own.headCount, gain: gain.multiplied(by: epsilon.squareRoot()),
        bias: bias,
        deviation: .computed(epsilon: epsilon))
    }
    if !skeleton.norms.isEmpty { sizes.epsilon = epsilon }
    return Stored(network: result.withEveryNormBias(), sizes: sizes, approximation: approximation)
  }

  /// 10¹², as the published checkpoints have it: its root is exact in F32.
  static let nearIdentityEpsilon = 1e12

  private func other(_ source: TargetSource, _ target: String) -> Refusal {
    Refusal(
      .unsupported, subject: target,
      "writes \(architecture.name) only, and this is \(source.architecture.nameWithArticle)",
      advice: "use \(.targets, "transformers")")
  }

  private func stillComputed(_ norm: Norm, _ target: String) -> Refusal {
    Refusal(
      .unsupported, subject: norm.name, "is still computed, and the target \(target) has one epsilon for all norms",
      advice: "finish the removal, or use \(.targets, "transformers")")
  }

  private var vocabularyBiasName: String {
    let weight = architecture.layout.slot(of: "unembedding.weight", blockCount: 1)?.name ?? "unembedding.weight"
    return String(weight.dropLast("weight".count)) + "bias"
  }

  /// - Throws: `.unsupported` where maps read the residual stream of the source as it is: a LayerNorm before them, however
  ///   near an identity, subtracts a mean that they see.
  private func requireNormless(
    _ path: Path, of skeleton: Network, source: TargetSource, target: String
  ) throws(Refusal) {
    let states = Set(source.network.streamStates)
    for reader in skeleton.users(of: path) {
      guard let operands = source.network.node(at: reader.path)?.operands, operands.contains(where: states.contains)
      else { continue }
      throw Refusal(
        .unsupported, subject: target,
        "the blocks read the residual stream as it is, and a LayerNorm, however near an identity, subtracts its mean",
        advice: "use \(.targets, "transformers") or \(.targets, "onnxruntime")")
    }
  }

  // MARK: Rotary positions

  /// The name of the class in messages: `llama.cpp's llama`.
  private var program: String { gguf.map { "llama.cpp's \($0.architecture)" } ?? architecture.className }

  /// The description of llama.cpp's architecture; nil for a class of transformers.
  private var gguf: GGUFDescription? { layout.name == architecture.layout.name ? nil : architecture.gguf }

  /// The tensor with what llama.cpp divides the frequencies of rotary positions by, where they are scaled pair by pair.
  func rotaryDivisors(_ sizes: Hyperparameters) -> TargetOutput.StoredParameter? {
    guard let name = gguf?.rotaryDivisors, let rotary = sizes.rotary else { return nil }
    switch rotary.scaling {
    case .llama3, .divided:
      return TargetOutput.StoredParameter(
        name: name, value: .concatenating(rotary.divisors.map { .constant($0, shape: [1]) }, axis: 0), type: .f32)
    case .none, .linear, .yarn: return nil
    }
  }

  /// - Throws: `.unsupported` where the class has no word for how the angles of rotary positions are scaled.
  private func requireRotary(_ sizes: Hyperparameters, target: String) throws(Refusal) {
    let scaling = sizes.rotary?.scaling ?? .none
    let isHeld: Bool
    if let gguf {
      isHeld =
        switch scaling {
        case .none: true
        case .linear: gguf.configuration.keyNames.contains("rope.scaling.type")
        case .yarn(let yarn): gguf.configuration.keyNames.contains("rope.scaling.type") && yarn.hasUsualRamp
        case .llama3, .divided: gguf.rotaryDivisors != nil
        }
    } else if case .divided = scaling {
      isHeld = false
    } else {
      isHeld = true
    }
    guard !isHeld else { return }
    throw Refusal(
      .unsupported, subject: target,
      "\(program) has no word for rotary positions of type \(scaling.displayName)",
      advice: "use \(.targets, "onnxruntime")")
  }

  /// - Throws: `.unsupported` where attention looks back over a window and the class has no key for one: it looks back over
  ///   everything.
  private func requireWindows(_ sizes: Hyperparameters, target: String) throws(Refusal) {
    let hasWindow = gguf?.hasWindow ?? architecture.configuration.keyNames.contains("sliding_window")
    guard let window = sizes.window, !hasWindow else { return }
    throw Refusal(
      .unsupported, subject: target,
      "\(program) looks back over all tokens, and attention here over a window of \(window.width), which is shorter than the "
        + "context of \(sizes.contextLength)",
      advice: "use \(.targets, "onnxruntime")")
  }

  /// - Throws: `.unsupported` where a key has to say that something is not there: to llama.cpp a missing key means a number.
  private func requireWords(for sizes: Hyperparameters, target: String) throws(Refusal) {
    guard let gguf, let absent = gguf.configuration.members(of: sizes).first(where: { $0.value.isNull }) else { return }
    throw Refusal(
      .unsupported, subject: absent.key.name,
      "the target \(target) cannot leave this out (\(gguf.architecture)), and the network has none",
      advice: "use \(.targets, "onnxruntime")")
  }

  // MARK: Activation

  /// The activation that the class computes instead of the network's; nil where it is the same.
  ///
  /// - Throws: `.unsupported` for an activation that the class does not have. The exact GELU is close to the one by tanh, and
  ///   only that can be allowed.
  private func approximation(
    of network: Network, from source: TargetSource, options: TargetOptions, target: String
  ) throws(Refusal) -> Activation? {
    guard let only = activation else {
      for case .leakyReLU(let slope) in network.activations where slope != 0.01 {
        throw Refusal(
          .unsupported, subject: Activation.leakyReLU(negativeSlope: slope).configName,
          "the target \(target) has leaky ReLU with a slope of 0.01 only, found \(slope.twoDigits)",
          advice: "use \(.targets, "transformers")")
      }
      return nil
    }
    guard let other = network.activations.first(where: { $0 != only }) else { return nil }
    let isClose = other == .geluErf && only == .geluTanh
    if isClose, options.allowsApproximateActivation { return only }
    throw Refusal(
      .unsupported, subject: other.configName,
      "the target \(target) has \(only.configName) only for \(source.architecture.nameWithArticle), which differs from "
        + "this one by up to \(other.largestDifference(from: only).twoDigits) in each hidden unit",
      advice: isClose
        ? "pass \(.allowsApproximateActivation) to write the file all the same and measure what that does to the logits"
        : "use \(.targets, "transformers")")
  }
}

// MARK: Choosing

extension StockClass {
  /// Returns whether the class computes a source's network once the gains and biases of its norms are folded.
  ///
  /// - Parameter kept: the norms that keep theirs.
  func mayHold(_ source: TargetSource, keeping kept: Set<Path> = []) -> Bool {
    var network = source.network
    for (path, norm) in network.norms where !kept.contains(path) {
      network[norm: path] = Norm(
        name: norm.name, kind: norm.kind, headCount: norm.headCount, gain: .constant(1, shape: norm.gain.shape),
        bias: nil,
        deviation: .computed(epsilon: architecture.constantEpsilon ?? source.hyperparameters.epsilon))
    }
    let options = TargetOptions(allowsApproximateActivation: true)
    return (try? stored(network, from: source, options: options, target: "")) != nil
  }
}

extension [StockClass] {
  /// The class to write a source for: the one that the user named, or the first that may hold its network. Where none
  /// may, the last one, which says why not. Nil where there is none of the source's architecture.
  ///
  /// - Parameter kept: the norms that keep their gains and biases.
  /// - Throws: `.usage` for a name that is none of them.
  func chosen(
    for source: TargetSource, options: TargetOptions, keeping kept: Set<Path> = [], target: String
  ) throws(Refusal) -> StockClass? {
    let able = filter { $0.sources.contains(source.architecture) }
    guard let wanted = options.className else { return able.first { $0.mayHold(source, keeping: kept) } ?? able.last }
    // A model type of transformers names the class of another program, too.
    guard let named = able.first(where: { $0.name == wanted || $0.architecture.modelType == wanted }) else {
      throw Refusal(
        .usage, subject: wanted,
        "is no class that the target \(target) writes \(source.architecture.nameWithArticle) for",
        advice: able.isEmpty ? "leave it out" : "known are \(able.map(\.name).joined(separator: ", "))")
    }
    return named
  }
}

extension Layout {
  /// Returns a gain of ones where a parameter is the gain of a norm; nil where it is none, or where the config says so.
  fileprivate func bareGain(_ parameter: String, _ sizes: Hyperparameters) -> Parameter? {
    let block = Path(String(parameter.dropLast(".weight".count))).block ?? 0
    guard parameter.hasSuffix(".weight"), let slot = slot(of: parameter, blockCount: block + 1), slot.input == nil
    else { return nil }
    if case .ifSaid(let key) = slot.presence, sizes.flag(key) == false { return nil }
    return .constant(1, shape: [sizes[extent: slot.outputs[0]]])
  }
}

extension Network {
  /// The norms that the output is computed from.
  package var lastNorms: Set<Path> { Set((node(at: unembeddingPath)?.operands ?? []).filter { self[norm: $0] != nil }) }

  /// The notes on a network whose norms are all computed: nothing else tells that the last one is not bare.
  var noteOnLastNorm: [Message] {
    let kept = lastNorms.compactMap { self[norm: $0] }.filter { $0.isComputed && $0.gain.constantValue == nil }
    let hasBareNorms = norms.contains { $0.norm.gain.constantValue == 1 }
    return kept.compactMap { norm in
      if norm.kind == .layer {
        return "\(norm.name) keeps its gain and bias: there is no place for the bias that the unembedding would get"
      }
      guard isTied, hasBareNorms, let count = unembedding?.weight.elementCount else { return nil }
      return
        "\(norm.name) keeps its gain: the unembedding is the token embedding, and one of its own would take \(count) "
        + "more numbers"
    }
  }

  /// The ε that every norm of a class is computed with; nil where a place has none, or they differ.
  fileprivate func commonEpsilon(of skeleton: Network) -> Double? {
    guard case .computed(let epsilon)? = norms.last?.norm.deviation,
      skeleton.norms.allSatisfy({ self[norm: $0.path]?.deviation == .computed(epsilon: epsilon) })
    else { return nil }
    return epsilon
  }

  /// Layer norms have a bias in every class, zero where there was none; RMS norms in none.
  fileprivate func withEveryNormBias() -> Network {
    var result = self
    for (path, norm) in norms where norm.kind == .layer && norm.bias == nil {
      result[norm: path]?.bias = .constant(0, shape: norm.gain.shape)
    }
    return result
  }

  /// The network with the biases that a layout always has, and with those of all maps that share a key of the config where
  /// one of them has one: zero where there was none.
  package func withBiases(of layout: Layout) -> Network {
    var wanted: Set<String> = []
    var keys: [String: [String]] = [:]
    for slot in layout.slots(blockCount: blockCount) where slot.input == nil {
      switch slot.presence {
      case .always: wanted.formUnion(slot.parameters)
      case .ifSaid(let key): keys[key, default: []] += slot.parameters
      case .perhaps, .beyond: continue
      }
    }
    for names in keys.values where names.contains(where: { parameter(named: $0) != nil }) { wanted.formUnion(names) }
    var result = self
    for (path, map) in linearMaps where map.bias == nil && wanted.contains("\(path).bias") {
      result[linear: path]?.bias = .constant(0, shape: [map.weight.columnCount])
    }
    return result
  }

  /// The network whose attention scores are multiplied by what a class multiplies them by: any other factor moves into the
  /// queries.
  func withAttentionScales(of architecture: Architecture, _ sizes: Hyperparameters) -> Network {
    guard let skeleton = architecture.network(sizes, parametersOf: self) else { return self }
    var result = self
    for (path, attention) in attentions {
      guard case .attend(let theirs)? = skeleton[path], theirs.scale != attention.scale,
        var query = node(at: path)?.operands.first
      else { continue }
      while case .rotate = self[query], let operand = node(at: query)?.operands.first { query = operand }
      guard let map = self[linear: query] else { continue }
      let factor = attention.scale / theirs.scale
      result[linear: query] = LinearMap(
        weight: map.weight.multiplied(by: factor), bias: map.bias?.multiplied(by: factor))
      var scaled = attention
      scaled.scale = theirs.scale
      result.replaceOperation(at: path, by: .attend(scaled))
    }
    return result
  }
}
