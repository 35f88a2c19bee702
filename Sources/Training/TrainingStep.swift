import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks
import Numerics

/// The loss of one optimiser step and its derivatives by all parameters, which are added up in
/// ``TrainedParameters/gradients`` micro-batch by micro-batch.
///
/// Work is cut at fixed sizes, and sums are taken in a fixed order, whoever does the work: the result has the same bits with
/// any number of threads.
struct TrainingStep<Scalar: ArithmeticScalar> {
  /// The network of this step, some of its norms fixed.
  let network: Network
  let parameters: TrainedParameters<Scalar>
  let workers: Workers
  /// The targets of the whole step that count, which the loss is the mean over.
  let targetCount: Int
  let microBatchCount: Int
  let maskedTarget: Int?
  let auxiliary: AuxiliaryLoss?
  /// The norms to measure, each with its ε, by name.
  let measured: [String: Double]
  let recomputesBlocks: Bool
  /// The integers that products are in; nil for floating point.
  var integers: TrainingIntegers?

  /// Sums of a step so far.
  struct Sums {
    var loss = 0.0
    var auxiliary = 0.0
    /// By the name of the norm: Σ √(variance + ε) and the number of tokens.
    var deviations: [String: (sum: Double, count: Int)] = [:]
  }

  private func passes(of sequences: [[Int]], from first: Int) -> [SequencePass<Scalar>] {
    sequences.enumerated().map { index, tokens in
      SequencePass<Scalar>(network, tokens: tokens, workers: workers, integers: integers, number: first + index)
    }
  }

  /// Adds a micro-batch: sequences of one length.
  ///
  /// - Parameter first: the number of the first of them within the step.
  func add(_ sequences: [[Int]], from first: Int, to sums: inout Sums) throws(Refusal) {
    let passes = passes(of: sequences, from: first)
    let kept = network.keptValues(recomputesBlocks: recomputesBlocks)
    let records = passes.map { _ in DeviationSums() }
    try workers.forEach(passes.count) { (index) throws(Refusal) in
      try passes[index].run(keeping: kept) { _, norm, x in
        if let epsilon = measured[norm.name] { records[index].add(x, of: norm, epsilon: epsilon, workers: workers) }
      }
    }
    for record in records {
      for (name, value) in record.sums {
        let old = sums.deviations[name] ?? (0, 0)
        sums.deviations[name] = (old.sum + value.sum, old.count + value.count)
      }
    }
    sums.loss += try pullBackHead(passes)
    if let auxiliary {
      sums.auxiliary += try auxiliary.pullBack(passes, share: 1 / Double(microBatchCount)) / Double(microBatchCount)
    }
    // While derivatives by values go on to the norm before, those by the parameters that lie behind it are added up.
    var behind: [Found] = []
    for part in network.partsOnTheWayBack {
      let last = behind
      let (found, _) = try workers.both { () throws(Refusal) in
        try pullBack(part, passes)
      } _: { () throws(Refusal) in
        addDerivatives(last, of: passes)
      }
      behind = found
    }
    addDerivatives(behind, of: passes)
  }

  /// Runs the pullbacks of some operations, one behind the other.
  private func pullBack(_ nodes: [Network.Node], _ passes: [SequencePass<Scalar>]) throws(Refusal) -> [Found] {
    var found: [Found] = []
    for node in nodes {
      try workers.forEach(passes.count) { (index) throws(Refusal) in
        try passes[index].pullBack(node, parameters: parameters)
      }
      found.append((node, passes.map(\.found)))
    }
    return found
  }

  /// An operation and what its pullbacks found, one for each sequence.
  private typealias Found = (node: Network.Node, derivatives: [ParameterDerivatives<Scalar>])

