import NormFoldFormats
import NormFoldNetworks

/// Integers that a network is computed in, in place of floating point.
///
///     evaluation.integers = try IntegerArithmetic(parsing: "int:8,12")
public struct IntegerArithmetic: Hashable, Sendable {
  public enum Form: Hashable, Sendable {
    /// Dynamic fixed point (arXiv 2207.08822, 2209.09815): the numbers of a tensor are integers of so many bits, the sign
    /// among them, with one power of two in common, which is taken from the largest of them.
    case dynamic(weightBits: Int, activationBits: Int)
    /// Integers modulo 2^`bits` that stand for multiples of 2^−`fraction`, as secure computation uses them.
    case fixed(bits: Int, fraction: Int)
  }

  /// The numbers that have a power of two in common in dynamic fixed point.
  public enum Scales: String, Hashable, Sendable, CaseIterable {
    /// All numbers of a matrix, and of a value of the network over all tokens of a sequence.
    case tensor
    /// The numbers of a matrix that go into one output, and the numbers of one token.
    case channel
  }

  public var form: Form
  public var scales = Scales.tensor
  /// Is true if dynamic fixed point takes in the two products of attention, too, which the paper does not name.
  public var includesAttention = false

  public init(_ form: Form) { self.form = form }

  /// Reads `int:8,12`, 8 bits for weights and 12 for activations, or `fixed:64,16`, 64 bits of which 16 are behind the
  /// point.
  ///
  /// - Throws: `.usage` for anything else, and for widths out of ``dynamicBits`` and ``fixedBits``.
  public init(parsing text: String) throws(Refusal) {
    let parts = text.split(separator: ":", omittingEmptySubsequences: false)
    let numbers =
      parts.count == 2 ? parts[1].split(separator: ",", omittingEmptySubsequences: false).map { Int($0) } : []
    guard parts.count == 2, ["int", "fixed"].contains(parts[0]), numbers.count == 2, let first = numbers[0],
      let second = numbers[1]
    else {
      throw Refusal(
        .usage, subject: text, "is no arithmetic on integers",
        advice:
          "give int:W,A, the bits of weights and of activations, or fixed:K,F, all bits and those behind the point, "
          + "as in int:8,12 or fixed:64,16")
    }
    if parts[0] == "int" {
      for bits in [first, second] where !Self.dynamicBits.contains(bits) {
        throw Refusal(
          .usage, subject: text,
          "\(bits) bits: expected \(Self.dynamicBits.lowerBound) to \(Self.dynamicBits.upperBound), the sign among them"
        )
      }
      self.init(.dynamic(weightBits: first, activationBits: second))
    } else {
      guard Self.fixedBits.contains(first) else {
        throw Refusal(
          .usage, subject: text,
          "\(first) bits: expected \(Self.fixedBits.lowerBound) to \(Self.fixedBits.upperBound), the sign among them")
      }
      // A product has twice as many bits behind the point, and needs one before it, and the sign.
      guard second >= 1, 2 * second <= first - 2 else {
        throw Refusal(
          .usage, subject: text,
          "\(second) bits behind the point: expected 1 to \((first - 2) / 2), so that a product of two numbers has room in "
            + "\(first) bits")
      }
      self.init(.fixed(bits: first, fraction: second))
    }
  }

  /// The bits that a mantissa may have in dynamic fixed point: with 24, a Float is exact.
  public static let dynamicBits = 2...24
  /// The bits of the ring of fixed point.
  public static let fixedBits = 8...64

  /// The word that ``init(parsing:)`` reads.
  public var name: String {
    switch form {
    case .dynamic(let weights, let activations): "int:\(weights),\(activations)"
    case .fixed(let bits, let fraction): "fixed:\(bits),\(fraction)"
    }
  }

  /// Bits of the sums that products are accumulated in. They are kept in Doubles, which hold integers of 53 bits and a sign
  /// exactly.
  static let accumulatorBits = 53

  /// - Throws: `.unsupported` for retention, and where a sum of products of such integers could need more bits than there are.
  package func requireForm(of network: Network) throws(Refusal) {
    if let (path, name) = network.peculiarity {
      throw Refusal(
        .unsupported, subject: "\(path)", "\(name) has no form in integers", advice: "leave the integers out")
    }
    guard case .dynamic(let weights, let activations) = form else { return }
    for node in network.nodes {
      let (ofProduct, terms): (Int, Int)
      switch node.operation {
      case .linear(let map): (ofProduct, terms) = (weights + activations - 2, map.weight.rowCount)
      // The difference of two numbers has one bit more than they have.
      case .norm(let norm): (ofProduct, terms) = (2 * activations, norm.gain.columnCount + 1)
      case .attend where includesAttention: (ofProduct, terms) = (2 * activations - 2, network.contextLength)
      default: continue
      }
      let bits = ofProduct + (Int.bitWidth - max(0, terms - 1).leadingZeroBitCount)
      guard bits <= Self.accumulatorBits else {
        throw Refusal(
          .unsupported, subject: "\(node.path)",
          "a sum of \(terms) products of integers may need \(bits) bits under \(name), and there are "
            + "\(Self.accumulatorBits)", advice: "give narrower integers")
      }
    }
  }
}

extension IntegerArithmetic: Encodable {
  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(name)
  }
}

/// Numbers that did not fit into the integers of an arithmetic, by operation.
///
///     for overflow in integers.overflows { print(overflow.path, overflow.count) }
public struct IntegerOverflow: Hashable, Sendable, Encodable {
  /// The operation whose result it was.
  public var path: String
  /// The number of values that did not fit.
  public var count: Int

  package init(path: String, count: Int) { (self.path, self.count) = (path, count) }
}
