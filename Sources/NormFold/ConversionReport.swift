import NormFoldFolding
import NormFoldFormats
import NormFoldVerify

/// A report of what a conversion did, and of what was proved of it.
///
///     for output in report.outputs { print(output.directory, output.foldedNormCount, output.kept.map(\.path)) }
///     print(report.published, report.failures)
public struct ConversionReport: Sendable, Encodable {
  public struct SourceFile: Sendable, Encodable {
    public let path: String
    public let byteCount: Int
    /// Behind the name of its ``/NormFoldFormats/DigestAlgorithm``: `sha256:5e…`.
    public let digest: String

    /// - Throws: `.malformed` where a compressed file was replaced meanwhile.
    init(_ file: MappedFile, by algorithm: DigestAlgorithm, workers: Workers) throws(Refusal) {
      // Of what the user has, which an expanded file is not.
      let stored = file.path.hasSuffix(".zst") ? try MappedFile(path: file.path) : file
      guard stored.identity == file.identity else {
        throw Refusal(
          .malformed, file: file.path, "was replaced while it was read",
          advice: "wait until whoever writes it is done, and run it again")
      }
      path = file.path
      byteCount = stored.byteCount
      digest = algorithm.digest(of: stored, workers: workers)
    }

    /// Describes several files, one after the other.
    static func all(
      _ files: [MappedFile], by algorithm: DigestAlgorithm, workers: Workers
    ) throws(Refusal) -> [SourceFile] {
      var result: [SourceFile] = []
      for file in files { result.append(try SourceFile(file, by: algorithm, workers: workers)) }
      return result
    }
  }

  public struct Output: Sendable, Encodable {
    public struct File: Sendable, Encodable {
      /// The name of the file in the ``directory``.
      public let name: String
      public let byteCount: Int
      /// Behind the name of its ``/NormFoldFormats/DigestAlgorithm``: `sha256:5e…`.
      public let digest: String

      /// - Parameters:
      ///   - file: as it was hashed where it was written.
      ///   - directory: where all files of the output were.
      init(_ file: SourceFile, in directory: String) {
        name = file.path.hasPrefix(directory + "/") ? String(file.path.dropFirst(directory.count + 1)) : file.path
        byteCount = file.byteCount
        digest = file.digest
      }
    }

    public let target: String
    public let directory: String
    /// The files that were written, the tensors first.
    public internal(set) var files: [File]
    /// The size of the tensors and the files beside them, without headers.
    public let byteCount: Int
    public let tensorCount: Int
    /// The element type of the matrices.
    public let type: String
    public let foldedNormCount: Int
    public let keptNormCount: Int
    /// The number of those that still have a gain or a bias.
    public let gainedNormCount: Int
    /// The norms that were folded, each with the maps that absorbed it.
    public let steps: [ConversionPlan.Step]
    /// The norms that stay, be it without gain and bias.
    public let kept: [ConversionPlan.Kept]
    /// Is true if the runtime insists on norms and was given near-identities where some were folded.
    public let hasNearIdentities: Bool
    /// The rules that were applied besides folding norms.
    public let rules: [FoldingRule]
    /// The form that norms got whose deviation is still computed.
    public let normForm: NormForm?
    /// Is true if its residual stream is the source's without its mean or without the biases of norms that it goes through, so
    /// that the two are not to be compared.
    package var isCentred: Bool {
      rules.contains(.centerWritingWeights) || normForm == .rms || normForm == .crms || movesBiases
    }
    /// Is true if biases of norms went into the maps that are added to them.
    package var movesBiases: Bool { steps.contains { $0.absorbed == FoldingPlan.Step.Absorbed.bias.rawValue } }
    /// Is true if no norm is left in the output at all.
    public let isNormFree: Bool
    /// Is true if any norm in the output still computes its deviation from the activations, other than as a near-identity.
    public let hasComputedNorms: Bool
    public let notes: [Message]
    /// Claim 2: tensors that were read back bit for bit; nil where nothing was verified.
    public let verifiedTensorCount: Int?
  }

  public let tool: String
  public let source: String
  public let sourceFiles: [SourceFile]
  public let dialect: String
  /// Is true if the norms were fixed by the conversion, and not by training: the output computes another function than the
  /// source as it is stored.
  public let changesFunction: Bool
  /// The norms of the source.
  public let sites: [Inspection.Site]
  public internal(set) var outputs: [Output]
  /// The numbers behind the claims; nil where no verification was asked for.
  public let verification: Verification?
  /// The networks in integers; nil where none were asked for.
  public let integers: IntegerDrift?
  /// The same networks in the other integers that were asked for.
  public let otherIntegers: [IntegerDrift]
  public internal(set) var warnings: [Message]
  /// Is true if all claims hold and the output stands at its destination.
  public internal(set) var published: Bool
  public internal(set) var seconds: Double

  /// Is true if every claim holds that was looked at.
  public var holds: Bool { verification?.holds ?? true }
}
