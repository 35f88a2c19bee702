import Formats

/// Which norms ApolloResearch/gpt2_noLN has fixed at a step of its training run. Its checkpoints do not say: the state
/// follows from the step alone.
///
/// Blocks in order: the norm before each MLP from step 200 every 20, the path into queries and keys from 440 every 20,
/// the path into values from 680 every 30, the final norm at 1,040. Until 1,060 the values' path divides by the first
/// position's deviation at the end-of-text token. The vector of deviations has the first position's at *feature* 0, by
/// a slip of that code which the published runs were trained with; the norms before attention lose it at 1,160, the
/// others keep it.
struct RemovalSchedule {
  let step: Int

  /// The deviation at a site.
  /// - Throws: what the file of deviations throws.
  func deviation(
    at site: NormSite, from file: DeviationFile, dimensions: Dimensions, blockCount: Int, epsilon: Double
  ) throws(Refusal) -> Norm.Deviation {
    let start =
      switch site {
      case .mlp(let block): 200 + 20 * block
      case .attentionQueryKey(let block): 440 + 20 * block
      case .attentionValue(let block): 680 + 30 * block
      case .final: 1_040
      }
    guard step >= start else { return .computed(epsilon: epsilon) }
    let usual = try file.usual(at: site, blockCount: blockCount)
    let first = try file.first(at: site, blockCount: blockCount)
    let isAttention =
      if case .attentionQueryKey = site { true } else if case .attentionValue = site { true } else { false }
    let rest = Parameter.constant(usual, shape: [dimensions.dModel - 1])
    let vector =
      isAttention && step >= 1_160 || usual == first
      ? Parameter.constant(usual, shape: [dimensions.dModel])
      : .concatenating([.constant(first, shape: [1]), rest], axis: 0)
    if case .attentionValue = site, step < 1_060, usual != first, dimensions.vocabularySize > FakeLayerNorm.endOfText {
      return .perToken(usual: vector, endOfText: .constant(first, shape: [dimensions.dModel]))
    }
    return .fixed(vector)
  }
}
