import NormFoldFormats
/// The statements of a user about an input whose files leave a question open.
///
///     var options = ReadingOptions()
///     options.deviations = "deviations.json"
///     options.ignoredTensors = ["*.attn.bias"]
///     let inspection = try Inspection(of: "gpt2", options: options)
///     print(inspection.dialect)
public struct ReadingOptions: Sendable, Encodable {
  /// The unembedding that counts where a tied checkpoint also stores another one.
  public enum Head: String, Sendable, Encodable, CaseIterable {
    /// The tensor `lm_head.weight`.
    case stored
    /// The token embedding.
    case tied
  }

  /// The axis that the entries of a buffer of deviations stand for, where the length of the buffer fits both.
  public enum DeviationAxis: String, Sendable, Encodable, CaseIterable {
    case feature, position
  }

  /// Directories of adapters of peft that are merged into the checkpoint, one after the other.
  public var adapters: [String] = []
  public var head: Head?
  /// A file that says what the tensors of a home-made network are: names, axes, sizes (`Documentation/Layouts.md`). Nil where
  /// the checkpoint itself says what it is.
  public var layout: String?
  public var deviationAxis: DeviationAxis?
  /// Is true if the values' path of attention is taken to treat the end-of-text token like any other, whatever the
  /// buffer for that token says.
  public var assumesEndOfTextDisabled = false
  /// A file of deviations (`std_dict`, `std_bos_dict`), for a checkpoint that does not hold its own.
  public var deviations: String?
  /// The number that every norm that is still computed divides by from now on; nil where the files say the deviations.
  public var deviation: Double?
  /// The operation that stands in the places of norms that have no tensors.
  public enum MissingNorms: String, Sendable, Encodable, CaseIterable {
    /// Nothing: what the norm would read is passed on.
    case identity
  }

  /// Nil where a checkpoint without them is incomplete.
  public var missingNorms: MissingNorms?
  /// The step of gpt2_noLN's removal schedule that a nanoGPT checkpoint is at, instead of its `iter_num`.
  public var removalStep: Int?
  /// The way in which the norms were scaled in training; nil where they were not scaled.
  public var normScaling: NormScaling?
  /// Is true if a NormFormer was trained by fairseq between its commits c5ff1811 (2021-10-19) and 7fb37928
  /// (2021-11-03), whose product with the head scales also exchanged heads and their features:
  /// `einsum("tbhd,h->tbdh")`. No file says so.
  public var permutesHeadScales = false
  /// One of the copies of a multiway network of torchscale, which has every map twice (arXiv 2208.10442): of its encoders, A
  /// reads images and B text; a decoder computes A alone.
  public enum Modality: String, Sendable, Encodable, CaseIterable {
    // As the copies are called in the names of tensors.
    // swift-format-ignore: AlwaysUseLowerCamelCase
    case A, B
  }

  /// Nil where no copy is chosen: a multiway network is then refused.
  public var modality: Modality?
  /// The place of the tokenizer.
  public enum Tokenizer: Hashable, Sendable, Encodable {
    /// In the checkpoint: beside its config, or among its metadata.
    case ofCheckpoint
    case directory(String)
    /// There is none, whatever lies there.
    case absent

    /// The directory, `none`, or null for that of the checkpoint.
    public func encode(to encoder: any Encoder) throws {
      var container = encoder.singleValueContainer()
      switch self {
      case .ofCheckpoint: try container.encodeNil()
      case .directory(let path): try container.encode(path)
      case .absent: try container.encode("none")
      }
    }
  }

  public var tokenizer = Tokenizer.ofCheckpoint
  /// The task whose norms count, from 0 on, in a ViT that has norms for several.
  public var task: Int?
  /// The prefixes that are taken off the names of tensors that begin with them.
  public var strippedPrefixes: [String] = []
  /// Names of tensors, with `*` for any part, that may be left out of account.
  public var ignoredTensors: [String] = []
  /// The directory of temporary files, such as compressed inputs that are expanded; nil for the system's temporary
  /// directory.
  public var temporaryDirectory: String?

  public init() {}
}

extension ReadingOptions.Tokenizer {
  /// The same, with the directory of a model of the Hub instead of its id.
  func located() throws(Refusal) -> Self {
    guard case .directory(let path) = self, let directory = try HubCache.directory(ofModel: path) else { return self }
    return .directory(directory)
  }
}
