import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks
import NormFoldTargets
import NormFoldVerify

/// A comparison of two checkpoints, which should compute the same logits: the candidate in single precision, held against the reference's own
/// rounding noise.
///
///     let report = try VerificationRun(reference: "gpt2-lnfree", candidate: "out").run()
///     print(report.holds, report.judgement.single.logits.largest)
public struct VerificationRun: Sendable, Encodable {
  public var reference: String
  public var candidate: String
  /// Is true if the logits of each position may all be off by one constant, which no probability can see.
  public var isUpToShift = false
  public var readingOptions = ReadingOptions()
  public var probeOptions = ProbeOptions()
  public var workers = Workers.all
  /// Integers that both networks are computed in besides, to see what these do to them. The verdict does not depend on it.
  public var integers: IntegerArithmetic?
  /// Other integers beside those: what the width does.
  public var otherIntegers: [IntegerArithmetic] = []

  public init(reference: String, candidate: String) {
    self.reference = reference
    self.candidate = candidate
  }

  /// The numbers that were found, and the verdict.
  public struct Report: Sendable, Encodable {
    public let reference: String
    public let candidate: String
    /// The candidate held against the reference.
    public let judgement: Judgement
    public let largestLogit: Double
    public let tokenCount: Int
    public let probes: [String]
    public let overflows: [String]
    public let warnings: [Message]
    public let holds: Bool
    /// Both networks in integers; nil where none were asked for.
    public let integers: IntegerDrift?
    /// Both networks in the other integers that were asked for.
    public let otherIntegers: [IntegerDrift]

    /// Is true if the logits of each position may all be off by one constant.
    public var isUpToShift: Bool { judgement.isUpToShift }

    private enum CodingKeys: String, CodingKey {
      case reference, candidate, parts, double, single, noise, limits, long, largestLogit, isUpToShift, tokenCount,
        probes
      case overflows, overflow, warnings, holds, integers, otherIntegers
    }

    public func encode(to encoder: any Encoder) throws {
      var container = encoder.container(keyedBy: CodingKeys.self)
      try container.encode(reference, forKey: .reference)
      try container.encode(candidate, forKey: .candidate)
      try container.encodeIfPresent(judgement.parts, forKey: .parts)
      try container.encode(judgement.double, forKey: .double)
      try container.encode(judgement.single, forKey: .single)
      try container.encode(judgement.noise, forKey: .noise)
      try container.encode(judgement.limits, forKey: .limits)
      try container.encodeIfPresent(judgement.long, forKey: .long)
      try container.encode(largestLogit, forKey: .largestLogit)
      try container.encode(isUpToShift, forKey: .isUpToShift)
      try container.encode(tokenCount, forKey: .tokenCount)
      try container.encode(probes, forKey: .probes)
      try container.encode(overflows, forKey: .overflows)
      try container.encodeIfPresent(judgement.overflow, forKey: .overflow)
      try container.encode(warnings, forKey: .warnings)
      try container.encode(holds, forKey: .holds)
      try container.encodeIfPresent(integers, forKey: .integers)
      try container.encode(otherIntegers, forKey: .otherIntegers)
    }
  }