  /// The share in the loss that sequences have, without any derivative.
  func loss(of sequences: [[Int]]) throws(Refusal) -> Double {
    let passes = passes(of: sequences, from: 0)
    guard let head = network.node(at: network.output), case .linear(let map) = head.operation else {
      preconditionFailure("the output is no linear map")
    }
    try workers.forEach(passes.count) { (index) throws(Refusal) in
      try passes[index].run(keeping: [head.operands[0]]) { _, _, _ in }
    }
    var sum = 0.0
    for pass in passes {
      let x = try pass.value(at: head.operands[0])
      let mapped = pass.integers?.mapped(x)
      var logits = Matrix<Scalar>(
        rows: mapped == nil ? min(Self.headTokens, x.rowCount) : 0, columns: map.weight.columnCount)
      for first in stride(from: 0, to: x.rowCount - 1, by: Self.headTokens) {
        let rows = first..<min(first + Self.headTokens, x.rowCount - 1)
        if let integers = pass.integers, let mapped {
          logits = integers.apply(map, to: mapped, rows: rows, at: network.output)
        } else {
          computeLogits(of: map, x, rows, into: logits)
        }
        let computed = logits
        let losses = Matrix<Double>.zeros(count: rows.count)
        workers.forEach(rows.count) { row in
          unsafe losses.start[row] = unsafe pullBackLoss(
            computed.row(row), target: pass.tokens[rows.lowerBound + row + 1])
        }
        sum += unsafe losses.values.reduce(0, +)
      }
    }
    return sum
  }

  // MARK: Parameters

  /// Rows of a weight whose derivatives are computed by one thread at a time.
  private static var weightRows: Int { 128 }
  /// Columns likewise, where a vector or the rows of a table are added up.
  private static var columns: Int { 32 }

  /// Operations have parameters of their own: none is added to by two of them.
  private func addDerivatives(_ found: [Found], of passes: [SequencePass<Scalar>]) {
    workers.forEach(found.count) { addDerivatives(of: found[$0].node, found[$0].derivatives, of: passes) }
  }

  private func addDerivatives(
    of node: Network.Node, _ found: [ParameterDerivatives<Scalar>], of passes: [SequencePass<Scalar>]
  ) {
    switch node.operation {
    case .embed(let table, let index):
      parameters.clearGradient(of: parameters.entry(of: table), workers: workers)
      addRows(of: parameters.entry(of: table), by: index, found, of: passes)
    case .linear(let map):
      let weight = parameters.entry(of: map.weight)
      if integers != nil {
        parameters.clearGradient(of: weight, workers: workers)
        forEachPart(of: weight.shape[0], Self.weightRows) { rows in
          for derivatives in found {
            guard let x = derivatives.integersOfOperand, let up = derivatives.integers else { continue }
            addProduct(weight.isTransposed ? up : x, weight.isTransposed ? x : up, rows: rows, to: weight)
          }
        }
      } else {
        addProducts(
          found.compactMap { found in
            guard let x = found.operand, let up = found.upper else { return nil }
            return weight.isTransposed ? (up, x) : (x, up)
          }, to: weight)
      }
      if let bias = map.bias { addColumnSums(of: found.compactMap(\.upper), to: parameters.entry(of: bias)) }
    case .norm(let norm):
      parameters.clearGradient(of: parameters.entry(of: norm.gain), workers: workers)
      if let bias = norm.bias { parameters.clearGradient(of: parameters.entry(of: bias), workers: workers) }
      for derivatives in found where !derivatives.gain.isEmpty {
        add(derivatives.gain, to: parameters.entry(of: norm.gain))
        if let bias = norm.bias { add(derivatives.bias, to: parameters.entry(of: bias)) }
      }
    case .patches, .features, .rotate, .attend, .activate, .scale, .scaleFeatures, .add, .multiply, .select: return
    }
  }

  private func forEachPart(of count: Int, _ size: Int, _ body: @Sendable (Range<Int>) -> Void) {
    workers.forEach((count + size - 1) / size) { body($0 * size..<min(($0 + 1) * size, count)) }
  }

  /// Products of two numbers that one thread takes at a time, about: hundredths of a second.
  private static var productsPerTask: Int { 1 << 29 }

