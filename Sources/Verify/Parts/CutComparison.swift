import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks

/// Compares what a program computes between its products with a network's operations.
///
/// Both are given the same random results in the places of their products, and what they hand to the next product is
/// compared: norms, attention, rotations, activations, sums and biases, each stretch by itself, whatever the matrices are.
/// The states have several scales, zero among them, so that ε, biases and saturated activations show.
struct CutComparison {
  let program: any CuttableProgram
  let network: Network

  private static let scales = [0, 0.05, 0.3, 1, 3]
  private static let tokenCount = 7

  /// The largest difference that two values may have, over the largest value of their row: some roundings of the
  /// constants of formulas, which are stored in the program's type. Graphs of three exporters stay below a tenth of
  /// this bound.
  private var bound: Double {
    switch program.type {
    case .f16: 16 * 0x1p-11
    case .bf16: 16 * 0x1p-8
    default: 16 * 0x1p-24
    }
  }

  /// Adds a part for each map and for the output.
  ///
  /// - Throws: what the program throws.
  func add(to claim: inout PartsClaim) throws(Refusal) {
    withdraw(program.missing, from: &claim)
    if let first = program.missingVectors.first {
      // A bias is a part of its own.
      claim.parts.removeAll { part in program.missingVectors.contains { $0.description == part.path } }
      claim.notCompared.append(
        "\(program.missingVectors.count) gains and biases that the graph does not have as they are, \(first) the first")
    }
    guard program.missing.isEmpty else { return }
    var worst: [Path: (ratio: Double, problem: String?)] = [:]
    for (number, scale) in Self.scales.enumerated() {
      for (path, found) in try differences(scale: scale, seed: UInt64(number)) {
        if found.ratio > worst[path]?.ratio ?? -1 { worst[path] = found }
      }
    }
    let paths = network.linearMaps.map(\.path) + [network.output]
    for path in paths {
      guard let (ratio, problem) = worst[path] else { continue }
      let name = path == network.output ? "\(path).output" : "\(path).input"
      worst[path] = nil
      claim.parts.append(.init(path: name, ratio: ratio, problem: problem, isSampled: true))
    }
    claim.notCompared.append(
      "what the graph computes between its matrices, which was compared on \(Self.scales.count) sets of random states")
  }

  /// Takes back what was said of operations whose weights the program does not have: the network's own stand in their places.
  private func withdraw(_ paths: [Path], from claim: inout PartsClaim) {
    for path in paths {
      claim.notCompared.append("\(path): the graph has no weight that is nearly this one")
      claim.parts.removeAll { $0.path.hasPrefix("\(path).") }
      claim.elementCount -= (network[linear: path]?.weight ?? network[table: path])?.elementCount ?? 0
    }
  }

  private func differences(
    scale: Double, seed: UInt64
  ) throws(Refusal) -> [(Path, (ratio: Double, problem: String?))] {
    var random = SplitMix64(state: seed)
    let lengths = program.sequenceLengths
    let count = min(max(min(Self.tokenCount, network.contextLength), lengths.lowerBound), lengths.upperBound)
    let probe =
      if let image = network.image {
        Probe(
          name: "random states", pixels: (0..<image.pixelCount).map { _ in Double.random(in: -1...1, using: &random) },
          of: image)
      } else {
        Probe(
          name: "random states",
          tokens: (0..<count).map { _ in Int.random(in: 0..<network.vocabularySize, using: &random) })
      }
    let rowCount = program.rowCount(of: probe)
    var results: [[Double]] = []
    for product in program.products {
      results.append(
        (0..<rowCount * product.width).map { _ in scale * Double.random(in: -1...1, using: &random) })
    }
    var given: [Path: [[Double]]] = [:]
    for (product, result) in zip(program.products, results) {
      for map in product.maps {
        given[map.path] = (0..<probe.tokens.count).map { token in
          let row = token - product.firstRow
          return map.columns.map { row < 0 ? 0 : result[row * product.width + $0] }
        }
      }
    }
    var backend = CutBackend(plain: PlainBackend(probe), results: given)
    let expected = try network.evaluate(on: &backend)
    let (inputs, output) = try program.run(probe, products: results)
    var differences: [(Path, (ratio: Double, problem: String?))] = []
    for (product, found) in zip(program.products, inputs) {
      for map in product.maps {
        let expected = (backend.inputs[map.path] ?? []).dropFirst(product.firstRow)
        differences.append((map.path, difference(Array(expected), found, "reads")))
      }
    }
    let answers = network.task.isPerSequence ? Array(expected.prefix(1)) : expected
    differences.append((network.output, difference(answers, output, "gives")))
    return differences
  }

  private func difference(
    _ expected: [[Double]], _ found: [Double], _ verb: String
  ) -> (ratio: Double, problem: String?) {
    let width = expected.first?.count ?? 0
    // Where a sequence has one answer, a program may compute it for the first token alone.
    let rowCount = network.task.isPerSequence && found.count == width ? min(1, expected.count) : expected.count
    let expected = expected.prefix(rowCount)
    guard found.count >= expected.count * width else {
      return (.infinity, "\(verb) \(found.count) numbers, expected \(expected.count * width)")
    }
    var worst = (ratio: 0.0, problem: String?.none)
    for (row, values) in expected.enumerated() {
      let largest = values.reduce(0) { max($0, abs($1)) }
      for (column, value) in values.enumerated() {
        let other = found[row * width + column]
        let distance = abs(value - other)
        // Where a row is zero, so is what is found.
        let ratio = distance == 0 ? 0 : distance / (bound * largest)
        guard !(ratio <= worst.ratio) else { continue }
        let text =
          "\(verb) \(other.text(.significant(6))) in feature \(column) of token \(row), expected "
          + "\(value.text(.significant(6))), where the results of all products are the same random numbers"
        worst = (ratio.isNaN ? .infinity : ratio, ratio <= 1 ? nil : text)
      }
    }
    return worst
  }
}

/// Runs a network with given results of its maps.
private struct CutBackend: Backend {
  let plain: PlainBackend
  /// By map, before its bias is added.
  let results: [Path: [[Double]]]
  private(set) var inputs: [Path: [[Double]]] = [:]

  init(plain: PlainBackend, results: [Path: [[Double]]]) {
    (self.plain, self.results) = (plain, results)
  }

  mutating func evaluate(_ node: Network.Node, _ operands: [[[Double]]]) throws(Refusal) -> [[Double]] {
    guard case .linear(let map) = node.operation, let result = results[node.path] else {
      return try plain.evaluate(node, operands)
    }
    inputs[node.path] = operands[0]
    // A map behind a selection has fewer rows than there are tokens.
    let rows = Array(result.prefix(operands[0].count))
    guard let bias = map.bias.map({ ParameterReader($0).values() }) else { return rows }
    return rows.map { zip($0, bias).map { $0 + $1 } }
  }
}
