import Foundation
import NormFold
import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks
import NormFoldProcesses
import Testing
import TestSupport

@testable import NormFoldTraining

/// Training with linear maps, embeddings and norms in integers.
@Suite struct IntegerTrainingTests {
  private static func run<Scalar: ArithmeticScalar>(
    on name: String, _ arithmetic: String?, as _: Scalar.Type = Double.self, context: Int = 9, threads: Int = 2,
    recomputesBlocks: Bool = false, processes: any ProcessGroup = SingleProcess()
  ) throws -> TrainingRun<Scalar> {
    let model = try Model(opening: Fixtures.path(name))
    return try TrainingRun(
      model.network, namesAfter: model.layout.prefix, recipe: recipe(context: context), tokens: tokens(for: model),
      workers: Workers(count: threads), recomputesBlocks: recomputesBlocks, processes: processes,
      integers: arithmetic.map { try IntegerArithmetic(parsing: $0) })
  }

  private static func recipe(context: Int) -> Recipe {
    var recipe = Recipe()
    (recipe.context, recipe.batch, recipe.microBatches, recipe.steps, recipe.rate) = (context, 1, 2, 20, 1e-3)
    recipe.maskedTarget = 7
    recipe.schedule = Schedule([
      .mlp: .init(step: 2), .queriesAndKeys: .init(step: 4), .values: .init(step: 8), .last: .init(step: 9),
    ])
    return recipe
  }

  private static func tokens(for model: Model) -> TrainingTokens {
    var generator = SplitMix64(state: 1)
    let ids = (0..<400).map { _ in Int(generator.next() % UInt64(model.network.vocabularySize)) }
    return TrainingTokens(ids, source: "test")
  }

  /// Computed norms, some fixed ones, and fixed ones only; weights of both orders, tied and not, with and without biases,
  /// LayerNorms and RMSNorms, blocks beside each other.
  @Test(
    "Every gradient of a step is, bit for bit, what plain loops over 64-bit integers make of it",
    arguments: [
      ("tiny-2x32/vanilla", "int:8,12", 0), ("tiny-2x32/vanilla", "int:16,16", 5), ("tiny-2x32/vanilla", "int:8,8", 10),
      ("gpt-neox/parallel", "int:8,8", 3), ("llama/random", "int:10,10", 0), ("llama/random", "int:4,5", 10),
    ])
  func gradients(name: String, arithmetic: String, steps: Int) throws {
    let run: TrainingRun<Double> = try Self.run(on: name, arithmetic)
    for _ in 0..<steps { _ = try run.advance() }
    let loss = try run.computeGradients().loss
    let found = run.parameters.gradients.array
    let model = try Model(opening: Fixtures.path(name))
    let tokens = Self.tokens(for: model)
    let sequences = (0..<2).map { index in
      let first = (2 * steps + index) * 9
      return Array(tokens[first..<first + 9])
    }
    let plain = try PlainStep(run, arithmetic: IntegerArithmetic(parsing: arithmetic), sequences: sequences)
    #expect(plain.loss == loss)
    var compared = 0
    for entry in run.parameters.entries {
      #expect(Array(found[entry.range]) == Array(plain.gradients[entry.range]), "\(entry.name)")
      compared += Array(found[entry.range]).count { $0 != 0 }
    }
    #expect(compared > 1_000)
  }

