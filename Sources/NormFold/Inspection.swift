import NormFoldFolding
import NormFoldFormats
import NormFoldNetworks

/// A description of a checkpoint, norm by norm.
///
///     let inspection = try Inspection(of: "gpt2-lnfree")
///     for site in inspection.sites where !site.isFoldable { print(site.name, site.deviation) }
public struct Inspection: Sendable, Encodable {
  public struct Site: Sendable, Encodable {
    /// The norm as the tensors spell it, with the path where the two paths of an attention differ.
    public let name: String
    /// A word or two for what reads the norm: `attention`, `attention q/k`, `attention v`, `MLP` or `final`.
    public let place: String
    /// The block that the norm is in; nil for the final one.
    public let block: Int?
    public let kind: String
    public let deviation: String
    /// The smallest of the fixed deviations, whatever they depend on; nil where they are computed.
    public let smallestDeviation: Double?
    public let largestDeviation: Double?
    /// The smallest element of the gain over the deviation where that is fixed, else of the gain.
    public let smallestScale: Double
    public let medianScale: Double
    public let largestScale: Double
    public let largestBias: Double
    public let isFoldable: Bool
  }

  /// The change that adapters make to a norm.
  public struct AdapterChange: Sendable, Encodable {
    /// The norm as the tensors spell it.
    public let name: String
    /// A word for where the norm stands: `embedding`, `attention`, `MLP`, `head` or `final`.
    public let place: String
    /// The block that the norm is in; nil for one that is in none.
    public let block: Int?
    /// The root mean square of the change of its gain, and the largest change.
    public let gain: Double
    public let largestGain: Double
    /// The same of its bias.
    public let bias: Double
    public let largestBias: Double
  }

  public let path: String
  public let container: String
  public let layout: String
  public let dialect: String
  public let blockCount: Int
  public let dModel: Int
  public let headCount: Int
  /// The number of heads of keys and values, each of which may serve several of the queries.
  public let keyValueHeadCount: Int
  /// The base of rotary positions, where there are any.
  public let rotaryBase: Double?
  public let dMLP: Int
  public let contextLength: Int
  public let vocabularySize: Int
  /// The images that the network reads, `3 × 224 × 224 in patches of 16 × 16`; nil where it reads tokens.
  public let image: String?
  public let activation: String
  public let isTied: Bool
  /// The name of the network's output: `logits of the next token`.
  public var output: String { task.outputName }
  package let task: Task
  public let parameterCount: Int
  public let byteCount: Int
  public let tensorCount: Int
  /// Tensors by element type.
  public let elementTypes: [String: Int]
  public let sites: [Site]
  /// The changes that adapters make to the norms; nil where no adapter is merged.
  public let adapterChanges: [AdapterChange]?
  /// Tensors that take no part, with the rule by which they are left out.
  public let dropped: [String: String]
  /// The parts that were taken off the names of tensors: those that programs around the network had put there
  /// (`module.`), and those that the user named.
  public let wrappers: [String]
  public let warnings: [Message]

  public var foldableSiteCount: Int { sites.count { $0.isFoldable } }

  /// - Throws: what reading throws.
  public init(of path: String, options: ReadingOptions = .init()) throws(Refusal) {
    let model = try Model(opening: path, options: options)
    let network = model.network
    self.path = path
    container = model.checkpoint.container.rawValue
    layout = model.layout.name
    dialect = model.dialect.displayName
    let sizes = model.hyperparameters
    blockCount = network.blockCount
    dModel = network.streamWidth
    headCount = sizes.headCount
    keyValueHeadCount = sizes.keyValueHeadCount
    rotaryBase = sizes.rotaryBase
    dMLP = sizes[.hidden]
    contextLength = network.contextLength
    vocabularySize = network.vocabularySize
    image = network.image.map {
      "\($0.channels) × \($0.height) × \($0.width) in patches of \($0.patchHeight) × \($0.patchWidth)"
    }
    activation = network.activationSummary
    isTied = network.isTied
    task = network.task
    let droppedNames = Set(model.dropped.map(\.name))
    let used = model.checkpoint.tensors.filter { !droppedNames.contains($0.name) }
    // Two names for one storage, a tied unembedding, count once.
    struct Place: Hashable {
      let file: ObjectIdentifier
      let byteOffset: Int
    }
    var places: Set<Place> = []
    parameterCount = used.reduce(0) { count, tensor in
      let place = Place(file: ObjectIdentifier(tensor.file), byteOffset: tensor.byteOffset)
      return places.insert(place).inserted ? count + tensor.info.elementCount : count
    }
    byteCount = model.checkpoint.files.reduce(0) { $0 + $1.byteCount }
    tensorCount = model.checkpoint.tensors.count
    elementTypes = model.checkpoint.tensors.reduce(into: [:]) { $0[$1.info.type.displayName, default: 0] += 1 }
    dropped = Dictionary(model.dropped.map { ($0.name, $0.rule) }) { first, _ in first }
    wrappers = model.wrappers
    warnings = model.warnings
    sites = Site.all(of: network)
    if options.adapters.isEmpty {
      adapterChanges = nil
    } else {
      var plain = options
      plain.adapters = []
      adapterChanges = AdapterChange.all(from: try Model(opening: path, options: plain).network, to: network)
    }
    try model.checkpoint.requireIntact()
  }
}

