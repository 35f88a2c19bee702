import Formats
import Networks

extension Network {
  /// The network with a norm at every site, for runtimes that insist: fixed ones as gain · √ε under a large ε, none as
  /// a gain of √ε.
  ///
  /// - Throws: `.unsupported` where the unembedding has a bias, which such runtimes have no place for, or a norm is
  ///   computed, which cannot share its ε with the others.
  func withNearIdentityNorms(
    epsilon: Double, layout: Layout, target: String
  ) throws(Refusal) -> Network {
    if unembedding.bias != nil {
      throw Refusal(
        .unsupported, subject: "lm_head.bias", "the target \(target) has no place for a bias of the unembedding",
        advice: "use --for transformers")
    }
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
          name: layout.normName(at: place) ?? "", kind: .layer, gain: gain.multiplied(by: epsilon.squareRoot()),
          bias: bias ?? .constant(0, shape: vector), deviation: .computed(epsilon: epsilon))
      }
    }
    return result
  }
}
