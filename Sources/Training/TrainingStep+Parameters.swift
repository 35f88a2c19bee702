import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks

/// From what pullbacks found to the derivatives by parameters.
extension TrainingStep {
  /// Rows of a weight whose derivatives are computed by one thread at a time.
  static var weightRows: Int { 128 }
  /// Columns likewise, where a vector or the rows of a table are added up.
  private static var columns: Int { 32 }

  /// Operations have parameters of their own: none is added to by two of them.
  func addDerivatives(_ found: [Found], of passes: [SequencePass<Scalar>]) {
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

  func forEachPart(of count: Int, _ size: Int, _ body: @Sendable (Range<Int>) -> Void) {
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

  func addProduct(
    _ a: IntegerMatrix, _ b: IntegerMatrix, rows: Range<Int>, to entry: TrainedParameters<Scalar>.Entry
  ) {
    unsafe a.addTransposedProduct(
      b, rows: rows, to: parameters.gradient(of: entry) + rows.lowerBound * entry.stride, stride: entry.stride)
  }

  private func add(_ numbers: [Double], to entry: TrainedParameters<Scalar>.Entry) {
    let gradient = unsafe parameters.gradient(of: entry)
    for index in numbers.indices { unsafe gradient[index] += Scalar(numbers[index]) }
  }

  func addColumnSums(of matrices: [Matrix<Scalar>], to entry: TrainedParameters<Scalar>.Entry) {
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
}