  public func run(progress: ConversionProgress.Handler = { _ in }) throws(Refusal) -> Report {
    var source = try Model(opening: reference, options: readingOptions)
    let graph = try Graph(at: candidate, like: source.literalNetwork ?? source.network)
    // A graph of fixed length has fewer positions, and is judged by them.
    if case .own(let program)? = graph, let length = program.length, length < source.network.contextLength {
      source = try source.shortened(to: length)
    }
    let arithmetics = integers.map { [$0] + otherIntegers } ?? []
    for arithmetic in arithmetics { try arithmetic.requireForm(of: source.network) }
    let other = try Candidate(graph, at: candidate, for: source, options: readingOptions)
    let probes = try probeOptions.probes(for: source, at: reference)
    let found = try Judgements(
      of: [
        .init(
          name: candidate, exact: other.network, model: other.written, type: other.type, isUpToShift: isUpToShift,
          allowance: .independent)
      ], against: source.network, named: reference, literal: other.isLiteral ? source.literalNetwork : nil,
      on: probes, workers: workers
    ) { done, total in
      progress(ConversionProgress(stage: .verifying, subject: "logits", done: done, total: total, unit: "steps"))
    }
    try source.checkpoint.requireIntact()
    try other.requireIntact()
    let judgement = found.judgements[0]
    guard judgement.single.logits.tokenCount > 0 else {
      throw Refusal(
        .nonFinite, file: candidate,
        "its logits are NaN or infinite on every token on which those of \(reference) are finite"
          + (judgement.overflow.map {
            ", since it computes in \($0.type) and \($0.place) reaches \(Quantity.short($0.value))"
          } ?? ""),
        advice: "check its weights; where they are F16, which ends at 65504, save them in F32 or BF16")
    }
    var drifts: [IntegerDrift] = []
    for arithmetic in arithmetics {
      drifts.append(
        try IntegerDrift(
          of: [(reference, source.network), (candidate, other.network)], in: arithmetic, on: probes.precise,
          workers: workers))
    }
    let unmeasured = Storage(of: other.network).typesWithoutRounding.map(\.displayName).sorted()
    return Report(
      reference: reference, candidate: candidate, judgement: judgement, largestLogit: found.largestLogit,
      tokenCount: found.tokenCount, probes: found.probes, overflows: found.overflows,
      warnings: source.warnings + other.warnings
        + (judgement.noteOnRounding(of: candidate, largestLogit: found.largestLogit).map { [$0] } ?? [])
        + unmeasured.map { "what storing the reference as \($0) costs is not known, so the limits leave it out" },
      holds: judgement.holds, integers: drifts.first, otherIntegers: Array(drifts.dropFirst()))
  }
}

extension VerificationRun.Report {
  /// A sentence that says whether the two are the same network, and how far that is known.
  public var verdict: String {
    guard holds else { return "NOT the same network." }
    let difference = isUpToShift ? ", but for a constant per position" : ""
    if judgement.isComplete { return "The same network\(difference), for every input." }
    // A program is run on some of the tokens.
    let count = min(tokenCount, judgement.single.logits.tokenCount)
    let unit =
      switch judgement.task {
      case .imageClassification: "image"
      case .sequenceClassification: "sequence"
      default: "token"
      }
    let inputs = count == 1 ? "one \(unit)" : "\(count) \(unit)s"
    return judgement.parts?.isSampled == true
      ? "The same weights\(difference), and the same network as far as random states and \(inputs) can tell."
      : "The same network\(difference), as far as \(count == 1 ? inputs : "these " + inputs) can tell."
  }
}

/// A graph that is held against the reference.
private enum Graph {
  case own(ONNXProgram)
  /// A graph that another program exported.
  case imported(any CuttableProgram)

  /// - Returns: nil where there is none at the path.
  init?(at path: String, like network: Network) throws(Refusal) {
    guard ONNXProgram.isThere(at: path) else { return nil }
    if let program = try ONNXProgram.imported(from: path, like: network) {
      self = .imported(program)
    } else {
      self = .own(try ONNXProgram(opening: path))
    }
  }
}

/// The model that is held against the reference: a checkpoint, or a graph.
private struct Candidate {
  /// Its operations, run in double precision.
  let network: Network
  /// The model that the candidate's runtime computes.
  let written: WrittenModel
  let type: ElementType
  /// Is true if its runtime computes norms whose epsilon makes them nearly linear, where linear ones are meant.
  var isLiteral = false
  let warnings: [Message]
  let requireIntact: () throws(Refusal) -> Void

  init(_ graph: Graph?, at path: String, for source: Model, options: ReadingOptions) throws(Refusal) {
    switch graph {
    case .imported(let program)?:
      (network, written, type) = (program.storing(source.network) ?? source.network, .program(program), program.type)
      warnings = []
      requireIntact = { () throws(Refusal) in try program.requireIntact() }
    case .own(let program)?:
      guard let network = program.network(like: source.network, endOfText: source.endOfText) else {
        throw Refusal(
          .unsupported, file: path, "is not a graph that NormFold writes of a network with the reference's operations",
          advice: "give the checkpoint that the graph was exported from")
      }
      (self.network, written, type, warnings) = (network, .program(program), program.type, [])
      requireIntact = { () throws(Refusal) in try program.requireIntact() }
    case nil:
      // Adapters and a layout belong to the reference.
      var options = options
      (options.adapters, options.layout) = ([], nil)
      let model = try Model(opening: path, options: options)
      network = model.literalNetwork ?? model.network
      isLiteral = model.literalNetwork != nil
      (written, type, warnings) = (.network(network, meant: model.network), .f32, model.warnings)
      requireIntact = { () throws(Refusal) in try model.checkpoint.requireIntact() }
    }
  }
}
