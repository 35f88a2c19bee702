import Folding
import Formats
import Foundation
import Networks

/// What a checkpoint is, norm site by norm site.
public struct Inspection: Sendable, Encodable {
  public struct Site: Sendable, Encodable {
    /// As the tensors spell it, with the path where the two paths of an attention differ.
    public let name: String
    /// What reads it: `attention`, `attention q/k`, `attention v`, `MLP` or `final`.
    public let place: String
    /// Nil for the final one.
    public let block: Int?
    public let kind: String
    public let deviation: String
    /// Of the fixed deviations, whatever they depend on; nil where they are computed.
    public let smallestDeviation: Double?
    public let largestDeviation: Double?
    /// Of the gain over the deviation where that is fixed, else of the gain.
    public let smallestScale: Double
    public let medianScale: Double
    public let largestScale: Double
    public let largestBias: Double
    public let isFoldable: Bool
  }

  public let path: String
  public let container: String
  public let layout: String
  public let dialect: String
  public let blockCount: Int
  public let dModel: Int
  public let headCount: Int
  /// Heads of keys and values, each of which may serve several of the queries.
  public let keyValueHeadCount: Int
  /// Of rotary positions, where there are any.
  public let rotaryBase: Double?
  public let dMLP: Int
  public let contextLength: Int
  public let vocabularySize: Int
  public let activation: String
  public let isTied: Bool
  public let parameterCount: Int
  public let byteCount: Int
  public let tensorCount: Int
  /// Tensors by element type.
  public let elementTypes: [String: Int]
  public let sites: [Site]
  /// Tensors that take no part, with the rule by which they are left out.
  public let dropped: [String: String]
  public let warnings: [String]

  public var foldableSiteCount: Int { sites.count { $0.isFoldable } }

  /// - Throws: what reading throws.
  package init(of path: String, options: ReadingOptions = .init()) throws(Refusal) {
    let model = try Model(opening: path, options: options)
    let network = model.network
    self.path = path
    container = model.checkpoint.container.rawValue
    layout = model.layout.name
    dialect = model.dialect.displayName
    blockCount = network.blocks.count
    dModel = network.dimensions.dModel
    headCount = network.dimensions.headCount
    keyValueHeadCount = network.dimensions.keyValueHeadCount
    rotaryBase = network.blocks[0].attention.rotary?.base
    dMLP = network.dimensions.dMLP
    contextLength = network.dimensions.contextLength
    vocabularySize = network.dimensions.vocabularySize
    activation = network.activationSummary
    isTied = network.isTied
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
    warnings = model.warnings
    sites = Site.all(of: network)
    try model.checkpoint.requireIntact()
  }
}

extension Network {
  /// `gelu_new`, `leaky_relu (slope 0.01)`, `leaky_relu (slopes 0.01 to 0.3)`.
  fileprivate var activationSummary: String {
    let name = blocks[0].mlp.activation.configName
    let slopes = blocks.compactMap(\.mlp.activation.negativeSlope)
    guard let smallest = slopes.min(), let largest = slopes.max() else { return name }
    return smallest == largest
      ? "\(name) (slope \(smallest.short))" : "\(name) (slopes \(smallest.short) to \(largest.short))"
  }
}

extension Inspection.Site {
  /// In the order of computation; the paths of an attention that are in one state are one site.
  static func all(of network: Network) -> [Inspection.Site] {
    var sites: [Inspection.Site] = []
    for (site, norm) in network.norms {
      let name = norm.name(at: site, in: network)
      if sites.last?.name != name {
        sites.append(.init(norm, name: name, place: site.place(isShared: name == norm.name), block: site.block))
      }
    }
    return sites
  }

  private init(_ norm: Norm, name: String, place: String, block: Int?) {
    var scales = ParameterReader(norm.gain).values()
    if case .fixed(let deviation) = norm.deviation {
      scales = zip(scales, ParameterReader(deviation).values()).map { $0 / $1 }
    }
    scales.sort()
    let deviations = norm.deviation.values
    self.name = name
    self.place = place
    self.block = block
    kind = norm.kind.displayName
    smallestDeviation = deviations.min()
    largestDeviation = deviations.max()
    smallestScale = scales.first ?? 0
    medianScale = scales.isEmpty ? 0 : scales[scales.count / 2]
    largestScale = scales.last ?? 0
    largestBias = norm.bias.map { ParameterReader($0).values().reduce(0) { max($0, abs($1)) } } ?? 0
    isFoldable = norm.isFixed && deviations.allSatisfy { $0 > 0 && $0.isFinite }
    deviation = norm.deviation.summary + (norm.outputScale == 1 ? "" : ", × \(norm.outputScale.short)")
  }
}

extension NormSite {
  /// - Parameter isShared: whether both paths of an attention read the same norm.
  fileprivate func place(isShared: Bool) -> String {
    switch self {
    case .attentionQueryKey: isShared ? "attention" : "attention q/k"
    case .attentionValue: isShared ? "attention" : "attention v"
    case .mlp: "MLP"
    case .final: "final"
    }
  }
}

extension Norm.Deviation {
  /// Every one that is fixed.
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
  fileprivate var short: String { String(format: "%.5g", self) }
}
