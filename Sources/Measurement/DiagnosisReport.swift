import NormFoldArithmetic
import NormFoldFormats

/// A report of how a model's attention and residual stream behave on a text.
///
///     for (block, entropies) in report.attention.entropy.enumerated() { print(block, entropies) }
public struct DiagnosisReport: Encodable, Sendable {
  public var model: String
  /// The files that the text is from.
  public var texts: [String]
  public var chunking: Chunking
  package var precision: Precision
  public var sequenceCount: Int
  public var tokenCount: Int
  public var attention: Attention
  public var residual: Residual
  public var warnings: [Message]
  public var seconds: Double

  /// Matrices are [block][head], means over all queries of all sequences.
  public struct Attention: Encodable, Sendable {
    /// −Σ p ln p of a query's attention, in nats.
    public var entropy: [[Double]]
    /// The entropy of attention that is spread evenly over all visible positions, in nats: the mean of ln(position + 1).
    public var uniformEntropy: Double
    /// Attention on position 0.
    public var sinkAttention: [[Double]]
    /// The share of queries with more than ``sinkThreshold`` of their attention on position 0.
    public var sinkQueryShare: [[Double]]
    /// 0.3, as in the LN-removal papers.
    public var sinkThreshold: Double
    /// The share of heads with at least ``sinkThreshold`` of their attention on position 0, in the mean over queries.
    public var sinkRate: Double
    /// The mean of ``sinkQueryShare``: how the LN-removal code counts.
    public var sinkQueryRate: Double
    /// Heads by the quarter of ``uniformEntropy`` that their entropy lies in, lowest first. Many in the highest is
    /// entropic overload (arXiv 2410.09637).
    public var headCountByQuarter: [Int]
    /// Heads whose entropy is below ``collapseThreshold`` of ``uniformEntropy``.
    public var collapsedHeadCount: Int
    public var collapseThreshold: Double
  }

  /// Matrices are [depth][position range]: depth 0 is behind the embedding, depth n behind the n-th block.
  public struct Residual: Encodable, Sendable {
    /// Position 0, then ranges that double in length.
    public var positions: [PositionRange]
    /// The mean Euclidean norm of the residual stream.
    public var meanNorm: [[Double]]
    public var largestNorm: [[Double]]
  }

  public struct PositionRange: Encodable, Hashable, Sendable {
    public var first: Int
    public var last: Int
  }
}