extension Network {
  /// `gelu_new`, `leaky_relu (slope 0.01)`, `leaky_relu (slopes 0.01 to 0.3)`.
  fileprivate var activationSummary: String {
    let name = mlpActivation?.configName ?? "none"
    let slopes = activations.compactMap(\.negativeSlope)
    guard let smallest = slopes.min(), let largest = slopes.max() else { return name }
    return smallest == largest
      ? "\(name) (slope \(smallest.short))" : "\(name) (slopes \(smallest.short) to \(largest.short))"
  }
}

extension Inspection.AdapterChange {
  /// Norms that both networks have, in the order of computation: a head may be of the adapter alone.
  fileprivate static func all(from base: Network, to adapted: Network) -> [Inspection.AdapterChange] {
    adapted.norms.compactMap { path, norm in
      guard let old = base[norm: path] else { return nil }
      func difference(_ new: Parameter?, _ old: Parameter?) -> (mean: Double, largest: Double) {
        guard let new, let old else { return (0, 0) }
        let changes = zip(ParameterReader(new).values(), ParameterReader(old).values()).map { $0 - $1 }
        let squares = changes.reduce(0) { $0 + $1 * $1 }
        return ((squares / Double(max(1, changes.count))).squareRoot(), changes.reduce(0) { max($0, abs($1)) })
      }
      let (gain, bias) = (difference(norm.gain, old.gain), difference(norm.bias, old.bias))
      return .init(
        name: norm.displayName, place: path.place(readBy: nil), block: path.block, gain: gain.mean,
        largestGain: gain.largest, bias: bias.mean,
        largestBias: bias.largest)
    }
  }
}

extension Inspection.Site {
  /// In the order of computation.
  static func all(of network: Network) -> [Inspection.Site] {
    network.norms.map { path, norm in
      // Nothing but a product with one number may stand behind a norm that is multiplied by it.
      let users = network.users(of: path)
      var scale = 1.0
      if users.count == 1, case .scale(let factor) = users[0].operation { scale = factor }
      return .init(norm, at: path, scale: scale)
    }
  }

  private init(_ norm: Norm, at path: Path, scale: Double) {
    var scales = ParameterReader(norm.gain).values()
    if case .fixed(let deviation) = norm.deviation {
      scales = zip(scales, ParameterReader(deviation).values()).map { $0 / $1 }
    }
    scales.sort()
    let deviations = norm.deviation.values
    name = norm.displayName
    place = path.place(readBy: norm.readers)
    block = path.block
    kind = norm.kind.displayName
    smallestDeviation = deviations.min()
    largestDeviation = deviations.max()
    smallestScale = scales.first ?? 0
    medianScale = scales.isEmpty ? 0 : scales[scales.count / 2]
    largestScale = scales.last ?? 0
    largestBias = norm.bias.map { ParameterReader($0).values().reduce(0) { max($0, abs($1)) } } ?? 0
    isFoldable = norm.isFixed && deviations.allSatisfy { $0 > 0 && $0.isFinite }
    deviation = norm.deviation.summary + (scale == 1 ? "" : ", × \(scale.short)")
  }
}

extension Path {
  /// Returns where a norm stands, in a word or two.
  ///
  /// - Parameter readers: what reads it, where other readers of the same stored norm read another one.
  fileprivate func place(readBy readers: [String]?) -> String {
    guard block != nil else {
      return contains(component: "embedding") ? "embedding" : contains(component: "head") ? "head" : "final"
    }
    guard contains(component: "attention") else { return contains(component: "mlp") ? "MLP" : description }
    return readers.map { "attention \($0.map { String($0.prefix(1)) }.joined(separator: "/"))" } ?? "attention"
  }
}

extension Norm.Deviation {
  /// All fixed deviations, of whatever they are.
  fileprivate var values: [Double] {
    switch self {
    case .computed: []
    case .fixed(let vector), .perPosition(let vector): ParameterReader(vector).values()
    case .perToken(let usual, let endOfText):
      ParameterReader(usual).values() + ParameterReader(endOfText).values()
    }
  }

  /// `computed (epsilon 1e-05)`, `fixed at 0.143`.
  fileprivate var summary: String {
    switch self {
    case .computed(let epsilon): return "computed (epsilon \(epsilon.formula))"
    case .fixed(let vector):
      let values = ParameterReader(vector).values()
      let (smallest, largest) = (values.min() ?? .nan, values.max() ?? .nan)
      return smallest == largest
        ? "fixed at \(smallest.short)" : "fixed per feature, \(smallest.short) to \(largest.short)"
    case .perPosition(let vector):
      let values = ParameterReader(vector).values()
      return
        "fixed per position, \((values.first ?? .nan).short) first, then \((values.dropFirst().first ?? .nan).short)"
    case .perToken(let usual, let endOfText):
      let values = (ParameterReader(usual).values().last ?? .nan, ParameterReader(endOfText).values().last ?? .nan)
      return "fixed at \(values.0.short), for end-of-text at \(values.1.short)"
    }
  }
}

extension Double {
  /// Five significant digits.
  fileprivate var short: String { text(.significant(5)) }
}
