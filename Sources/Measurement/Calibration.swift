import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks
import NormFoldProcesses

/// Measures on a text what the norms of a model divide by: what they could be fixed to.
///
///     var calibration = Calibration(input)
///     calibration.estimator = .pooled
///     print(try calibration.run().deviationFile)
public struct Calibration: Sendable, Encodable {
  public var input: MeasurementInput
  public var estimator = CalibrationReport.Estimator.perTokenMean

  public init(_ input: MeasurementInput) { self.input = input }

  /// - Throws: what opening the checkpoint and reading the text throw; `.unsupported` for a network without norms;
  ///   `.nonFinite` where a deviation is no positive number.
  public func run(progress: @escaping MeasurementInput.Progress = { _, _ in }) throws(Refusal) -> CalibrationReport {
    try run(in: SingleProcess(), progress: progress)
  }

  /// Runs the measurement as one of several processes, each of which has been given the same settings and gets the report.
  package func run(
    in processes: any ProcessGroup, progress: @escaping MeasurementInput.Progress = { _, _ in }
  ) throws(Refusal) -> CalibrationReport {
    let start = ContinuousClock.now
    let (text, norms) = try processes.together { () throws(Refusal) in try opened() }
    let model = text.model
    // Where removal has put its large number, the epsilon that the network was trained with is not known; this is GPT-2's
    // (layer_norm_epsilon of every published config).
    let isLarge = model.hyperparameters.epsilon >= Dialect.smallestLargeEpsilon
    let epsilon = isLarge ? 1e-5 : model.hyperparameters.epsilon
    let groups = try text.concurrentlyByGroup(in: processes, workers: input.workers, progress: progress) {
      (chunks, workers, advance) throws(Refusal) in
      switch input.precision {
      case .single:
        try Self.records(
          of: chunks, in: model.network, epsilon: epsilon, as: Float.self, workers: workers, advance: advance)
      case .double:
        try Self.records(
          of: chunks, in: model.network, epsilon: epsilon, as: Double.self, workers: workers, advance: advance)
      }
    }
    try processes.together { () throws(Refusal) in try model.checkpoint.requireIntact() }
    var records: [String: DeviationRecord] = [:]
    for group in groups {
      for (name, record) in group.records { records[name, default: DeviationRecord(like: record)].add(record) }
    }
    var sites: [CalibrationReport.Site] = []
    for (path, norm) in norms where !sites.contains(where: { $0.norm == norm.name }) {
      guard let record = records[norm.name] else { continue }
      sites.append(try site(path, norm.name, record, in: model.network))
    }
    return CalibrationReport(
      model: input.model, texts: input.text.files, chunking: text.chunking, precision: input.precision,
      estimator: estimator, sequenceCount: text.chunks.count, tokenCount: text.tokenCount, sites: sites,
      warnings: model.warnings, seconds: (ContinuousClock.now - start) / .seconds(1))
  }

  /// Opens the checkpoint and the text, and looks up the norms that are measured.
  private func opened() throws(Refusal) -> (text: MeasuredText, norms: [(path: Path, norm: Norm)]) {
    let text = try MeasuredText(input)
    let network = text.model.network
    // What cannot be fixed has no deviation to be fixed to.
    let norms = network.norms.filter { !network.isOfRetention(norm: $0.path) }
    guard !norms.isEmpty else {
      throw Refusal(
        .unsupported, file: input.model, "has no norms whose deviations could be measured",
        advice: "if they were folded, give the checkpoint from before")
    }
    return (text, norms.map { ($0.path, $0.norm) })
  }

  private static func records<Scalar: ArithmeticScalar>(
    of chunks: [Chunk], in network: Network, epsilon: Double, as scalar: Scalar.Type, workers: Workers,
    advance: MeasuredText.Advance
  ) throws(Refusal) -> DeviationRecords {
    let probes = chunks.map(\.probe)
    var records = DeviationRecords(probes: probes, epsilon: epsilon)
    var execution = Execution(network, on: FastBackend<Scalar>(probes: probes, workers: workers))
    for stage in 0..<execution.stageCount {
      // Of what comes behind the last block the norm is wanted, and not the logits.
      try execution.run(stage: stage, skipsOutput: true) { (node, operands, _) throws(Refusal) in
        if case .norm(let norm) = node.operation { records.add(operands[0], of: norm) }
      }
      if (1...network.blockCount).contains(stage) { advance(stage, network.blockCount) }
    }
    return records
  }

  private func site(
    _ path: Path, _ name: String, _ record: DeviationRecord, in network: Network
  ) throws(Refusal) -> CalibrationReport.Site {
    let site = CalibrationReport.Site(
      norm: name, key: DeviationFile.key(of: path, in: network), block: path.block,
      epsilon: record.epsilon, usual: record.deviation(record.usual, by: estimator),
      first: record.deviation(record.first, by: estimator))
    for deviation in [site.usual, site.first] where !(deviation.value > 0 && deviation.value.isFinite) {
      throw Refusal(
        .nonFinite, file: input.model, subject: name,
        "expected a positive deviation on this text, found \(deviation.value)",
        advice: "the residual stream overflows or vanishes there")
    }
    return site
  }
}

extension CalibrationReport {
  /// The deviations in the form in which the published runs have them, as `--deviations` takes them.
  public var deviationFile: String {
    func table(_ value: KeyPath<Site, Deviation>) -> [String: Double] {
      Dictionary(sites.map { ($0.key, $0[keyPath: value].value) }) { first, _ in first }
    }
    return DeviationFile.text(usual: table(\.usual), first: table(\.first))
  }
}

extension DeviationRecord {
  /// Makes a record of no values, to which others can be added.
  fileprivate init(like other: DeviationRecord) {
    self.init(of: [], width: other.width, firstRows: [], isCentred: false, epsilon: other.epsilon)
  }
}
