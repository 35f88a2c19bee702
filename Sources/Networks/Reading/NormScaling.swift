/// The way in which the norms of a network were scaled in training, which no file says.
///
///     options.normScaling = .lns
public enum NormScaling: String, Sendable, Encodable, CaseIterable {
  /// LayerNorm Scaling (arXiv 2502.05795): what both norms of layer l give is divided by √l, counted from 1. The last
  /// norm is left as it is.
  case lns

  /// Returns the number that the output of the norm at a path is multiplied by.
  package func factor(at path: Path) -> Double {
    switch self {
    case .lns: path.block.map { 1 / Double($0 + 1).squareRoot() } ?? 1
    }
  }
}

extension Network {
  /// The network with a product behind each norm that the scaling changes.
  func scalingNorms(by scaling: NormScaling) -> Network {
    var result = self
    for (path, _) in norms where scaling.factor(at: path) != 1 {
      result.insert(
        .scale(scaling.factor(at: path)), at: path.appending("scaled"), on: path,
        before: result.users(of: path).map(\.path))
    }
    return result
  }
}
