import NormFold
import NormFoldFolding
import NormFoldVerify

extension Page {
  /// Makes the page of a conversion: what it did, and what was proved of it.
  package init(_ report: ConversionReport) {
    guard let verification = report.verification else {
      self.init(
        kind: "Conversion", subject: report.source,
        verdict: .init(
          outcome: .neutral, title: "Written, not\u{A0}verified.",
          sentences: ["Written for \(report.names). 'normfold verify' holds the output against the source."]),
        keyFigures: [report.foldedNorms], warnings: report.warnings,
        sections: [report.conversionSection, report.normsSection], footer: report.footer)
      return
    }
    let pairs = report.verdicts
    self.init(
      kind: "Conversion", subject: report.source, verdict: report.verdict(verification),
      keyFigures: [report.foldedNorms] + report.keyFigures(pairs, verification), warnings: report.warnings,
      sections: [
        report.claimsSection(pairs, verification), report.conversionSection, report.normsSection,
        report.depthSection(pairs),
        report.distributionSection(pairs),
        ProbeList.section(
          verification.probes, tokenCount: verification.tokenCount, overflows: verification.overflows,
          reference: "source"),
      ] + (report.integers.map { [$0.section(beside: report.otherIntegers)] } ?? []), footer: report.footer)
  }
}

extension OutputVerdict {
  /// The other networks that are held against the source, each with its name and its place among the marks.
  fileprivate var networks: ComparedNetworks {
    [
      ("folded weights, float64", 0, claims.judgement.double),
      ("\(output.type) file, float32", 1, claims.judgement.single),
      ("source's own rounding", 2, claims.judgement.noise),
    ] + (verification.literal.map { [("source as its runtime computes it", 3, $0)] } ?? [])
  }
}

extension ConversionReport {
  private var isAlone: Bool { outputs.count == 1 }
  fileprivate var names: String { outputs.map(\.target).joined(separator: ", ") }
  fileprivate var footer: String { "\(tool), \(Quantity.decimal(seconds)) s" }

  // MARK: The head

  fileprivate func verdict(_ verification: Verification) -> Page.Verdict {
    guard holds else {
      return .init(outcome: .bad, title: "Failed. Nothing\u{A0}was\u{A0}written.", sentences: failures)
    }
    let what = verification.targets.contains { $0.judgement.isUpToShift } ? "probabilities" : "logits"
    var sentences = [
      "Every claim holds on \(Quantity.count(verification.tokenCount)) tokens. Written for \(names)."
    ]
    if changesFunction {
      sentences.append("The norms were fixed by this conversion: the claims are against the fixed norms.")
    }
    return .init(outcome: .good, title: "Verified. The\u{A0}same\u{A0}\(what).", sentences: sentences)
  }

  fileprivate var foldedNorms: Page.KeyFigure {
    let counts = outputs.map(\.foldedNormCount)
    let least = counts.min() ?? 0
    return .init(
      name: "norms folded",
      value: "\(least == counts.max() ? "" : "at least ")\(least) of \(Set(sites.map(\.name)).count)",
      remark: isAlone
        ? outputs[0].rest : outputs.allSatisfy(\.isNormFree) ? "none left" : "see the table of norms")
  }

  fileprivate func keyFigures(_ pairs: [OutputVerdict], _ verification: Verification) -> [Page.KeyFigure] {
    let algebra = pairs.map { $0.share($0.claims.judgement.double.logits) }.reduce(0, Self.largest)
    let single = pairs.map { $0.share($0.claims.judgement.single.logits) }.reduce(0, Self.largest)
    let agreement = pairs.map(\.claims.judgement.single.logits.top1Agreement).min() ?? 0
    let noun = pairs.first?.claims.judgement.noun ?? "logit"
    let distances = pairs.compactMap(\.claims.judgement.single.logits.cosineDistance)
    let isOfDistribution = pairs.allSatisfy(\.claims.judgement.limits.isOfDistribution)
    let last: [Page.KeyFigure] =
      isOfDistribution
      ? [
        .init(
          name: "same top-1 token", value: Quantity.percent(agreement),
          remark: "of \(Quantity.count(verification.tokenCount)) positions")
      ]
      : distances.isEmpty
        ? []
        : [
          .init(
            name: "1 − cosine, largest", value: Quantity.scientific(distances.reduce(0, Self.largest)),
            remark: "of \(Quantity.count(verification.tokenCount)) tokens")
        ]
    return [
      .init(
        name: "largest difference in float64", value: Quantity.scientific(algebra),
        remark: "of the largest \(noun); limit \(Quantity.scientific(Verification.algebraLimit))"),
      .init(
        name: "largest difference in float32", value: Quantity.scientific(single),
        remark: "of the largest \(noun)"
          + (isAlone
            ? "; limit " + Quantity.scientific(pairs[0].claims.judgement.limits.logits / verification.largestLogit)
            : "")),
    ] + last
  }

