import NormFoldArithmetic
import NormFoldFormats

/// The deviations σ = √(variance + ε) that the norms of a model divide by on a text: what they would be fixed to.
///
///     for site in report.sites { print(site.norm, site.usual.value, site.first.value) }
public struct CalibrationReport: Encodable, Sendable {
  public var model: String
  /// The files that the text is from.
  public var texts: [String]
  public var chunking: Chunking
  package var precision: Precision
  public var estimator: Estimator
  public var sequenceCount: Int
  public var tokenCount: Int
  /// In the order of computation.
  public var sites: [Site]
  public var warnings: [Message]
  public var seconds: Double

  /// The way in which many deviations become one.
  public enum Estimator: String, Encodable, Sendable, CaseIterable {
    /// The mean over tokens of √(variance + ε), as the LN-removal code averages during training.
    case perTokenMean = "per-token-mean"
    /// The spread of all centred features of all tokens together, √(Σ(xC)² / (N·d − 1)), without ε: what the published
    /// tables hold.
    case pooled
  }

  /// A norm's input.
  public struct Site: Encodable, Sendable {
    /// The norm as the tensors spell it: `transformer.h.0.ln_1`.
    public var norm: String
    /// The key of the norm as deviation files spell it: `blocks.0.hook_resid_pre`.
    public var key: String
    /// nil for the norm behind the last block.
    public var block: Int?
    public var epsilon: Double
    /// All positions but the first.
    public var usual: Deviation
    public var first: Deviation
  }

  public struct Deviation: Encodable, Hashable, Sendable {
    public var tokenCount: Int
    /// By the report's estimator: what the deviation file holds.
    public var value: Double
    /// Over tokens, of √(variance + ε); so are the following.
    public var mean: Double
    /// √(Σ(σ − mean)² / (N − 1)); 0 for one token.
    public var standardDeviation: Double
    public var smallest: Double
    public var largest: Double
    /// √(Σ(xC)² / (N·d − 1)), without ε.
    public var pooled: Double
  }
}
