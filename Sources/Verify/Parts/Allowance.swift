/// The differences that are allowed besides the rounding of the candidate's weights.
package struct Allowance: Sendable {
  /// Is true if the reference's weights may have been rounded, too: nobody knows which of two files came first.
  package var countsReferenceRounding = false
  /// The number of roundings of single precision that whoever folded may have made on the way to each weight. Each of
  /// them may have moved the weight by 2⁻²⁴ of what was added up.
  package var foldingRoundings = 0.0

  /// The number of roundings in a sum of `count` products of weights: those of each weight, and those of the sum itself,
  /// whose error grows with the root of their number.
  func roundings(ofSumOf count: Int) -> Double {
    foldingRoundings == 0 ? 0 : foldingRoundings + Double(count).squareRoot()
  }

  /// For a file of ours: its weights were computed in double precision and rounded once.
  package static let conversion = Allowance()
  /// For files of others. A weight that is multiplied by γ, divided by σ and centred in single precision is rounded three
  /// times, and its mean as often as the sum has levels.
  package static let independent = Allowance(countsReferenceRounding: true, foldingRoundings: 8)
}
