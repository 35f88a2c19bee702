import NormFold
import NormFoldVerify

extension Page {
  /// Makes the page of a verification: whether two checkpoints compute the same logits.
  package init(_ report: VerificationRun.Report) {
    let measure = report.isUpToShift ? "log-probability" : "logit"
    let networks: ComparedNetworks = [
      ("candidate, float64", 0, report.judgement.double), ("candidate, float32", 1, report.judgement.single),
      ("reference's own rounding", 2, report.judgement.noise),
    ]
    let worst = report.judgement.single.logits.worst
    let found = report.judgement.single.logits.largest(upToShift: report.isUpToShift)
    let residuals = ResidualFigure.figure(
      id: "depth-figure", title: "Residual stream, behind each block", networks: networks)
    self.init(
      kind: "Verification", subject: report.candidate,
      verdict: .init(
        outcome: report.holds ? .good : .bad,
        title: report.holds ? report.verdict : "Not the same network.",
        sentences: (report.judgement.parts?.failureSentences() ?? []) + [
          "The largest \(measure) difference is \(Quantity.scientific(found)), "
            + "\(report.holds ? "within" : "beyond") the limit of \(Quantity.scientific(report.judgement.limits.logits)).",
          "Worst: \(worst.probe), position \(worst.position), token \(worst.token): expected "
            + "\(Quantity.short(worst.expected)), found \(Quantity.short(worst.found)).",
        ]),
      keyFigures: Self.keyFigures(report),
      warnings: report.warnings,
      sections: [
        .init(
          id: "what", title: "What was compared",
          content: [Self.checkpoints(report)]
            + (PartsFigure.figure(report.judgement.parts, id: "parts-figure", title: "Parts, by block").map { [$0] }
              ?? [])),
        .init(
          id: "depth", title: "Where differences arise",
          lead: "Rounding grows smoothly with depth; a mistake in one layer is a step.",
          content: residuals.map { [$0] } ?? [Paragraph("The two have different depths.")]),
        .init(
          id: "distribution", title: "How large differences are",
          content: [
            DistributionFigure.figure(
              id: "distribution-figure", title: "Differences of logits", networks: networks,
              thresholds: report.isUpToShift
                ? [] : [.init(value: report.judgement.limits.logits, label: "limit, float32")]),
            MeasureTable.table(
              "Measures", networks.map { ($0.name, $0.outcome) }, of: report.judgement,
              largestLogit: report.largestLogit),
          ]),
        ProbeList.section(
          report.probes, tokenCount: report.tokenCount, overflows: report.overflows,
          reference: "reference"
        ),
      ] + (report.integers.map { [$0.section(beside: report.otherIntegers)] } ?? []))
  }

  /// Returns a few numbers that say how far the two models are apart.
  private static func keyFigures(_ report: VerificationRun.Report) -> [KeyFigure] {
    let noun = report.judgement.noun
    let figures: [KeyFigure] = [
      .init(
        name: "largest difference in float64", value: Quantity.scientific(report.judgement.double.logits.relative),
        remark: "of the largest \(noun)"),
      .init(
        name: "largest difference in float32", value: Quantity.scientific(report.judgement.single.logits.relative),
        remark:
          "of the largest \(noun); limit \(Quantity.scientific(report.judgement.limits.logits / report.largestLogit))"),
    ]
    if let limit = report.judgement.limits.cosineDistance {
      return figures + [
        .init(
          name: "1 − cosine, largest",
          value: Quantity.scientific(report.judgement.single.logits.cosineDistance ?? .nan),
          remark: "limit \(Quantity.scientific(limit))")
      ]
    }
    guard report.judgement.limits.isOfDistribution else { return figures }
    return figures + [
      .init(
        name: "KL divergence, mean", value: Quantity.scientific(report.judgement.single.logits.meanDivergence),
        remark: "nats; limit \(Quantity.scientific(report.judgement.limits.divergence))"),
      .init(
        name: "same top-1 token", value: Quantity.percent(report.judgement.single.logits.top1Agreement),
        remark: "of \(Quantity.count(report.judgement.single.logits.tokenCount)) positions; limit "
          + Quantity.percent(report.judgement.limits.agreement)),
    ]
  }

  private static func checkpoints(_ report: VerificationRun.Report) -> FactList {
    var facts = FactList()
    facts.add("Reference", .code(report.reference))
    facts.add("Candidate", .code(report.candidate))
    if let parts = report.judgement.parts {
      facts.add("Parts", .text(parts.summary))
      for note in parts.notes { facts.add("Note", .text(note)) }
      for reason in parts.notCompared { facts.add("Not compared part by part", .text(reason)) }
    }
    facts.add(
      "Limit",
      .text(
        "\(Quantity.scientific(report.judgement.limits.logits)): \(Quantity.short(Judgement.noiseFactor)) × what rounding alone does to the "
          + "reference on the same tokens"))
    if let long = report.judgement.long {
      facts.add(
        "In single precision only",
        .text(
          "\(Quantity.count(long.single.logits.tokenCount)) of the tokens: "
            + "\(Quantity.scientific(long.single.logits.largest(upToShift: report.isUpToShift) / report.largestLogit)) of the largest "
            + "logit"))
    }
    return facts
  }
}