  /// Adds Σ AᵀB over the sequences. A tile over many tokens is added up for some sequences each, and the sums are added in
  /// their order.
  private func addProducts(
    _ factors: [(Matrix<Scalar>, Matrix<Scalar>)], to entry: TrainedParameters<Scalar>.Entry
  ) {
    let tiles = ProductTile.squares(rowCount: entry.shape[0], outputCount: entry.shape[1])
    guard let largest = tiles.first, !factors.isEmpty else { return }
    let tokenCount = factors.reduce(0) { $0 + $1.0.rowCount }
    let productCount = largest.rows.count * largest.outputs.count * tokenCount
    let groupCount = min(factors.count, (productCount + Self.productsPerTask - 1) / Self.productsPerTask)
    let groups = (0..<groupCount).map { group in
      factors.count * group / groupCount..<factors.count * (group + 1) / groupCount
    }
    let sums = Matrix<Scalar>(rows: (groupCount - 1) * entry.shape[0], columns: entry.shape[1])
    let beginsGradient = parameters.beginsGradient(of: entry)
    workers.forEach(tiles.count * groupCount) { number in
      let (group, tile) = (number / tiles.count, tiles[number % tiles.count])
      let (row, column) = (tile.rows.lowerBound, tile.outputs.lowerBound)
      // The first group adds to what is there of this step, the others begin with nothing.
      var result = unsafe parameters.gradient(of: entry) + row * entry.stride + column
      let stride = group == 0 ? entry.stride : entry.shape[1]
      if group > 0 { unsafe result = sums.start + ((group - 1) * entry.shape[0] + row) * entry.shape[1] + column }
      var begins = group > 0 || beginsGradient
      for (a, b) in factors[groups[group]] {
        unsafe Scalar.multiplyTransposed(
          rows: tile.rows.count, columns: tile.outputs.count, inner: a.rowCount, a.start + row, strideA: a.columnCount,
          b.start + column, strideB: b.columnCount, beta: begins ? 0 : 1, into: result, strideC: stride)
        begins = false
      }
    }
    guard groupCount > 1 else { return }
    workers.forEachPart(of: entry.shape[0], size: max(1, (1 << 14) / entry.shape[1])) { rows in
      for row in rows {
        let gradient = unsafe UnsafeMutableBufferPointer(
          start: parameters.gradient(of: entry) + row * entry.stride, count: entry.shape[1])
        for group in 1..<groupCount {
          unsafe Scalar.add(gradient, sums.row((group - 1) * entry.shape[0] + row), into: gradient)
        }
      }
    }
  }

  private func addProduct(
    _ a: IntegerMatrix, _ b: IntegerMatrix, rows: Range<Int>, to entry: TrainedParameters<Scalar>.Entry
  ) {
    unsafe a.addTransposedProduct(
      b, rows: rows, to: parameters.gradient(of: entry) + rows.lowerBound * entry.stride, stride: entry.stride)
  }

  private func add(_ numbers: [Double], to entry: TrainedParameters<Scalar>.Entry) {
    let gradient = unsafe parameters.gradient(of: entry)
    for index in numbers.indices { unsafe gradient[index] += Scalar(numbers[index]) }
  }

  private func addColumnSums(of matrices: [Matrix<Scalar>], to entry: TrainedParameters<Scalar>.Entry) {
    parameters.clearGradient(of: entry, workers: workers)
    forEachPart(of: entry.count, Self.columns) { columns in
      unsafe withUnsafeTemporaryAllocation(of: Double.self, capacity: columns.count) { sums in
        unsafe sums.initialize(repeating: 0)
        for matrix in matrices { unsafe Scalar.addColumns(columns, of: matrix, to: sums) }
        let gradient = unsafe parameters.gradient(of: entry) + columns.lowerBound
        for column in 0..<sums.count { unsafe gradient[column] += unsafe Scalar(sums[column]) }
      }
    }
  }

  /// Rows of a table get the sum over all tokens that read them.
  @specialized(where Scalar == Float)
  @specialized(where Scalar == Double)
  private func addRows(
    of entry: TrainedParameters<Scalar>.Entry, by index: Operation.Index,
    _ found: [ParameterDerivatives<Scalar>], of passes: [SequencePass<Scalar>]
  ) {
    forEachPart(of: entry.stride, Self.columns) { columns in
      for (pass, found) in zip(passes, found) {
        if let integers = found.integers {
          unsafe integers.addRows(
            at: index == .token ? pass.tokens : Array(pass.tokens.indices), columns: columns,
            to: parameters.gradient(of: entry), stride: entry.stride)
          continue
        }
        guard let upper = found.upper else { continue }
        for (position, token) in pass.tokens.enumerated() {
          let gradient = unsafe parameters.gradient(of: entry) + (index == .token ? token : position) * entry.stride
          let line = unsafe upper.row(position)
          for column in columns { unsafe gradient[column] += unsafe line[column] }
        }
      }
    }
  }

