import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks

/// Measures how attention and the residual stream of a model behave on a text.
///
///     let report = try Diagnosis(input).run()
///     print(report.attention.sinkRate, report.residual.meanNorm.last ?? [])
public struct Diagnosis: Sendable, Encodable {
  public var input: MeasurementInput

  public init(_ input: MeasurementInput) { self.input = input }

  /// Attention on position 0 that makes a head a sink (arXiv 2410.10781, and the LN-removal papers).
  private static let sinkThreshold = 0.3
  /// A share of uniform attention's entropy: a head below it looks at one position in most queries.
  private static let collapseThreshold = 0.05

  /// - Throws: what opening the checkpoint and reading the text throw; `.unsupported` for retention, and for attention with
  ///   capped scores or a window, whose weights are computed elsewhere and not recorded.
  public func run(progress: @escaping MeasurementInput.Progress = { _, _ in }) throws(Refusal) -> DiagnosisReport {
    let start = ContinuousClock.now
    let text = try MeasuredText(input)
    let network = text.model.network
    if let retention = network.attentions.first(where: { !$0.attention.isDistribution }) {
      throw Refusal(
        .unsupported, file: input.model, subject: "\(retention.path)",
        "is retention, whose weights are no distribution over tokens that could have an entropy")
    }
    if let (path, attention) = network.attentions.first(where: { $0.attention.peculiarity != nil }) {
      throw Refusal(
        .unsupported, file: input.model, subject: "\(path)",
        "is \(attention.peculiarity ?? ""), which is not diagnosed yet")
    }
    let groups = try text.concurrentlyByGroup(workers: input.workers, progress: progress) {
      (chunks, workers, advance) throws(Refusal) in
      switch input.precision {
      case .single: try Self.record(of: chunks, in: network, as: Float.self, workers: workers, advance: advance)
      case .double: try Self.record(of: chunks, in: network, as: Double.self, workers: workers, advance: advance)
      }
    }
    try text.model.checkpoint.requireIntact()
    var attention = AttentionRecord()
    var residual = ResidualRecord()
    for group in groups {
      attention.add(group.attention)
      residual.add(group.residual)
    }
    return DiagnosisReport(
      model: input.model, texts: input.text.files, chunking: text.chunking, precision: input.precision,
      sequenceCount: text.chunks.count, tokenCount: text.tokenCount,
      attention: attention.summary(
        tokensBefore: text.chunks.flatMap { Array(0..<$0.tokens.count) }, sinkThreshold: Self.sinkThreshold,
        collapseThreshold: Self.collapseThreshold),
      residual: residual.summary(longest: text.chunks.map(\.tokens.count).max() ?? 0),
      warnings: text.model.warnings, seconds: (ContinuousClock.now - start) / .seconds(1))
  }

  private static func record<Scalar: ArithmeticScalar>(
    of chunks: [Chunk], in network: Network, as scalar: Scalar.Type, workers: Workers, advance: MeasuredText.Advance
  ) throws(Refusal) -> (attention: AttentionRecord, residual: ResidualRecord) {
    let probes = chunks.map(\.probe)
    var attention = AttentionRecord()
    var residual = ResidualRecord()
    var execution = Execution(network, on: FastBackend<Scalar>(probes: probes, workers: workers))
    for depth in 0...network.blockCount {
      try execution.run(stage: depth) { (node, operands, _) throws(Refusal) in
        guard case .attend(let content) = node.operation else { return }
        attention.add(content, at: node.path, operands: operands, probes: probes, sinkThreshold: sinkThreshold)
      }
      let stream = execution.stream(atDepth: depth)
      residual.add(stream.doubles(), width: stream.columnCount, depth: depth, chunks: chunks)
      if depth > 0 { advance(depth, network.blockCount) }
    }
    return (attention, residual)
  }
}
