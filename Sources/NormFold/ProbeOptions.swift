import NormFoldFormats
import NormFoldMeasurement
import NormFoldNetworks
import NormFoldVerify

/// Options say on which tokens a verification looks.
///
///     conversion.probeOptions.seed = 7
///     conversion.probeOptions.text = .text(files: ["book.txt"])
public struct ProbeOptions: Sendable, Encodable {
  public var seed: UInt64 = 1
  /// The length of the longest probe; nil for tokens across the full context.
  public var probeLength: Int?
  /// The number of probes of that length.
  public var probeCount = 1

  /// A text that is looked at besides random tokens.
  public var text: TextSource?

  public init() {}

  /// - Parameter path: where the model was opened.
  /// - Throws: what reading the text throws.
  package func probes(for model: Model, at path: String) throws(Refusal) -> ProbeSet {
    var probes = ProbeSet.standard(
      for: model.network, endOfText: model.endOfText, seed: seed, longest: probeLength, count: probeCount)
    guard let text else { return probes }
    let context = model.network.contextLength
    let length = min(probeLength ?? context, context)
    probes.add(
      text: try text.tokens(limit: length * min(max(1, probeCount), .max / length), for: model, at: path),
      for: model.network, longest: probeLength, count: probeCount,
      frame: try text.frame(for: model, at: path))
    return probes
  }
}