  // MARK: Cross entropy

  /// Tokens whose logits are in memory at a time.
  private static var headTokens: Int { 1_024 }
  /// Tokens or vocabulary entries that one thread takes at a time.
  private static var headRows: Int { 8 }
  /// Wide parts of the vocabulary are faster; over many tokens they would be long tasks.
  private static func vocabulary(tokenCount: Int) -> Int { tokenCount > 512 ? 512 : 768 }
  /// Parts of the vocabulary over each of which products are added up by one thread at a time.
  static func headRowCount(ofTokens count: Int) -> Int { min(headTokens, count) }
  static func shareCount(ofVocabulary size: Int) -> Int { max(1, (size + 4_199) / 4_200) }

  /// The cross entropy of every next token, some tokens' logits at a time: logits → loss → their derivatives in place →
  /// those by the residual stream and the unembedding. The last token of a sequence predicts nothing.
  private func pullBackHead(_ passes: [SequencePass<Scalar>]) throws(Refusal) -> Double {
    guard let node = network.node(at: network.output), case .linear(let map) = node.operation else {
      preconditionFailure("the output is no linear map")
    }
    let vocabularySize = map.weight.columnCount
    let longest = passes.map { $0.tokens.count - 1 }.max() ?? 0
    let logits = Matrix<Scalar>(
      rows: integers == nil ? Self.headRowCount(ofTokens: longest) : 0, columns: vocabularySize)
    let sums = Matrix<Scalar>(
      rows: logits.rowCount * Self.shareCount(ofVocabulary: vocabularySize), columns: map.weight.rowCount)
    var sum = 0.0
    for pass in passes {
      let x = try pass.value(at: node.operands[0])
      if let integers = pass.integers {
        let derivative = Matrix<Scalar>.zeros(rows: x.rowCount, columns: x.columnCount)
        let mapped = integers.mapped(x)
        for first in stride(from: 0, to: x.rowCount - 1, by: Self.headTokens) {
          let rows = first..<min(first + Self.headTokens, x.rowCount - 1)
          sum += integerHead(map, mapped, rows, of: pass, integers, into: derivative)
        }
        pass.add(derivative, at: node.operands[0])
        continue
      }
      let derivative = Matrix<Scalar>.zeros(rows: x.rowCount, columns: x.columnCount)
      for first in stride(from: 0, to: x.rowCount - 1, by: Self.headTokens) {
        let rows = first..<min(first + Self.headTokens, x.rowCount - 1)
        sum += head(map, x, rows, targets: pass.tokens[(rows.lowerBound + 1)...], logits, sums, into: derivative)
      }
      pass.add(derivative, at: node.operands[0])
    }
    return sum
  }

  /// The logits of some tokens.
  private func computeLogits(
    of map: LinearMap, _ x: Matrix<Scalar>, _ rows: Range<Int>, into logits: Matrix<Scalar>
  ) {
    let weight = parameters.entry(of: map.weight)
    let (width, vocabularySize) = (x.columnCount, logits.columnCount)
    let bias = map.bias.map { parameters.entry(of: $0) }
    forEachPart(of: vocabularySize, Self.vocabulary(tokenCount: rows.count)) { part in
      unsafe Scalar.multiply(
        rows: rows.count, columns: part.count, inner: width, x.start + rows.lowerBound * width, strideA: width,
        parameters.value(of: weight) + part.lowerBound * (weight.isTransposed ? weight.stride : 1),
        strideB: weight.stride, isTransposed: weight.isTransposed, factor: 1, beta: 0,
        into: logits.start + part.lowerBound, strideC: vocabularySize)
      guard let bias else { return }
      let numbers = unsafe parameters.value(of: bias)
      for row in 0..<rows.count {
        let line = unsafe logits.row(row)
        for index in part { unsafe line[index] += unsafe numbers[index] }
      }
    }
  }

