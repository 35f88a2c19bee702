import NormFoldArithmetic
import NormFoldNetworks

extension Network {
  /// The residual stream at every depth, [depths, tokens, dModel], by the plain forward pass.
  func streams(of tokens: [Int]) throws -> [[[Double]]] {
    var execution = Execution(self, on: PlainBackend(tokens: tokens))
    return try (0...blockCount).map { depth in
      try execution.run(stage: depth)
      return execution.stream(atDepth: depth)
    }
  }
}