  @Test("With 20 bits, gradients are those of floating point but for rounding; each bit less costs more")
  func widths() throws {
    let float: TrainingRun<Double> = try Self.run(on: "gpt-neox/parallel", nil)
    _ = try float.computeGradients()
    let expected = float.parameters.gradients.array
    let scale = expected.reduce(0) { $0 + $1 * $1 }.squareRoot()
    let errors = try ["int:20,20", "int:16,16", "int:12,12", "int:8,8"].map { arithmetic in
      let run: TrainingRun<Double> = try Self.run(on: "gpt-neox/parallel", arithmetic)
      _ = try run.computeGradients()
      return zip(run.parameters.gradients.array, expected).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }.squareRoot()
        / scale
    }
    #expect(errors == errors.sorted())
    #expect(errors[0] < 1e-4)
    #expect(errors[3] > 1e-3)
  }

  @Test("Derivatives that are rounded at random are right in the mean")
  func unbiased() throws {
    let network = try Model(opening: Fixtures.path("tiny-2x32/vanilla")).network
    let backend = DynamicBackend<Double>(
      probes: [Probe(name: "", tokens: [1])], weightBits: 4, activationBits: 8)
    let x = Matrix<Double>(rows: 1, columns: 3)
    for (index, value) in [0.9, 0.31, -0.07].enumerated() { x.values[index] = value }
    var sums = [0.0, 0, 0]
    let count = 20_000
    for step in 0..<count {
      let rounded = backend.derivative(x, rounding: CountedRandom(step: step, sequence: 1, path: network.output))
      for index in 0..<3 { sums[index] += rounded.numbers.values[index] * 0x1p-3 }
    }
    // 0.9 is beyond the largest integer, 7/8.
    #expect(sums[0] == 0.875 * Double(count))
    // Five standard deviations of a mean of so many numbers that are an eighth apart.
    #expect(abs(sums[1] / Double(count) - 0.31) < 5 * 0.0625 / Double(count).squareRoot())
    #expect(abs(sums[2] / Double(count) + 0.07) < 5 * 0.0625 / Double(count).squareRoot())
  }

  @Test("The number of threads and what is kept change no bit, and another run has the same bits")
  func bits() throws {
    var found: [[Float]] = []
    for (threads, recomputesBlocks) in [(1, false), (2, false), (2, true)] {
      let run = try Self.run(
        on: "gpt-neox/parallel", "int:8,12", as: Float.self, threads: threads, recomputesBlocks: recomputesBlocks)
      for _ in 0..<4 { _ = try run.advance() }
      found.append(Array(run.parameters.allValues))
    }
    #expect(found[0] == found[1])
    #expect(found[0] == found[2])
  }

  @Test("Two processes take the steps of one, up to the rounding of sums")
  func processes() throws {
    let one: TrainingRun<Double> = try Self.run(on: "tiny-2x32/vanilla", "int:8,12")
    _ = try one.computeGradients()
    let expected = one.parameters.gradients.array
    let found = LocalProcesses.run(2) { process -> [Double] in
      let run: TrainingRun<Double>? = try? Self.run(on: "tiny-2x32/vanilla", "int:8,12", processes: process)
      _ = try? run?.computeGradients()
      return run?.parameters.gradients.array ?? []
    }
    // Derivatives are rounded by what a sequence's number is, and not by who computes it.
    for gradients in found {
      #expect(gradients.count == expected.count)
      #expect(zip(gradients, expected).allSatisfy { abs($0 - $1) <= 1e-14 })
    }
  }

  @Test("A run that was saved and goes on has the bits of one that was not, and another arithmetic does not go on")
  func resumption() throws {
    let directory = try TemporaryDirectory()
    let stored = TrainingCheckpoint(at: directory.path + "/out.removal")
    func identity(_ arithmetic: String?) -> TrainingCheckpoint.Identity {
      .init(recipe: Self.recipe(context: 9), tokens: 5, precision: .single, arithmetic: arithmetic)
    }
    let model = try Model(opening: Fixtures.path("tiny-2x32/vanilla"))
    let whole = try Self.run(on: "tiny-2x32/vanilla", "int:8,12", as: Float.self)
    var history = TrainingHistory()
    for step in 0..<6 {
      if step == 3 {
        try stored.write(whole, of: model, identity("int:8,12"), history: history, beside: [], marksNorms: true)
      }
      history.append(try whole.advance(), deviations: whole.deviations, of: 20)
    }
    let resumed = try Self.run(on: "tiny-2x32/vanilla", "int:8,12", as: Float.self)
    var other = try stored.restore(resumed, identity("int:8,12"))
    for _ in 3..<6 { other.append(try resumed.advance(), deviations: resumed.deviations, of: 20) }
    #expect(other == history)
    #expect(Array(resumed.parameters.allValues) == Array(whole.parameters.allValues))
    for arithmetic in [nil, "int:8,8"] {
      let refusal = #expect(throws: Refusal.self) { _ = try stored.restore(resumed, identity(arithmetic)) }
      #expect(refusal?.problem == "the run that is to go on computed in int:8,12")
    }
  }

  @Test(
    "What nothing is trained in is refused",
    arguments: [
      (
        "fixed:64,16", false, false,
        "'fixed:64,16': is not trained in: the way back has a form in dynamic fixed point only; give int:W,A"
      ),
      (
        "int:8,8", true, false,
        "'int:8,8': is trained with one exponent for a tensor: sums over tokens need the same for all of them; leave the scales of channels out"
      ),
      (
        "int:8,8", false, true,
        "'int:8,8': is trained with attention in floating point: its way back has no form in integers; leave attention out"
      ),
      (
        "int:24,12", false, false,
        "'unembedding': a sum of 512 products of integers may need 55 bits on the way back under int:24,12, and there are 53; give narrower integers"
      ),
    ])
  func refusals(text: String, isByChannel: Bool, includesAttention: Bool, expected: String) throws {
    let network = try Model(opening: Fixtures.path("tiny-2x32/vanilla")).network
    var arithmetic = try IntegerArithmetic(parsing: text)
    arithmetic.scales = isByChannel ? .channel : .tensor
    arithmetic.includesAttention = includesAttention
    let refusal = #expect(throws: Refusal.self) {
      try arithmetic.requireForm(ofTraining: network, context: 9)
    }
    #expect(refusal?.description == expected)
  }

  @Test("A removal in integers is trained, saved, folded and proved like any other")
  func removal() throws {
    let directory = try TemporaryDirectory()
    var removal = Removal(
      source: Fixtures.path("tiny-2x32/vanilla"), destination: directory.path + "/out", targets: ["transformers"])
    removal.text = .tokens(file: Fixtures.path("removal/tokens.bin"))
    removal.recipe = try Recipe(named: Fixtures.path("removal/settings.json"))
    let float = try removal.run()
    removal.destination = directory.path + "/integers"
    removal.integers = try IntegerArithmetic(parsing: "int:12,12")
    let report = try removal.run()
    #expect(report.integers?.name == "int:12,12")
    #expect(report.conversion.published && report.conversion.outputs[0].isNormFree)
    #expect(report.records.map(\.loss) != float.records.map(\.loss))
    #expect(abs(report.finalLoss - float.finalLoss) < 0.05)
  }
}

