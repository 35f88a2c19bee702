import Formats
import Networks

extension Model {
  /// - Throws: `.unsupported` for a network that was trained without norms in its blocks.
  func requireNorms(target: String) throws(Refusal) {
    guard let normFree = configuration.normFree, !normFree.hasBlockNorms else { return }
    throw Refusal(
      .unsupported, subject: target,
      "the blocks read the residual stream as it is, and a LayerNorm, however near an identity, subtracts its mean",
      advice: "use --for transformers or --for onnxruntime")
  }
}

extension Network {
  /// What to say of a network whose norms are all computed: nothing else tells that the last one is not bare.
  var noteOnLastNorm: [String] {
    guard let norm = finalNorm, norm.kind == .layer, norm.isComputed, norm.gain.constantValue == nil else { return [] }
    return ["\(norm.name) keeps its gain and bias: there is no place for the bias that the unembedding would get"]
  }

  /// 10¹², as the published checkpoints have it: its root is exact in F32.
  static let nearIdentityEpsilon = 1e12

  /// The network with a norm at every site, for runtimes that insist, and the ε of all of them. Where every norm is
  /// computed, they are what they are; else fixed ones become gain · √ε under a large ε, none a gain of √ε.
  ///
  /// - Throws: `.unsupported` where the unembedding has a bias, which such runtimes have no place for, or some norms are
  ///   computed, which cannot share their ε with the others.
  func withStockNorms(
    nearIdentityEpsilon epsilon: Double = nearIdentityEpsilon, layout: Layout, target: String
  ) throws(Refusal) -> (network: Network, epsilon: Double) {
    let kind = Architecture(of: self).normKind
    if let other = norms.first(where: { $0.norm.kind != kind }) {
      throw Refusal(
        .unsupported, subject: other.norm.name, "the target \(target) computes no \(other.norm.kind.displayName)s")
    }
    if unembedding.bias != nil {
      throw Refusal(
        .unsupported, subject: "lm_head.bias", "the target \(target) has no place for a bias of the unembedding",
        advice: "use --for transformers")
    }
    if let common = commonEpsilon { return (withEveryNormBias(), common) }
    var result = self
    let vector = [dimensions.dModel]
    for place in normPlaces {
      for site in place.sites {
        var gain = Parameter.constant(1, shape: vector)
        var bias: Parameter?
        if let norm = self[site] {
          guard case .fixed(let deviation) = norm.deviation else {
            throw Refusal(
              .unsupported, subject: norm.name,
              "is still computed, and the target \(target) has one epsilon for all norms",
              advice: "finish the removal")
          }
          gain = norm.gain.divided(by: deviation)
          bias = norm.bias
        }
        result[site] = Norm(
          name: layout.normName(at: place) ?? "", kind: kind, gain: gain.multiplied(by: epsilon.squareRoot()),
          bias: bias, deviation: .computed(epsilon: epsilon))
      }
    }
    return (result.withEveryNormBias(), epsilon)
  }

  /// The ε that every site computes its norm with, and both paths of an attention the same norm; nil where there is none.
  private var commonEpsilon: Double? {
    guard case .computed(let epsilon)? = finalNorm?.deviation,
      sites.allSatisfy({ self[$0]?.deviation == .computed(epsilon: epsilon) }),
      blocks.allSatisfy({ $0.attention.queryKeyNorm == $0.attention.valueNorm })
    else { return nil }
    return epsilon
  }

  /// Layer norms have a bias in every runtime, zero where there was none; RMS norms in none.
  private func withEveryNormBias() -> Network {
    var result = self
    for site in sites where self[site]?.kind == .layer && self[site]?.bias == nil {
      result[site]?.bias = .constant(0, shape: [dimensions.dModel])
    }
    return result
  }
}
