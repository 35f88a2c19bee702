import NormFoldNetworks

extension Network {
  /// The maps that can take the bias of a norm, where every reader of the norm is a linear map or the sum of the norm and
  /// one: with W and b of a map that reads the norm, and b_out of a map that is added to it,
  ///
  ///     b' = b + βᵀ · W      b_out' = b_out + β      β' = 0
  ///
  /// which is exact whatever the norm divides by, and leaves its gain where it is. In a post-norm network that is every
  /// norm but one that is given away: the maps behind it, and the one that closes the branch beside it.
  ///
  /// - Returns: nil where there is no bias, or where something else reads the norm.
  package func receivers(ofBiasOf path: Path) -> [Path]? {
    guard self[norm: path]?.bias != nil, !isGivenAway(path) else { return nil }
    var receivers: [Path] = []
    for reader in readers(of: path) {
      switch reader.operation {
      case .linear: receivers.append(reader.path)
      case .add:
        let others = reader.operands.filter { $0 != path }
        guard others.count == 1, self[linear: others[0]] != nil, users(of: others[0]).count == 1,
          !isGivenAway(others[0])
        else { return nil }
        receivers.append(others[0])
      default: return nil
      }
    }
    return receivers
  }

  /// Moves the bias of a norm to maps.
  ///
  /// - Precondition: they are its ``receivers(ofBiasOf:)``.
  package mutating func moveBias(of path: Path, to receivers: [Path]) {
    guard let bias = self[norm: path]?.bias else { return }
    for reader in readers(of: path) {
      if let map = self[linear: reader.path] {
        self[linear: reader.path] = map.addingToBias(bias.projected(through: map.weight))
      } else if let other = reader.operands.first(where: { $0 != path }), let map = self[linear: other] {
        self[linear: other] = map.addingToBias(bias)
      }
    }
    self[norm: path]?.bias = nil
  }
}