  /// `max` would lose a NaN.
  private static func largest(_ a: Double, _ b: Double) -> Double { a.isNaN || b.isNaN ? .nan : max(a, b) }

  // MARK: The claims

  fileprivate func claimsSection(_ pairs: [OutputVerdict], _ verification: Verification) -> Page.Section {
    var table = DataTable(
      "The claims, with what was found and what is allowed",
      header: ["verdict", "claim", "found", "limit"], alignments: [.left, .prose, .right, .right])
    table.titleColumn = 1
    table.isWhole = true
    for pair in pairs {
      if !isAlone { table.startGroup(.text(pair.output.target)) }
      for claim in pair.measures {
        table.add([
          claim.holds.map(Cell.verdict) ?? "",
          .text((claim.isDetail ? "– " : "") + claim.name), .text(claim.valueText),
          .text(claim.limitText),
        ])
      }
    }
    table.footnotes = [
      "Differences are the largest of any \(pairs.contains { $0.claims.judgement.isUpToShift } ? "logit or log-probability" : "logit"), "
        + "as a share of the largest logit.", limitsFootnote(verification),
    ]
    // Of several outputs the row of each that is closest to its limit: the table has the others.
    let rows = pairs.flatMap { pair in
      isAlone
        ? pair.limitRows
        : pair.limitRows.max { $0.closeness < $1.closeness }.map { [$0.named(pair.output.target)] } ?? []
    }
    let figure = Figure(
      id: "limits", title: "How much of each limit is used",
      caption: "Left of the red mark a claim holds."
        + (isAlone ? "" : " Of each output the claim is shown that is closest to its limit."),
      chart: LimitChart(rows: rows))
    // Of several outputs those parts that are closest to their bounds.
    let closest = pairs.compactMap(\.claims.judgement.parts).max {
      ($0.worst?.ratio ?? 0) < ($1.worst?.ratio ?? 0)
    }
    let parts = PartsFigure.figure(closest, id: "parts-figure", title: "Parts, by block")
    return .init(
      id: "claims", title: "Claims",
      lead:
        "The fold is exact algebra, the file holds what was meant, and what is run from it is as close to the source as the "
        + "source's own rounding.", content: [table, figure] + (parts.map { [$0] } ?? []))
  }

  /// Returns where the limits come from that are marked by a star.
  package func limitsFootnote(_ verification: Verification) -> String {
    let (noise, squared) = (Judgement.noiseFactor, Judgement.noiseFactor * Judgement.noiseFactor)
    let factor = "\(Quantity.short(noise)) × what"
    let types = Set(outputs.map(\.type)).subtracting(["F32"]).sorted().map { "to \($0) and " }
    return verification.targets.contains { $0.judgement.holdsReferenceMatrices }
      ? "* from what rounding to blocks does to the source, and \(factor) single precision does"
      : "* from \(factor) rounding \(types.joined())to float32 alone does to the source (divergence: \(Quantity.short(squared)) ×)"
  }

  // MARK: What was converted

  fileprivate var conversionSection: Page.Section {
    var facts = FactList()
    facts.add("Source", .code(source))
    facts.add("Dialect", .text(dialect))
    facts.add(
      sourceFiles.count == 1 ? "File" : "Files",
      sourceFiles.flatMap { file in
        [Cell.code(file.path, Quantity.bytes(file.byteCount)), Cell.code(file.digest)]
      })
    if changesFunction, let literal = verification?.literal?.logits {
      facts.add(
        "Changes the function",
        .text(
          "With the norms computed, as stored, the logits differ by up to \(Quantity.short(literal.largest)), KL divergence "
            + "\(Quantity.short(literal.meanDivergence)) nats, same top-1 token "
            + "\(Quantity.percent(literal.top1Agreement))."))
    } else if let literal = verification?.literal?.logits {
      facts.add(
        "As its runtime computes it",
        .text("\(Quantity.scientific(literal.relative)) of the largest logit from the fixed norms that it means"))
    }
    let cards = outputs.map { output in
      var facts = FactList()
      facts.add("Directory", .code(output.directory))
      facts.add("Type", .text(output.type))
      facts.add(
        "Tensors", .text("\(Quantity.count(output.tensorCount)), \(Quantity.bytes(output.byteCount))"))
      facts.add("Norms", .text("\(output.foldedNormCount) folded, \(output.rest)"))
      facts.add("Files", output.files.map { .code($0.name, Quantity.bytes($0.byteCount)) })
      return CardList.Card(
        title: "\(holds ? "Written" : "Not written") for \(output.target)", facts: facts, notes: output.notes)
    }
    return .init(id: "conversion", title: "What was converted", content: [facts, CardList(cards: cards)])
  }

