import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks
import Numerics

/// The head: logits and cross entropy, some tokens at a time.
extension TrainingStep {
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
  func pullBackHead(_ passes: [SequencePass<Scalar>]) throws(Refusal) -> Double {
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
