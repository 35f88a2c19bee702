import ArgumentParser
import NormFold
import NormFoldArithmetic
import NormFoldFormats
import NormFoldVerify

/// The options that say in which integers a network is computed.
struct IntegerOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Compute in integers: int:W,A, dynamic fixed point with W bits for weights and A for activations, or fixed:K,F, K bits "
        + "of which F are behind the point. Given several times, what the width does is shown as well.",
      valueName: "int:W,A|fixed:K,F"))
  var arithmetic: [String] = []

  @Option(
    help: ArgumentHelp(
      "Which numbers share an exponent under int: those of a tensor, or of an output or a token.",
      valueName: "tensor|channel"))
  var integerScales: IntegerArithmetic.Scales?

  @Flag(help: "Compute the two products of attention in integers, too, under int.")
  var integerAttention = false

  func validate() throws {
    guard arithmetic.isEmpty, integerScales != nil || integerAttention else { return }
    throw ValidationError(
      "\(integerAttention ? "--integer-attention" : "--integer-scales") says something about --arithmetic, which is not given"
    )
  }

  /// The integers that are asked for first, and the others.
  func integers() throws(Refusal) -> (first: IntegerArithmetic?, others: [IntegerArithmetic]) {
    var all: [IntegerArithmetic] = []
    for name in arithmetic { all.append(try integers(named: name)) }
    return (all.first, Array(all.dropFirst()))
  }

  /// The integers of a measurement that takes no more than one kind of them.
  func single() throws(Refusal) -> IntegerArithmetic? {
    guard arithmetic.count < 2 else {
      throw Refusal(
        .usage, subject: arithmetic[1], "is one kind of integers too many: expected one for this measurement",
        advice: "give \(.integers) once")
    }
    return try integers().first
  }

  private func integers(named arithmetic: String) throws(Refusal) -> IntegerArithmetic {
    var integers = try IntegerArithmetic(parsing: arithmetic)
    if case .fixed = integers.form, integerScales != nil || integerAttention {
      throw Refusal(
        .usage, subject: arithmetic,
        "has one scale for all numbers, and attention is in integers anyway",
        advice: "leave out --integer-scales and --integer-attention")
    }
    integers.scales = integerScales ?? .tensor
    integers.includesAttention = integerAttention
    return integers
  }
}

extension IntegerArithmetic.Scales: ExpressibleByArgument {}

extension IntegerDrift {
  /// The lines that say what integers do to each network.
  var text: [String] {
    var table = Table(
      [
        arithmetic.name: .left, "KL mean": .right, "KL largest": .right, "same top-1": .right,
        "stream": .right,
      ])
    for network in networks {
      let logits = network.difference.logits
      table.add(
        network.name.printable, Quantity.scientific(logits.meanDivergence),
        Quantity.scientific(logits.largestDivergence),
        Quantity.percent(logits.top1Agreement),
        network.difference.residuals.last.map { Quantity.scientific($0.relative) } ?? "")
    }
    table.footnote =
      "In integers against double precision: nats, and the largest difference of the residual stream behind the last block"
    var lines = ["", table.text]
    for network in networks {
      guard let worst = network.overflows.first else { continue }
      lines.append(
        "  OVERFLOW in \(network.name.printable): \(Quantity.count(network.overflows.reduce(0) { $0 + $1.count })) numbers, "
          + "most of them at \(worst.path) (\(Quantity.count(worst.count))).")
    }
    return lines
  }
}