/// The loss of a step and its gradients, the operations that are in integers computed by ``PlainBackward``.
private struct PlainStep {
  private(set) var loss = 0.0
  private(set) var gradients: [Double]
  private let run: TrainingRun<Double>
  private let network: Network
  private let plain: PlainBackward
  private let arithmetic: IntegerArithmetic
  private let step: TrainingStep<Double>

  init(_ run: TrainingRun<Double>, arithmetic: IntegerArithmetic, sequences: [[Int]]) throws {
    self.run = run
    self.arithmetic = arithmetic
    network = try run.network(atStep: run.step)
    guard case .dynamic(let weights, let activations) = arithmetic.form else { preconditionFailure("no such integers") }
    plain = PlainBackward(weightBits: weights, activationBits: activations)
    gradients = [Double](repeating: 0, count: run.parameters.gradients.columnCount)
    step = TrainingStep(
      network: network, parameters: run.parameters, workers: .one,
      targetCount: sequences.reduce(0) { $0 + $1.dropFirst().count { $0 != 7 } }, microBatchCount: 2, maskedTarget: 7,
      auxiliary: nil, measured: [:], recomputesBlocks: false)
    for (number, tokens) in sequences.enumerated() { try add(tokens, number) }
  }

  private mutating func add(_ numbers: [Double], to parameter: Parameter, isWeight: Bool = false) {
    let entry = run.parameters.entry(of: parameter)
    // A derivative is [in, out], and a weight may lie the other way round.
    let width = parameter.shape.last ?? 1
    for (index, number) in numbers.enumerated() {
      let place = entry.isTransposed && isWeight ? index % width * entry.shape[1] + index / width : index
      gradients[entry.offset + place] += number
    }
  }

