import Networks
import Verify

extension Network {
  /// The residual stream at every depth, [depths, tokens, dModel], by the plain forward pass.
  func streams(of tokens: [Int]) throws -> [[[Double]]] {
    var operations = ReferenceOperations(tokens: tokens)
    var x = try embed(with: &operations)
    var all = [x]
    for block in blocks.indices {
      x = try run(block: block, on: x, with: &operations)
      all.append(x)
    }
    return all
  }
}
