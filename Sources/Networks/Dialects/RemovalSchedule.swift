import NormFoldFormats

/// The schedule by which ApolloResearch/gpt2_noLN has fixed norms at a step of its training run. Its checkpoints do not
/// say which norms are fixed: that follows from the step alone.
///
/// Blocks in order: the norm before each MLP from step 200 every 20, the path into queries and keys from 440 every 20,
/// the path into values from 680 every 30, the final norm at 1,040. Until 1,060 the values' path divides by the first
/// position's deviation at the end-of-text token. The vector of deviations has the first position's at *feature* 0, by
/// a slip of that code which the published runs were trained with; the norms before attention lose it at 1,160, the
/// others keep it.
struct RemovalSchedule {
  let step: Int

  /// The deviation with which an operation reads a norm.
  /// - Throws: what the file of deviations throws.
  func deviation(
    at path: Path, readBy reader: Path, in network: Network, from file: DeviationFile, sizes: Hyperparameters
  ) throws(Refusal) -> Norm.Deviation {
    let isAttention = path.contains(component: "attention")
    let isValue = reader.lastComponent == "value"
    let start =
      if let block = path.block {
        isAttention ? isValue ? 680 + 30 * block : 440 + 20 * block : 200 + 20 * block
      } else {
        1_040
      }
    guard step >= start else { return .computed(epsilon: sizes.epsilon) }
    let usual = try file.usual(at: path, in: network)
    let first = try file.first(at: path, in: network)
    let rest = Parameter.constant(usual, shape: [sizes.dModel - 1])
    let vector =
      isAttention && step >= 1_160 || usual == first
      ? Parameter.constant(usual, shape: [sizes.dModel])
      : .concatenating([.constant(first, shape: [1]), rest], axis: 0)
    if isAttention, isValue, step < 1_060, usual != first, sizes[.vocabulary] > FakeLayerNorm.endOfText {
      return .perToken(usual: vector, endOfText: .constant(first, shape: [sizes.dModel]))
    }
    return .fixed(vector)
  }
}