  private mutating func add(_ tokens: [Int], _ number: Int) throws {
    let probe = Probe(name: "text", tokens: tokens)
    guard case .dynamic(let weights, let activations) = arithmetic.form else { return }
    // The way forward is held against plain loops elsewhere.
    let backend = DynamicBackend<Double>(probes: [probe], weightBits: weights, activationBits: activations)
    let float = FastBackend<Double>(probes: [probe])
    let mirrored = FastBackend<Double>(
      probes: [Probe(name: "text", tokens: tokens, positions: probe.positions.map { -$0 })])
    var values: [Path: Matrix<Double>] = [:]
    var execution = Execution(network, on: backend)
    for stage in 0..<execution.stageCount {
      try execution.run(stage: stage) { node, _, result in values[node.path] = result }
    }
    var derivatives: [Path: Matrix<Double>] = [:]
    func add(_ derivative: Matrix<Double>, at path: Path) {
      guard let old = derivatives[path] else { return derivatives[path] = derivative }
      derivatives[path] = matrix(zip(old.array, derivative.array).map(+), rows: old.rowCount)
    }
    func matrix(_ numbers: [Double], rows: Int) -> Matrix<Double> {
      let result = Matrix<Double>(rows: rows, columns: numbers.count / rows)
      for index in numbers.indices { result.values[index] = numbers[index] }
      return result
    }
    let steps = run.step
    for node in network.nodes.reversed() {
      func value(_ operand: Int) -> Matrix<Double> {
        guard let value = values[node.operands[operand]] else { preconditionFailure("not computed") }
        return value
      }
      var upper: Matrix<Double>
      if node.path == network.output {
        guard let logits = values[node.path] else { preconditionFailure("no logits") }
        var (losses, rows): ([Double], [Double]) = ([], [])
        for row in 0..<tokens.count - 1 {
          losses.append(step.pullBackLoss(logits.row(row), target: tokens[row + 1]))
          rows += Array(logits.row(row))
        }
        loss += losses.reduce(0, +)
        upper = matrix(rows, rows: tokens.count - 1)
      } else {
        guard let found = derivatives.removeValue(forKey: node.path) else { continue }
        upper = found
      }
      func rounded() -> PlainBackward.Mapped {
        plain.derivative(upper.array, step: steps, sequence: number, path: node.path)
      }
      let count = upper.rowCount
      switch node.operation {
      case .embed(let table, let index):
        let (found, width) = (rounded(), table.columnCount)
        let places = index == .token ? tokens : Array(tokens.indices)
        var sums = [Int](repeating: 0, count: table.elementCount)
        for (row, place) in places.enumerated() {
          for column in 0..<width { sums[place * width + column] += found.integers[row * width + column] }
        }
        self.add(sums.map { Double($0) * plain.power(found.exponent) }, to: table)
      case .linear(let map):
        let (found, width) = (rounded(), map.weight.rowCount)
        let weight = plain.map(ParameterReader(map.weight).values(), weights)
        var x = plain.map(value(0).array, activations)
        x.integers = Array(x.integers.prefix(count * width))
        self.add(
          plain.product(
            x, found, rows: width, inner: count, columns: map.weight.columnCount, transposesA: true),
          to: map.weight, isWeight: true)
        if let bias = map.bias {
          self.add(
            (0..<upper.columnCount).map { column in
              (0..<count).reduce(0) { $0 + upper.row($1)[column] }
            }, to: bias)
        }
        let down = plain.product(
          found, weight, rows: count, inner: upper.columnCount, columns: width, transposesB: true)
        let rest = [Double](repeating: 0, count: (tokens.count - count) * width)
        add(matrix(down + rest, rows: tokens.count), at: node.operands[0])
      case .norm(let norm):
        let found = plain.norm(rounded(), of: value(0).array, by: norm)
        self.add(found.gain, to: norm.gain)
        if let bias = norm.bias { self.add(found.bias, to: bias) }
        add(matrix(found.derivative, rows: count), at: node.operands[0])
      case .rotate: add(try mirrored.evaluate(node, [upper]), at: node.operands[0])
      case .attend(let attention):
        guard let output = values[node.path] else { preconditionFailure("not computed") }
        let result = Pullback.attention(
          upper, query: value(0), key: value(1), value: value(2), output: output, by: attention, workers: .all)
        for (operand, derivative) in zip(node.operands, [result.query, result.key, result.value]) {
          add(derivative, at: operand)
        }
      case .activate(let activation):
        add(Pullback.activation(upper, of: value(0), by: activation, workers: .all), at: node.operands[0])
      case .scale: add(try float.evaluate(node, [upper]), at: node.operands[0])
      case .add: for operand in node.operands { add(upper, at: operand) }
      case .multiply:
        let (a, b) = (value(0), value(1))
        add(try float.evaluate(node, [upper, b]), at: node.operands[0])
        add(try float.evaluate(node, [upper, a]), at: node.operands[1])
      default: preconditionFailure("\(node.operation.kind) is not trained")
      }
    }
  }
}
