import Conversion
import Verify

/// One output of a conversion with what is claimed of it.
package struct OutputClaims {
  package let output: ConversionReport.Output
  let claims: Verification.TargetClaims
  let verification: Verification

  var measure: String { claims.judgement.isUpToShift ? "log-probabilities" : "logits" }

  /// The largest difference that counts, over the largest logit.
  func share(_ difference: LogitDifference) -> Double {
    difference.largest(upToShift: claims.judgement.isUpToShift) / verification.largestLogit
  }

  /// A claim, what was found and what is allowed; a detail says more about the claim before it.
  package struct Row {
    package let name: String
    package let found: String
    package let limit: String
    /// nil where nothing is decided by it alone.
    package let holds: Bool?
    package var isDetail = false
  }

  /// The claims: about the parts, the algebra, the file and the run.
  package var rows: [Row] {
    let single = claims.judgement.single.logits
    var rows = partsRows
    rows += [
      Row(
        name: "folded weights compute the source's \(measure) (float64)",
        found: Quantity.scientific(share(claims.judgement.double.logits)),
        limit: Quantity.scientific(Verification.algebraLimit), holds: claims.algebraHolds),
      // A file with others would not have come this far.
      Row(
        name: "tensors in the file that are bit for bit what was meant", found: "\(output.verifiedTensorCount ?? 0)",
        limit: "\(output.tensorCount)", holds: output.verifiedTensorCount == output.tensorCount),
      Row(
        name: "\(output.type) file computes the source's \(measure) (float32)",
        found: Quantity.scientific(share(single)),
        limit: Quantity.scientific(claims.judgement.limits.logits / verification.largestLogit) + "*",
        holds: claims.arithmeticHolds),
    ]
    if let long = claims.judgement.long {
      rows.append(
        Row(
          name: "on \(Quantity.count(long.single.logits.tokenCount)) more tokens, the source in float32, too",
          found: Quantity.scientific(share(long.single.logits)),
          limit: Quantity.scientific(long.limits.logits / verification.largestLogit) + "*", holds: long.holds,
          isDetail: true))
    }
    rows += [
      Row(
        name: "Kullback-Leibler divergence, mean in nats", found: Quantity.scientific(single.meanDivergence),
        limit: Quantity.scientific(claims.judgement.limits.divergence) + "*", holds: nil, isDetail: true),
      Row(
        name: "positions with the same top-1 token", found: Quantity.percent(single.top1Agreement),
        limit: Quantity.percent(claims.judgement.limits.agreement) + "*", holds: nil, isDetail: true),
    ]
    return rows
  }

  private var partsRows: [Row] {
    guard let parts = claims.judgement.parts else { return [] }
    let holding = parts.parts.count { $0.holds }
    var rows = [
      Row(
        name: "parts that compute what the source's compute, for every input",
        found: "\(holding)", limit: "\(parts.parts.count)", holds: parts.holds)
    ]
    if let worst = parts.worst {
      rows.append(
        Row(
          name: "the largest difference of a weight, over what its rounding can do", found: Quantity.short(worst.ratio),
          limit: "1", holds: nil, isDetail: true))
    }
    return rows
  }
}

extension ConversionReport {
  /// Empty without a verification.
  package var claims: [OutputClaims] {
    guard let verification else { return [] }
    return zip(outputs, verification.targets).map {
      OutputClaims(output: $0, claims: $1, verification: verification)
    }
  }
}
