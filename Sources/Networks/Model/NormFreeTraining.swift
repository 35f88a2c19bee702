import Formats

/// What a model of Nandan91/relu-revival-normfree (arXiv 2410.09637) says in its config beside GPT-2's keys.
///
/// Its blocks have LayerNorms or, without norms, read the residual stream as it is, mean and all; the last norm is there
/// either way. A leaky ReLU may have learned its slope, which is then a tensor of its block.
package struct NormFreeTraining: Hashable, Sendable {
  /// How the slopes of leaky ReLUs are stored that were learned: `learnable_lrelu_mode`.
  package enum Slopes: String, Sendable, CaseIterable {
    /// One number [1] in every block; the word notwithstanding, each learned its own.
    case global
    /// One number for each block [blocks] in every block, of which it reads its own.
    case perLayer = "per_layer"
  }

  package let hasBlockNorms: Bool
  /// Nil where no slope was learned.
  package let slopes: Slopes?

  package var layout: Layout { hasBlockNorms ? .splitGPT2 : .normFreeGPT2 }

  /// Takes the learned slopes of all blocks; nil where none was learned.
  ///
  /// - Throws: `.malformed` for a tensor that is missing or has another shape; `.unsupported` for
  ///   one of integers; `.nonFinite` for a slope that is no number.
  func takeSlopes(from tensors: inout NamedTensors, blockCount: Int) throws(Refusal) -> [Double]? {
    guard let slopes else { return nil }
    var result: [Double] = []
    for block in 0..<blockCount {
      let name = "h.\(block).mlp.act.slopes"
      let file = tensors.checkpoint.path
      guard let tensor = tensors.take(name) else {
        throw Refusal(
          .malformed, file: file, subject: name, "this tensor is missing",
          advice: "the config says that the slopes were learned")
      }
      let expected = slopes == .global ? [1] : [blockCount]
      try tensor.requireWeights(in: file)
      guard tensor.shape == expected else {
        throw Refusal(
          .malformed, file: file, subject: tensor.name, "expected shape \(expected), found \(tensor.shape)",
          advice: "learnable_lrelu_mode is \(slopes.rawValue)")
      }
      let slope = tensor.decoded(as: Double.self)[slopes == .global ? 0 : block]
      guard slope.isFinite else {
        throw Refusal(
          .nonFinite, file: file, subject: tensor.name, "the slope is \(slope)",
          advice: "the training run that wrote it diverged")
      }
      result.append(slope)
    }
    return result
  }
}