  private func head(
    _ map: LinearMap, _ x: Matrix<Scalar>, _ rows: Range<Int>, targets: ArraySlice<Int>, _ logits: Matrix<Scalar>,
    _ sums: Matrix<Scalar>, into derivative: Matrix<Scalar>
  ) -> Double {
    let weight = parameters.entry(of: map.weight)
    let (width, vocabularySize) = (x.columnCount, logits.columnCount)
    let bias = map.bias.map { parameters.entry(of: $0) }
    let start = rows.lowerBound * width
    let targets = Array(targets.prefix(rows.count))
    computeLogits(of: map, x, rows, into: logits)
    let losses = Matrix<Double>.zeros(count: rows.count)
    forEachPart(of: rows.count, Self.headRows) { part in
      for row in part {
        unsafe losses.start[row] = unsafe pullBackLoss(logits.row(row), target: targets[row])
      }
    }
    let beta: Scalar = parameters.beginsGradient(of: weight) ? 0 : 1
    let parts = weight.isTransposed ? Self.vocabulary(tokenCount: rows.count) : Self.weightRows
    _ = workers.both {
      unsafe pullBackLogits(logits, rows.count, through: weight, sums, into: derivative.start + start)
    } _: {
      forEachPart(of: weight.shape[0], parts) { part in
        let gradient = unsafe parameters.gradient(of: weight) + part.lowerBound * weight.stride
        if weight.isTransposed {
          unsafe Scalar.multiplyTransposed(
            rows: part.count, columns: width, inner: rows.count, logits.start + part.lowerBound,
            strideA: vocabularySize, x.start + start, strideB: width, beta: beta, into: gradient,
            strideC: weight.stride)
        } else {
          unsafe Scalar.multiplyTransposed(
            rows: part.count, columns: vocabularySize, inner: rows.count, x.start + start + part.lowerBound,
            strideA: width, logits.start, strideB: vocabularySize, beta: beta, into: gradient, strideC: weight.stride)
        }
      }
    }
    if let bias {
      parameters.clearGradient(of: bias, workers: workers)
      forEachPart(of: vocabularySize, Self.vocabulary(tokenCount: rows.count)) { part in
        let gradient = unsafe parameters.gradient(of: bias)
        for row in 0..<rows.count {
          let line = unsafe logits.row(row)
          for index in part { unsafe gradient[index] += unsafe line[index] }
        }
      }
    }
    return unsafe losses.values.reduce(0, +)
  }

  /// The derivative by the residual stream [rows, D] from those by the logits: the sums over some parts of the vocabulary, which
  /// are added in their order. Few rows and columns, and a long sum, would occupy few threads.
  private func pullBackLogits(
    _ logits: Matrix<Scalar>, _ rowCount: Int, through weight: TrainedParameters<Scalar>.Entry,
    _ sums: Matrix<Scalar>, into derivative: UnsafeMutablePointer<Scalar>
  ) {
    let (vocabularySize, width) = (logits.columnCount, sums.columnCount)
    let shareCount = Self.shareCount(ofVocabulary: vocabularySize)
    let share = (vocabularySize + shareCount - 1) / shareCount
    let tiles = ProductTile.tiles(rowCount: rowCount, outputCount: width)
    workers.forEach(shareCount * tiles.count) { number in
      let tile = tiles[number % tiles.count]
      let first = number / tiles.count * share
      let (row, column) = (tile.rows.lowerBound, tile.outputs.lowerBound)
      let start =
        (first * (weight.isTransposed ? weight.stride : 1)) + column * (weight.isTransposed ? 1 : weight.stride)
      unsafe Scalar.multiply(
        rows: tile.rows.count, columns: tile.outputs.count, inner: min(share, vocabularySize - first),
        logits.start + row * vocabularySize + first, strideA: vocabularySize, parameters.value(of: weight) + start,
        strideB: weight.stride, isTransposed: !weight.isTransposed, factor: 1, beta: 0,
        into: sums.start + (number / tiles.count * rowCount + row) * width + column, strideC: width)
    }
    nonisolated(unsafe) let derivative = unsafe derivative
    workers.forEachPart(of: rowCount * width, size: 1 << 14) { part in
      let result = unsafe UnsafeMutableBufferPointer(start: derivative + part.lowerBound, count: part.count)
      for number in 0..<shareCount {
        let sum = unsafe UnsafeMutableBufferPointer(
          start: sums.start + number * rowCount * width + part.lowerBound, count: part.count)
        if number == 0 { _ = unsafe result.update(from: sum) } else { unsafe Scalar.add(result, sum, into: result) }
      }
    }
  }