  // MARK: The norms

  fileprivate var normsSection: Page.Section {
    guard !sites.isEmpty else {
      return .init(
        id: "norms", title: "Norms before and after", content: [Paragraph("The source has none.")])
    }
    var content: [any Content] = []
    let deviations = Set(sites.flatMap { [$0.smallestDeviation, $0.largestDeviation] })
    // Where all are one number, as the published form's are, there is nothing to see.
    if deviations.count > 1,
      let chart = sites.chart(
        "σ",
        value: { site in
          guard let low = site.smallestDeviation, let high = site.largestDeviation else { return nil }
          return (low == high ? low : (low * high).squareRoot(), low, high)
        })
    {
      content.append(
        Figure(
          id: "deviations", title: "Deviations by layer",
          caption: "σ, what the centred activations are divided by; from the smallest to the largest where it differs.",
          chart: chart))
    }
    if let chart = sites.chart(
      "γ/σ", value: { ($0.medianScale, $0.smallestScale, $0.largestScale) })
    {
      content.append(
        Figure(
          id: "scales", title: "Scales by layer",
          caption:
            "γ/σ, what the centred activations are multiplied by: the median of the features, and from the smallest to the "
            + "largest.", chart: chart))
    }
    content.append(normsTable)
    return .init(
      id: "norms", title: "Norms before and after",
      lead: "Each norm of the source, the maps that took it in, and what is left in its place.", content: content)
  }

  /// The texts that say what is left of each norm in the outputs, one column for those outputs in which the same is
  /// left of every norm.
  private var remainders: [(names: String, texts: [String])] {
    var columns: [(names: String, texts: [String])] = []
    for output in outputs {
      let texts = sites.map(output.remainder)
      if let same = columns.firstIndex(where: { $0.texts == texts }) {
        columns[same].names += ", \(output.target)"
      } else {
        columns.append((output.target, texts))
      }
    }
    return columns
  }

  private var normsTable: DataTable {
    let columns = remainders
    var table = DataTable(
      "The norms",
      header: ["norm", "kind", "deviation", "γ/σ, or γ", "|β| ≤", "folded into"]
        + columns.map { isAlone ? "left" : "left for \($0.names)" },
      alignments: [.left, .left, .left, .right, .right, .words] + columns.map { _ in .words })
    for (index, site) in sites.enumerated() {
      let step = outputs.lazy.compactMap { output in output.steps.first { $0.norm == site.name } }
        .first
      table.add(
        [
          .code(site.name), .text(site.kind), .text(site.deviation),
          .text("\(Quantity.short(site.smallestScale)) … \(Quantity.short(site.largestScale))"),
          .text(Quantity.short(site.largestBias)), step.map { .text($0.summary) } ?? Cell.nothing,
        ] + columns.map { .text($0.texts[index]) })
    }
    return table
  }

  // MARK: Where differences arise

  fileprivate func depthSection(_ pairs: [OutputVerdict]) -> Page.Section {
    let centred = pairs.filter(\.output.isCentred).map(\.output.target)
    let remark =
      centred.isEmpty
      ? ""
      : isAlone
        ? " Its writing weights were centred, so its stream differs by its mean."
        : " The writing weights of \(centred.joined(separator: ", ")) were centred, so that its stream differs by its mean."
    let figure = ResidualFigure.figure(
      id: "depth-figure", title: "Residual stream, behind each block", networks: networks(pairs),
      remark: remark)
    return .init(
      id: "depth", title: "Where differences arise",
      lead: "Rounding grows smoothly with depth; a mistake in one layer is a step.",
      content: figure.map { [$0] } ?? [
        Paragraph("What was written has no residual stream to look at.")
      ])
  }

  /// Returns the networks that are drawn in one chart: of one output, all that were computed; of several outputs, their
  /// files and the source's own rounding.
  private func networks(_ pairs: [OutputVerdict]) -> ComparedNetworks {
    guard !isAlone else { return pairs[0].networks }
    let files = pairs.enumerated().map { index, pair in
      (pair.output.target, index, pair.claims.judgement.single)
    }
    return files + [("source's own rounding", files.count, pairs[0].claims.judgement.noise)]
  }

