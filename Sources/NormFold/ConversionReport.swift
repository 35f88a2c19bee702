import Folding
import Formats
import Verify

/// What a conversion did and what was proved of it.
///
///     for output in report.outputs { print(output.directory, output.foldedNormCount, output.kept.map(\.path)) }
///     print(report.published, report.failures)
public struct ConversionReport: Sendable, Encodable {
  public struct SourceFile: Sendable, Encodable {
    public let path: String
    public let byteCount: Int
    public let sha256: String
  }

  public struct Output: Sendable, Encodable {
    public struct File: Sendable, Encodable {
      /// In the ``directory``.
      public let name: String
      public let byteCount: Int
    }

    public let target: String
    public let directory: String
    public let files: [File]
    /// Of the tensors and the files beside them, without headers.
    public let byteCount: Int
    public let tensorCount: Int
    /// The element type of the matrices.
    public let type: String
    public let foldedNormCount: Int
    public let keptNormCount: Int
    /// How many of those have a gain or a bias still.
    public let gainedNormCount: Int
    /// What became of each norm that was folded.
    public let steps: [ConversionPlan.Step]
    /// The norms that stay, be it without gain and bias.
    public let kept: [ConversionPlan.Kept]
    /// Whether the runtime insists on norms and was given near-identities where some were folded.
    public let hasNearIdentities: Bool
    /// What was done to the weights besides folding norms.
    public let rules: [FoldingRule]
    /// What the norms that are still computed were made to be.
    public let normForm: NormForm?
    /// Whether its residual stream is the source's without its mean, so that the two are not to be compared.
    package var isCentred: Bool {
      rules.contains(.centerWritingWeights) || normForm == .rms || normForm == .crms
    }
    /// Whether no norm is left in the output at all.
    public let isNormFree: Bool
    /// Whether any norm in the output still computes its deviation from the activations, other than as a near-identity.
    public let hasComputedNorms: Bool
    public let notes: [Message]
    /// Claim 2: tensors that were read back bit for bit; nil where nothing was verified.
    public let verifiedTensorCount: Int?
  }

  public let tool: String
  public let source: String
  public let sourceFiles: [SourceFile]
  public let dialect: String
  /// Whether the norms were fixed by the conversion, and not by training: the output computes another function than the
  /// source as it is stored.
  public let changesFunction: Bool
  /// The norms of the source.
  public let sites: [Inspection.Site]
  public let outputs: [Output]
  /// nil where none was asked for.
  public let verification: Verification?
  public let warnings: [Message]
  /// Whether all claims hold and the output stands at its destination.
  public internal(set) var published: Bool
  public internal(set) var seconds: Double

  /// Whether every claim holds that was looked at.
  public var holds: Bool { verification?.holds ?? true }
}
