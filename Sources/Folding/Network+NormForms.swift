import NormFoldFormats
import NormFoldNetworks

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

  /// The norms that read a state of the residual stream.
  private var streamNorms: [(path: Path, norm: Norm)] {
    streamReaders.compactMap { node in
      if case .norm(let norm) = node.operation { (node.path, norm) } else { nil }
    }
  }

  /// The network whose residual stream has mean zero at every depth (``centringWriters(for:)``), so that what a LayerNorm
  /// subtracts is zero and the variance is the mean of squares: RMSNorm, with the same ε.
  private func withRMSNorms(for form: NormForm) throws(Refusal) -> Network {
    let option: Message = "\(.normForm, form)"
    guard streamNorms.contains(where: { $0.norm.kind == .layer && !$0.norm.isFixed }) else {
      throw Refusal(
        .unsupported, subject: option, "none of the norms that are computed is a LayerNorm",
        advice: "\(.normForm, NormForm.unit) moves their gains into the weights")
    }
    var result = try centringWriters(for: option)
    for (path, norm) in streamNorms where !norm.isFixed { result[norm: path]?.kind = .rms }
    return result
  }

  /// The network without the last feature of its residual stream. With z for the others, that one is −Σz, so that
  ///
  ///     readers: W' = W[:d−1] − W[d−1]      writers: W', b' lose their last column      norms: CRMSNorm, the same ε
  ///
  /// - Precondition: the residual stream has mean zero at every depth.
  /// - Throws: `.unsupported` for a norm that stays as it is, or where no feature would be left.
  private func compressed() throws(Refusal) -> Network {
    let option: Message = "\(.normForm, NormForm.crms)"
    let width = streamWidth - 1
    guard width > 0 else {
      throw Refusal(.unsupported, subject: option, "the residual stream has one feature, and would have none")
    }
    var readers: Set<Path> = []
    for node in streamReaders {
      switch node.operation {
      case .linear: readers.insert(node.path)
      case .norm(let norm)
      where !norm.isFixed && norm.gain.constantValue == 1 && norm.bias == nil && obstacle(to: node.path) == nil:
        readers.formUnion(users(of: node.path).map(\.path))
      case .norm(let norm):
        throw Refusal(
          .unsupported, subject: option, "the norm '\(norm.name)' stays as it is, and needs every feature",
          advice: "use a target that it can be folded for")
      default:
        throw Refusal(
          .unsupported, subject: option,
          "'\(node.path)' is \(node.operation.kind), reads the residual stream and needs every feature")
      }
    }
    var result = self
    for writer in streamWriters {
      if let table = self[table: writer] { result[table: writer] = table.sliced(axis: 1, 0..<width) }
      if let map = self[linear: writer] {
        result[linear: writer] = LinearMap(
          weight: map.weight.sliced(axis: 1, 0..<width), bias: map.bias?.sliced(axis: 0, 0..<width))
      }
    }
    for reader in readers {
      guard let map = self[linear: reader] else { continue }
      result[linear: reader]?.weight = map.weight.compressed(axis: 0)
    }
    for (path, _) in streamNorms {
      result[norm: path]?.kind = .crms
      result[norm: path]?.gain = .constant(1, shape: [width])
    }
    return result
  }
}
