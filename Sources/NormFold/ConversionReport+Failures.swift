import NormFoldFolding
import NormFoldNetworks
import NormFoldVerify

extension ConversionReport {
  /// Says where it goes wrong, in sentences for whoever has to find out why; none where every claim holds.
  public var failures: [String] { zip(outputs, verification?.targets ?? []).flatMap { $1.failures(of: $0) } }
}

extension Verification.TargetClaims {
  fileprivate func failures(of output: ConversionReport.Output) -> [String] {
    if !partsHold, let parts = judgement.parts {
      return ["\(output.target) does not hold what the source holds."] + parts.failureSentences()
    }
    guard !(algebraHolds && arithmeticHolds) else { return [] }
    let outcome = algebraHolds ? judgement.single : judgement.double
    let worst = outcome.logits.worst
    if outcome.logits.tokenCount == 0 {
      return [
        "\(output.target) does not compute what the source computes: its \(judgement.noun)s are NaN or infinite on every token."
      ] + (judgement.overflow.map { [$0.sentence] } ?? [])
    }
    var sentences = [
      "\(output.target) does not compute what the source computes. Worst: \(worst.probe), position \(worst.position), "
        + "\(judgement.limits.isOfDistribution ? "token" : "number") \(worst.token): expected \(Quantity.short(worst.expected)), found \(Quantity.short(worst.found))."
    ]
    if let overflow = judgement.overflow { return sentences + [overflow.sentence] }
    // Centred, they part by their means.
    if output.isCentred { return sentences }
    if let first = outcome.residuals.first(where: { !($0.relative <= 1e-6) }) {
      sentences.append(
        "The residual streams part \(first.depth == 0 ? "at the embedding" : "in block \(first.depth - 1)"): "
          + "\(Quantity.scientific(first.relative)) of the largest value.")
    } else if !outcome.residuals.isEmpty {
      sentences.append("The residual streams agree, so the difference arises in the unembedding.")
    }
    return sentences
  }
}

extension ProgramOverflow {
  /// Says what does not fit, and where.
  package var sentence: String {
    "It computes in \(type), which ends at \(Int(largest)), and \(place) reaches \(Quantity.short(value)): take a type of a "
      + "larger range."
  }
}
