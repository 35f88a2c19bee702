import NormFoldVerify

/// One number of a verdict, with its unit and what it may be.
///
///     for measure in report.verdicts.flatMap(\.measures) {
///       print("\(measure.name): \(measure.value) of at most \(measure.limit), in \(measure.unit)")
///     }
public struct Measure: Sendable, Encodable {
  /// A kind says what is measured.
  public enum Kind: String, Sendable, Encodable, CaseIterable {
    /// The number of parts of the file that compute what the same parts of the source compute, for every input.
    case parts
    /// The largest difference of a weight, over what its rounding can do.
    case largestPartDifference
    /// The distance of the folded weights from the source, both in double precision.
    case algebra
    /// The number of tensors of the file that are bit for bit what was meant.
    case storedTensors
    /// The distance of the file from the source, computed in the precision that the file is for.
    case arithmetic
    /// The distance of the file from the source on the long probes, both computed in single precision.
    case longArithmetic
    /// The largest 1 − cos of the angle between the file's hidden states and the source's.
    case cosineDistance
    /// The mean Kullback-Leibler divergence of the file's distributions from the source's.
    case divergence
    /// The share of positions where the file and the source have the same top-1 token.
    case top1Agreement
  }

  /// The unit that a value and its limit are counted in.
  public enum Unit: String, Sendable, Encodable {
    /// The largest logit of the source.
    case largestLogit
    case tensors
    /// The parts that were compared.
    case parts
    /// The change that the rounding of a weight can make.
    case rounding
    case nats
    /// 1 − cos.
    case cosine
    /// All positions that were judged.
    case positions
  }

  public let kind: Kind
  /// The measure in words.
  public let name: String
  public let value: Double
  public let unit: Unit
  /// The value may not be more; where ``isLowerLimit``, not less.
  public let limit: Double
  /// Is true if the limit is what the value may not fall below.
  public let isLowerLimit: Bool
  /// Is true if the limit was measured on the source in the same run, and not set beforehand.
  public let isLimitMeasured: Bool
  /// Is true if the claim holds that the measure is of; nil where nothing is decided by it alone.
  public let holds: Bool?

  fileprivate init(
    _ kind: Kind, _ name: String, _ value: Double, _ unit: Unit, limit: Double, isLowerLimit: Bool = false,
    isLimitMeasured: Bool = true, holds: Bool? = nil
  ) {
    self.kind = kind
    self.name = name
    self.value = value
    self.unit = unit
    self.limit = limit
    self.isLowerLimit = isLowerLimit
    self.isLimitMeasured = isLimitMeasured
    self.holds = holds
  }

  /// Is true if it says more about the claim before it.
  package var isDetail: Bool { ![.parts, .algebra, .storedTensors, .arithmetic].contains(kind) }

  /// `3.3e-15`, `36`, `100.00%`.
  package var valueText: String { unit.text(value) }

  /// The limit likewise, with a star where it was measured.
  package var limitText: String { unit.text(limit) + (isLimitMeasured ? "*" : "") }
}

extension Measure.Unit {
  fileprivate func text(_ value: Double) -> String {
    switch self {
    case .largestLogit, .nats, .cosine: Quantity.scientific(value)
    case .tensors, .parts: String(Int(value))
    case .rounding: Quantity.short(value)
    case .positions: Quantity.percent(value)
    }
  }
}

/// The claims on one output of a conversion, with what was found.
///
///     for verdict in report.verdicts where !verdict.holds {
///       print(verdict.output.target, verdict.measures.filter { $0.holds == false }.map(\.name))
///     }
public struct OutputVerdict: Sendable {
  public let output: ConversionReport.Output
  /// The claims with all numbers that they rest on.
  public let claims: Verification.TargetClaims
  package let verification: Verification

  /// Is true if every claim holds.
  public var holds: Bool { measures.allSatisfy { $0.holds ?? true } }

  /// The word for what is compared.
  package var compared: String {
    claims.judgement.isUpToShift ? "log-probabilities" : "\(claims.judgement.noun)s"
  }

  /// The largest difference that counts, over the largest logit.
  package func share(_ difference: LogitDifference) -> Double {
    difference.largest(upToShift: claims.judgement.isUpToShift) / verification.largestLogit
  }

  /// The claims about the parts, the algebra, the file and the run, each with its numbers.
  public var measures: [Measure] {
    let judgement = claims.judgement
    // What the file computes against the source, or beyond what rounding costs that, against its own weights.
    let (single, limits) =
      judgement.ownWeights.map { ($0.single.logits, $0.limits) }
      ?? (judgement.single.logits, judgement.limits)
    let meant = judgement.ownWeights == nil ? "the source's \(compared)" : "what its own weights mean"
    var measures = partMeasures
    measures += [
      Measure(
        .algebra, "folded weights compute the source's \(compared) (float64)", share(judgement.double.logits),
        .largestLogit, limit: Verification.algebraLimit, isLimitMeasured: false, holds: claims.algebraHolds),
      // A file with others would not have come this far.
      Measure(
        .storedTensors, "tensors in the file that are bit for bit what was meant",
        Double(output.verifiedTensorCount ?? 0), .tensors, limit: Double(output.tensorCount), isLowerLimit: true,
        isLimitMeasured: false, holds: output.verifiedTensorCount == output.tensorCount),
      Measure(
        .arithmetic, "\(output.type) file computes \(meant) (float32)", share(single), .largestLogit,
        limit: limits.logits / verification.largestLogit, holds: claims.arithmeticHolds),
    ]
    if let long = judgement.long {
      measures.append(
        Measure(
          .longArithmetic,
          "on \(Quantity.count(long.single.logits.tokenCount)) more tokens, the source in float32, too",
          share(long.single.logits), .largestLogit, limit: long.limits.logits / verification.largestLogit,
          holds: long.holds))
    }
    if let limit = limits.cosineDistance {
      measures.append(
        Measure(
          .cosineDistance, "1 − cosine of a token's states, largest", single.cosineDistance ?? .nan, .cosine,
          limit: limit))
    }
    guard limits.isOfDistribution else { return measures }
    measures.append(
      Measure(
        .divergence, "Kullback-Leibler divergence, mean in nats", single.meanDivergence, .nats,
        limit: limits.divergence))
    // Of a few sequences with one answer each, each may be a tie.
    guard limits.agreement > 0 else { return measures }
    return measures + [
      Measure(
        .top1Agreement, "positions with the same top-1 token", single.top1Agreement, .positions,
        limit: limits.agreement, isLowerLimit: true)
    ]
  }
}

extension OutputVerdict {
  private var partMeasures: [Measure] {
    guard let parts = claims.judgement.parts else { return [] }
    var measures = [
      Measure(
        .parts, "parts of the file that equal the source's" + (parts.isComplete ? ", for any input" : ""),
        Double(parts.parts.count { $0.holds }),
        .parts, limit: Double(parts.parts.count), isLowerLimit: true, isLimitMeasured: false, holds: parts.holds)
    ]
    if let worst = parts.worst {
      measures.append(
        Measure(
          .largestPartDifference, "largest difference of a weight, over its rounding", worst.ratio,
          .rounding, limit: 1, isLimitMeasured: false))
    }
    return measures
  }
}

extension ConversionReport {
  /// The verdict on each output; empty without a verification.
  public var verdicts: [OutputVerdict] {
    guard let verification else { return [] }
    return zip(outputs, verification.targets).map {
      OutputVerdict(output: $0, claims: $1, verification: verification)
    }
  }
}