  /// The same with products in integers: the derivatives by the logits of these tokens are one tensor.
  private func integerHead(
    _ map: LinearMap, _ x: IntegerMatrix, _ rows: Range<Int>, of pass: SequencePass<Scalar>,
    _ integers: DynamicBackend<Scalar>, into derivative: Matrix<Scalar>
  ) -> Double {
    let logits = integers.apply(map, to: x, rows: rows, at: network.output)
    let losses = Matrix<Double>.zeros(count: rows.count)
    forEachPart(of: rows.count, Self.headRows) { part in
      for row in part {
        unsafe losses.start[row] = unsafe pullBackLoss(
          logits.row(row), target: pass.tokens[rows.lowerBound + row + 1])
      }
    }
    guard let upper = pass.rounded(logits, at: network.output, row: rows.lowerBound) else {
      preconditionFailure("a pass in integers has integers")
    }
    let found = integers.pullBack(upper, through: map.weight, at: network.output)
    _ = unsafe UnsafeMutableBufferPointer(rebasing: derivative.values[(rows.lowerBound * found.columnCount)...])
      .update(from: UnsafeBufferPointer(found.values))
    let weight = parameters.entry(of: map.weight)
    parameters.clearGradient(of: weight, workers: workers)
    let own = x.rows(rows)
    forEachPart(of: weight.shape[0], weight.isTransposed ? Self.vocabulary(tokenCount: rows.count) : Self.weightRows) {
      part in
      addProduct(weight.isTransposed ? upper : own, weight.isTransposed ? own : upper, rows: part, to: weight)
    }
    if let bias = map.bias { addColumnSums(of: [logits], to: parameters.entry(of: bias)) }
    return unsafe losses.values.reduce(0, +)
  }

  /// Replaces the logits of one token by the derivatives of the loss: (softmax − 1 at the target) / targets of the step.
  /// - Returns: its share of the loss.
  @specialized(where Scalar == Float)
  @specialized(where Scalar == Double)
  func pullBackLoss(_ logits: UnsafeMutableBufferPointer<Scalar>, target: Int) -> Double {
    guard target != maskedTarget else {
      unsafe logits.update(repeating: 0)
      return 0
    }
    let found = unsafe Double(logits[target])
    let largest = unsafe Scalar.largest(logits)
    let sum = unsafe Double(Scalar.sumOfExponentials(logits, shiftedBy: largest))
    let count = Double(targetCount)
    let factor = Scalar(1 / (sum * count))
    for index in 0..<logits.count { unsafe logits[index] *= factor }
    unsafe logits[target] -= Scalar(1 / count)
    return (Double(largest) + .log(sum) - found) / count
  }
}

extension Network {
  /// The operations behind which logits are computed, from the last one back, in parts that end at a norm.
  fileprivate var partsOnTheWayBack: [[Node]] {
    var parts: [[Node]] = [[]]
    for node in nodes.reversed() where node.path != output {
      parts[parts.count - 1].append(node)
      if case .norm = node.operation { parts.append([]) }
    }
    return parts
  }

  /// Returns how many derivatives by a token's values there are at a time: those of the part that is on its way back, and
  /// those of the part behind it, which are still being multiplied.
  package var derivativeWidth: Int {
    let widths = partsOnTheWayBack.map { part in part.reduce(0) { $0 + width(of: $1.path) } }
    return zip(widths, widths.dropFirst()).map(+).max() ?? widths.reduce(0, +)
  }
}

extension TrainingRun {
  /// The number of numbers that the pullback of the unembedding needs beside those that are kept: logits of some tokens, and
  /// parts of their derivative's sums.
  package static func headNumberCount(of network: Network, context: Int) -> Int {
    let rows = TrainingStep<Scalar>.headRowCount(ofTokens: context - 1)
    let size = network.vocabularySize
    return rows
      * (size + TrainingStep<Scalar>.shareCount(ofVocabulary: size) * (network.unembedding?.weight.rowCount ?? 0))
  }
}
