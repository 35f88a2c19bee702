import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks
import NormFoldTokenization

/// Continues a text, token by token, each against the cached keys and values of those before it.
///
///     var generation = Generation(model: "out", prompt: .text("Once upon a time"))
///     generation.tokenCount = 40
///     print(try generation.run().text ?? "")
public struct Generation: Sendable, Encodable {
  public enum Prompt: Sendable {
    /// Needs the model's tokenizer; the token that its tokenizer puts before a text is put there, and nothing in the text
    /// stands for the end-of-text token.
    case text(String)
    case tokens([Int])
  }

  /// Why it ended.
  public enum End: String, Encodable, Sendable {
    /// There are as many new tokens as were asked for.
    case length
    case endOfText = "end of text"
    /// The model has no more positions.
    case context
  }

  public struct Report: Encodable, Sendable {
    public var model: String
    public var promptTokens: [Int]
    public var tokens: [Int]
    /// The text of the new tokens; nil without a tokenizer.
    public var text: String?
    public var end: End
    /// Until the first new token, the weights' preparation included.
    public var promptSeconds: Double
    /// For each new token behind the first.
    public var secondsPerToken: Double?
    public var warnings: [Message]
  }

  private enum CodingKeys: CodingKey {
    case model, tokenCount, sampling, stopsAtEndOfText, precision, readingOptions, workers
  }

  public var model: String
  public var prompt: Prompt
  /// The largest number of new tokens.
  public var tokenCount = 128
  public var sampling = Sampling.greedy
  public var stopsAtEndOfText = true
  public var precision = Precision.single
  public var readingOptions = ReadingOptions()
  public var workers = Workers.all

  public init(model: String, prompt: Prompt) {
    self.model = model
    self.prompt = prompt
  }

  /// - Parameters:
  ///   - onToken: called with each new token and the bytes that it stands for, nil without a tokenizer.
  ///   - onStart: called once the prompt is known to be one that can be continued.
  /// - Throws: what opening throws; `.usage` for a prompt that does not fit; `.nonFinite` where the logits are not finite;
  ///   what `onStart` and `onToken` throw.
  public func run(
    onToken: (_ token: Int, _ bytes: [UInt8]?) throws(Refusal) -> Void = { _, _ throws(Refusal) in },
    onStart: () throws(Refusal) -> Void = { () throws(Refusal) in }
  ) throws(Refusal) -> Report {
    let opened = try Model(continuing: model, options: readingOptions)
    try opened.checkpoint.checkIntegrity()
    let (ids, tokenizer) = try promptTokens(opened)
    try onStart()
    return switch precision {
    case .single: try run(opened, ids, tokenizer, as: Float.self, onToken: onToken)
    case .double: try run(opened, ids, tokenizer, as: Double.self, onToken: onToken)
    }
  }

  private func promptTokens(_ opened: Model) throws(Refusal) -> (ids: [Int], tokenizer: Tokenizer?) {
    let network = opened.network
    var ids: [Int]
    let tokenizer: Tokenizer?
    switch prompt {
    case .text(let text):
      let known = try Tokenizer(for: opened, at: model)
      ids = (known.beginOfText.map { [$0] } ?? []) + known.encode(text)
      if ids.isEmpty { ids = (known.endOfText ?? opened.endOfText).map { [$0] } ?? [] }
      tokenizer = known
    case .tokens(let tokens):
      ids = tokens
      tokenizer = try Tokenizer(ifPresentFor: opened, at: model)
    }
    for id in ids where id < 0 || id >= network.vocabularySize {
      throw Refusal(
        .usage, file: model, "token \(id) of the prompt is not in the model's vocabulary of \(network.vocabularySize)")
    }
    guard !ids.isEmpty, ids.count < network.contextLength else {
      throw Refusal(
        .usage, file: model,
        "expected a prompt of 1 to \(network.contextLength - 1) tokens, since the context has \(network.contextLength), "
          + "found \(ids.count)")
    }
    return (ids, tokenizer)
  }

  private func run<Scalar: ArithmeticScalar>(
    _ opened: Model, _ promptIds: [Int], _ tokenizer: Tokenizer?, as scalar: Scalar.Type,
    onToken: (_ token: Int, _ bytes: [UInt8]?) throws(Refusal) -> Void
  ) throws(Refusal) -> Report {
    let start = ContinuousClock.now
    let contextLength = opened.network.contextLength
    var pass = CachedPass<Scalar>(
      try opened.network.materialised(for: scalar, in: readingOptions.temporaryDirectory),
      capacity: promptIds.count + min(tokenCount, contextLength - promptIds.count), workers: workers)
    var sampler = Sampler(sampling)
    var next = promptIds
    var tokens: [Int] = []
    var end = End.length
    var firstToken = start
    while tokens.count < tokenCount {
      guard promptIds.count + tokens.count < contextLength else {
        end = .context
        break
      }
      let logits = try pass.logits(after: next)
      guard logits.allSatisfy(\.isFinite) else {
        throw Refusal(
          .nonFinite, file: model, "the logits behind token \(promptIds.count + tokens.count - 1) are not finite",
          advice: precision == .single ? "try \(.precision, Precision.double)" : "")
      }
      let token = sampler.choose(logits)
      if stopsAtEndOfText, opened.endsOfText.contains(token) {
        end = .endOfText
        break
      }
      if tokens.isEmpty { firstToken = .now }
      tokens.append(token)
      try onToken(token, tokenizer.map { (known) throws(Refusal) in try known.decode([token], isContinuation: true) })
      next = [token]
    }
    try opened.checkpoint.requireIntact()
    return Report(
      model: model, promptTokens: promptIds, tokens: tokens,
      text: try tokenizer.map { (known) throws(Refusal) in try known.text(of: tokens, isContinuation: true) }, end: end,
      promptSeconds: (firstToken - start) / .seconds(1),
      secondsPerToken: tokens.count > 1
        ? (ContinuousClock.now - firstToken) / .seconds(tokens.count - 1) : nil,
      warnings: opened.warnings)
  }
}

/// A network that reads a sequence piece by piece.
package struct CachedPass<Scalar: ArithmeticScalar> {
  private let network: Network
  private let cache: KeyValueCache<Scalar>
  private let workers: Workers

  package init(_ network: Network, capacity: Int, workers: Workers = .one) {
    self.network = network
    self.workers = workers
    cache = KeyValueCache(capacity: capacity)
  }

  /// Reads new tokens behind those that were read before.
  /// - Returns: the logits behind the last of the new tokens.
  package mutating func logits(after tokens: [Int]) throws(Refusal) -> [Double] {
    let pending = try network.logits(on: FastBackend(following: cache, tokens: tokens, workers: workers))
    cache.advance(by: tokens.count)
    return pending.ofLastToken().doubles()
  }
}
