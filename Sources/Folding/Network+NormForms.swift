import Formats
import Networks

extension Network {
  /// The network with its computed norms in a form, their gains and biases being in their readers already.
  ///
  /// - Throws: `.unsupported` where the form would change what the network computes.
  func converting(to form: NormForm) throws(Refusal) -> Network {
    switch form {
    case .unit: self
    case .rms: try withRMSNorms(for: form)
    case .crms: try withRMSNorms(for: form).compressed()
    }
  }

  /// The network whose residual stream has mean zero at every depth (``centringWriters(for:)``), so that what a LayerNorm
  /// subtracts is zero and the variance is the mean of squares: RMSNorm, with the same ε.
  private func withRMSNorms(for form: NormForm) throws(Refusal) -> Network {
    let option = "--to-norm \(form.rawValue)"
    guard norms.contains(where: { $0.norm.kind == .layer && !$0.norm.isFixed }) else {
      throw Refusal(
        .unsupported, subject: option, "none of the norms that are computed is a LayerNorm",
        advice: "--to-norm unit moves their gains into the weights")
    }
    var result = try centringWriters(for: option)
    for (site, norm) in norms where !norm.isFixed { result[site]?.kind = .rms }
    return result
  }

  /// The network without the last feature of its residual stream. With z for the others, that one is −Σz, so that
  ///
  ///     readers: W' = W[:d−1] − W[d−1]      writers: W', b' lose their last column      norms: CRMSNorm, the same ε
  ///
  /// - Precondition: the residual stream has mean zero at every depth.
  /// - Throws: `.unsupported` for a norm that stays as it is, or where no feature would be left.
  private func compressed() throws(Refusal) -> Network {
    let option = "--to-norm \(NormForm.crms.rawValue)"
    let width = dimensions.dModel - 1
    guard width > 0 else {
      throw Refusal(.unsupported, subject: option, "the residual stream has one feature, and would have none")
    }
    if let kept = norms.first(where: { $0.norm.isFixed || $0.norm.gain.constantValue != 1 || $0.norm.bias != nil }) {
      throw Refusal(
        .unsupported, subject: option, "the norm '\(kept.norm.name)' stays as it is, and needs every feature",
        advice: "use a target that it can be folded for")
    }
    var result = self
    result.dimensions.dModel = width
    result.tokenEmbedding = tokenEmbedding.sliced(axis: 1, 0..<width)
    result.positionEmbedding = positionEmbedding?.sliced(axis: 1, 0..<width)
    for writer in writers {
      let map = self[writer]
      result[writer] = LinearMap(
        weight: map.weight.sliced(axis: 1, 0..<width), bias: map.bias?.sliced(axis: 0, 0..<width))
    }
    for reader in Set(sites.flatMap { readers(of: $0) }) {
      result[reader].weight = self[reader].weight.compressed(axis: 0)
    }
    for (site, _) in norms {
      result[site]?.kind = .crms
      result[site]?.gain = .constant(1, shape: [width])
    }
    return result
  }
}