  fileprivate func distributionSection(_ pairs: [OutputVerdict]) -> Page.Section {
    // Of several outputs the one that is farthest off: the others look the same, or better.
    let farthest = pairs.max { a, b in
      let (x, y) = (
        a.claims.judgement.single.logits.largest, b.claims.judgement.single.logits.largest
      )
      return !x.isNaN && (y.isNaN || x < y)
    }
    var content: [any Content] = []
    if let pair = farthest {
      content.append(
        DistributionFigure.figure(
          id: "distribution-figure",
          title: isAlone ? "Differences of logits" : "Differences of logits, \(pair.output.target)",
          remark: isAlone ? "" : " Of the outputs this one is farthest off.",
          networks: pair.networks,
          thresholds: pair.claims.judgement.isUpToShift
            ? []
            : [
              .init(
                value: Verification.algebraLimit * pair.verification.largestLogit,
                label: "limit, float64"),
              .init(value: pair.claims.judgement.limits.logits, label: "limit, float32"),
            ]))
    }
    if isAlone {
      content += pairs.map { pair in
        MeasureTable.table(
          "Measures of \(pair.output.target)", pair.networks.map { ($0.name, $0.outcome) },
          of: pair.claims.judgement,
          largestLogit: pair.verification.largestLogit)
      }
    } else if let first = pairs.first {
      func table(_ title: String, _ networks: [(name: String, outcome: NetworkDifference)])
        -> [any Content]
      {
        [
          Subheading(text: title),
          MeasureTable.table(
            title, networks, of: first.claims.judgement,
            largestLogit: first.verification.largestLogit),
        ]
      }
      content += table(
        "The files, in float32", networks(pairs).map { ($0.name, $0.outcome) })
      content += table(
        "The folded weights, in float64",
        pairs.map { ($0.output.target, $0.claims.judgement.double) })
    }
    return .init(
      id: "distribution", title: "How large differences are",
      lead:
        "Every logit of every token that was judged; the written file should lie where the source's own rounding lies.",
      content: content)
  }
}

extension OutputVerdict {
  fileprivate var limitRows: [LimitChart.Row] {
    let single = claims.judgement.single.logits
    func row(_ name: String, _ found: Double, _ limit: Double, _ text: (Double) -> String) -> LimitChart.Row {
      .init(
        name: name, use: found == 0 ? 0 : found / limit, holds: found <= limit,
        text: "\(text(found)) of \(text(limit))")
    }
    let rows = [
      row(
        "\(compared), float64", share(claims.judgement.double.logits), Verification.algebraLimit, Quantity.scientific),
      row(
        "\(compared), float32", share(single), claims.judgement.limits.logits / verification.largestLogit,
        Quantity.scientific),
    ]
    if let limit = claims.judgement.limits.cosineDistance {
      return rows + [row("1 − cosine", single.cosineDistance ?? .nan, limit, Quantity.scientific)]
    }
    guard claims.judgement.limits.isOfDistribution else { return rows }
    return rows + [
      row("KL divergence", single.meanDivergence, claims.judgement.limits.divergence, Quantity.scientific),
      row(
        "other top-1 token", 1 - single.top1Agreement, 1 - claims.judgement.limits.agreement,
        Quantity.percent),
    ]
  }
}

extension ConversionReport.Output {
  /// Says what is left of the norms: `none left`, `5 kept as RMSNorm`.
  package var rest: String {
    if isNormFree { return "none left" }
    if hasComputedNorms {
      guard let normForm else { return "\(keptNormCount) kept" }
      return "\(keptNormCount - gainedNormCount) kept as \(normForm.displayName)"
        + (gainedNormCount == 0 ? "" : ", \(gainedNormCount) as it was")
    }
    if foldedNormCount == 0 { return "\(keptNormCount) keep their fixed scales" }
    return "near-identities in their place"
      + (keptNormCount == 0 ? "" : ", and \(keptNormCount) with its fixed scale kept")
  }

  /// Returns what is left of one of them.
  fileprivate func remainder(of site: Inspection.Site) -> String {
    let isFolded = steps.contains { $0.norm == site.name }
    if kept.contains(where: { $0.norm == site.name }) { return isFolded ? "σ, still computed" : "the norm as it was" }
    return hasNearIdentities ? "a near-identity" : "nothing"
  }
}
