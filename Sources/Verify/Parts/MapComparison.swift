import CNormFoldKernels
import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks

/// The numbers of one side of a comparison of matrices:
///
///     m = f · Cᵢ · diag(g) · W · Cₒ        [in, out]
///
/// Cᵢ subtracts the mean of each column, Cₒ the mean of each row, where they are there.
struct MapNumbers: Sendable {
  /// W [in, out]
  var weight: Parameter
  /// f · g [in]; nil for ones.
  var factors: [Double]?
  /// The largest difference that a factor may have from the one that was meant, over the factor itself.
  var factorError = 0.0
  var centresInput = false
  var centresOutput = false
  /// The error of storing W; nil where W counts as exact.
  var error: StorageError?
}

/// The result of a comparison of two matrices or vectors: the largest ratio of a difference to its bound, and where it
/// is.
struct Difference: Sendable {
  /// At most 1 where everything is within its bound.
  var ratio = 0.0
  var input = 0
  var output = 0
  var expected = 0.0
  var found = 0.0
  /// The number of elements beyond their bound, and the rows and columns from the first to the last of them.
  var beyondCount = 0
  var inputs: ClosedRange<Int>?
  var outputs: ClosedRange<Int>?

  var holds: Bool { ratio <= 1 }

  mutating func merge(_ other: Difference) {
    if other.ratio > ratio || other.ratio.isNaN {
      (ratio, input, output) = (other.ratio.isNaN ? .infinity : other.ratio, other.input, other.output)
      (expected, found) = (other.expected, other.found)
    }
    beyondCount += other.beyondCount
    inputs = Self.union(inputs, other.inputs)
    outputs = Self.union(outputs, other.outputs)
  }

  private static func union(_ a: ClosedRange<Int>?, _ b: ClosedRange<Int>?) -> ClosedRange<Int>? {
    guard let a, let b else { return a ?? b }
    return min(a.lowerBound, b.lowerBound)...max(a.upperBound, b.upperBound)
  }

  /// Adds one element: NaN and infinity are beyond every bound.
  mutating func add(_ expected: Double, _ found: Double, bound: Double, input: Int, output: Int) {
    let distance = abs(expected - found)
    // An infinite weight has an infinite bound.
    let isWithin = distance <= bound && distance.isFinite
    let ratio = isWithin ? (bound > 0 ? distance / bound : 0) : max(distance / bound, 1.0.nextUp)
    var one = Difference(ratio: ratio, input: input, output: output, expected: expected, found: found)
    if !isWithin {
      (one.beyondCount, one.inputs, one.outputs) = (1, input...input, output...output)
    }
    merge(one)
  }
}

/// Holds the effective matrix of a candidate against that of a reference, element by element.
struct MapComparison: Sendable {
  let reference: MapNumbers
  let candidate: MapNumbers
  let allowance: Allowance
  /// A vector that goes through the reference's matrix on the way, and how far each of its numbers may be off, [in].
  let shift: InputShift?
  /// The extents that are compared. One of the two may have an output more.
  let inputCount: Int
  let outputCount: Int
  /// Is true if rows of a block are outputs, as the candidate's matrix lies in its file.
  private let rowsAreOutputs: Bool

  struct InputShift: Sendable {
    var values: [Double]
    var errors: [Double]
  }

  /// The result of comparing one tile.
  struct Tile: Sendable {
    var difference = Difference()
    var outputs: Range<Int>
    /// The shift through the columns of the tile: Σ v·w and Σ e·|w|; empty without a shift.
    var through: [Double] = []
    var errors: [Double] = []
  }

  /// - Parameter readsFewInputs: whether tiles are going to have all outputs of few inputs: rows of a block are inputs then, unless
  ///   numbers are stored in blocks.
  init(
    _ reference: MapNumbers, _ candidate: MapNumbers, shift: InputShift? = nil, allowance: Allowance,
    readsFewInputs: Bool = false
  ) {
    self.reference = reference
    self.candidate = candidate
    self.shift = shift
    self.allowance = allowance
    inputCount = candidate.weight.rowCount
    outputCount = min(reference.weight.columnCount, candidate.weight.columnCount)
    // Blocks of a file run along its rows.
    let hasBlocks = [reference, candidate].contains { $0.error?.hasBlocks == true }
    rowsAreOutputs = candidate.weight.readsAcrossStoredRows && (hasBlocks || !readsFewInputs)
  }

  /// Parts of the matrix that can be compared at the same time, each of about so many elements.
  func tiles(ofAbout elementCount: Int = 1 << 18) -> [(inputs: Range<Int>, outputs: Range<Int>)] {
    let splitsInputs = !reference.centresInput && !candidate.centresInput && shift == nil && !rowsAreOutputs
    let splitsOutputs = !splitsInputs && !reference.centresOutput && !candidate.centresOutput
    guard splitsInputs || splitsOutputs else { return [(0..<inputCount, 0..<outputCount)] }
    let (extent, other) = splitsInputs ? (inputCount, outputCount) : (outputCount, inputCount)
    // Whole lines of the cache.
    let step = max(64, elementCount / max(1, other) / 64 * 64)
    return stride(from: 0, to: extent, by: step).map {
      let range = $0..<min($0 + step, extent)
      return splitsInputs ? (range, 0..<outputCount) : (0..<inputCount, range)
    }
  }

  /// The shift through the whole matrix, put together from what tiles gave; nil without a shift.
  func through(_ tiles: [Tile]) -> InputShift? {
    guard shift != nil else { return nil }
    let count = reference.weight.columnCount
    var result = InputShift(values: [Double](repeating: 0, count: count), errors: [Double](repeating: 0, count: count))
    for tile in tiles {
      result.values.replaceSubrange(tile.outputs, with: tile.through)
      result.errors.replaceSubrange(tile.outputs, with: tile.errors)
    }
    return result
  }

  /// The shift through the whole matrix, without a comparison.
  var wholeThrough: InputShift? { shift.map { reference.weight.projected($0.values, $0.errors) } }

  /// Compares one tile.
  ///
  /// - Parameter isOver: returns true where it is enough to know that something is beyond its bound, and something is: the rest
  ///   of the tile is left out.
  func tile(inputs: Range<Int>, outputs: Range<Int>, unless isOver: (Difference) -> Bool = { _ in false }) -> Tile {
    let (rows, columns) = rowsAreOutputs ? (outputs, inputs) : (inputs, outputs)
    let mine = Side(
      reference, isReference: true, shift: shift, rowsAreOutputs: rowsAreOutputs, inputs: inputs, outputs: outputs)
    let theirs = Side(
      candidate, isReference: false, shift: nil, rowsAreOutputs: rowsAreOutputs, inputs: inputs, outputs: outputs)
    let bounds = Bounds(mine, theirs, allowance: allowance)
    // Every output has been summed where their mean counts.
    let summed = reference.centresOutput ? 0..<reference.weight.columnCount : outputs
    var tile = Tile(outputs: summed, through: mine.through ?? [], errors: mine.throughErrors ?? [])
    func add(_ row: Int, _ r: [Double], _ c: [Double]) {
      compare(row, r, c, mine, theirs, bounds, rows: rows, columns: columns, into: &tile.difference)
    }
    let limits = bounds.kernelLimits(columnCount: columns.count)
    let rowErrors = RowErrors(reference: bounds.blockErrors(of: mine), candidate: bounds.blockErrors(of: theirs))
    unsafe mine.rows.forEachRow(with: theirs.rows, rows: rows, columns: columns) { row, isFloat, r, c in
      if isOver(tile.difference) { return }
      let exceeds = unsafe limits.isExceeded(
        by: r, c, isFloat: isFloat, mine, theirs, errors: rowErrors, row: row - rows.lowerBound,
        limit: min(1, tile.difference.ratio))
      // Rarely: the largest ratio so far is soon close to one.
      if exceeds { add(row, mine.values(row: row, columns: columns), theirs.values(row: row, columns: columns)) }
    }
    return tile
  }

  /// Compares one row in plain steps.
  private func compare(
    _ row: Int, _ expected: [Double], _ found: [Double], _ mine: Side, _ theirs: Side, _ bounds: Bounds,
    rows: Range<Int>, columns: Range<Int>, into result: inout Difference
  ) {
    var (expected, found) = (expected, found)
    let place = row - rows.lowerBound
    let limits = bounds.row(place, expected, found)
    mine.transform(&expected, row: place)
    theirs.transform(&found, row: place)
    for index in 0..<columns.count {
      let (input, output) = (columns.lowerBound + index, row)
      result.add(
        expected[index], found[index], bound: limits[index], input: rowsAreOutputs ? input : output,
        output: rowsAreOutputs ? output : input)
    }
  }
}

/// One side of a comparison, made ready for the rows of a tile. It is a class, so that a row copies none of its arrays.
private final class Side {
  let numbers: MapNumbers
  let isReference: Bool
  let rows: StoredRows
  /// The factors that each row and each column is multiplied by; nil for ones.
  let rowFactors: [Double]?
  let columnFactors: [Double]?
  /// The numbers that are subtracted from each row and from each column; nil for none.
  private(set) var rowShifts: [Double]?
  private(set) var columnShifts: [Double]?
  /// The means of the magnitudes of the numbers whose means are subtracted, which bound the rounding of those means.
  private(set) var rowMagnitudes: [Double]?
  private(set) var columnMagnitudes: [Double]?
  /// The errors of the subtracted numbers that storing in blocks may have caused; zeros for types without blocks.
  private(set) var rowErrors: [Double]?
  private(set) var columnErrors: [Double]?
  /// By output: a vector through the matrix, and its errors.
  private(set) var through: [Double]?
  private(set) var throughErrors: [Double]?

  init(
    _ numbers: MapNumbers, isReference: Bool, shift: MapComparison.InputShift?, rowsAreOutputs: Bool,
    inputs: Range<Int>, outputs: Range<Int>
  ) {
    self.numbers = numbers
    self.isReference = isReference
    rows = StoredRows(rowsAreOutputs ? numbers.weight.transposed() : numbers.weight)
    let factors = numbers.factors.map { Array($0[inputs]) }
    (rowFactors, columnFactors) = rowsAreOutputs ? (nil, factors) : (factors, nil)
    guard numbers.centresInput || numbers.centresOutput || shift != nil else { return }
    // All inputs are summed for the mean of a column, all outputs for that of a row.
    let allInputs = numbers.centresInput ? 0..<numbers.weight.rowCount : inputs
    let allOutputs = numbers.centresOutput ? 0..<numbers.weight.columnCount : outputs
    let sums = Sums(
      self, inputs: allInputs, outputs: allOutputs, rowsAreOutputs: rowsAreOutputs, shift: shift,
      needsInputMeans: numbers.centresInput, needsOutputMeans: numbers.centresOutput)
    let (firstOutput, firstInput) = (
      outputs.lowerBound - allOutputs.lowerBound, inputs.lowerBound - allInputs.lowerBound
    )
    var (overInputs, inputMagnitudes, inputErrors) = ([Double](), [Double](), [Double]())
    var (overOutputs, outputMagnitudes, outputErrors) = ([Double](), [Double](), [Double]())
    if numbers.centresInput {
      let count = Double(allInputs.count)
      // What both subtract is subtracted twice: the mean of all, which has an error of its own.
      func mean(_ sums: [Double]) -> Double {
        numbers.centresOutput ? sums.reduce(0, +) / (count * Double(allOutputs.count)) : 0
      }
      let (whole, wholeMagnitude) = (mean(sums.overInputs), mean(sums.inputMagnitudes))
      let wholeError = mean(sums.inputErrors)
      let own = firstOutput..<firstOutput + outputs.count
      overInputs = sums.overInputs[own].map { $0 / count - whole }
      inputMagnitudes = sums.inputMagnitudes[own].map { $0 / count + wholeMagnitude }
      inputErrors = sums.inputErrors[own].map { $0 / count + wholeError }
    }
    if numbers.centresOutput {
      let count = Double(allOutputs.count)
      overOutputs = sums.overOutputs[firstInput..<firstInput + inputs.count].map { $0 / count }
      outputMagnitudes = sums.outputMagnitudes[firstInput..<firstInput + inputs.count].map { $0 / count }
      outputErrors = sums.outputErrors[firstInput..<firstInput + inputs.count].map { $0 / count }
    }
    let byOutput = numbers.centresInput ? (overInputs, inputMagnitudes, inputErrors) : nil
    let byInput = numbers.centresOutput ? (overOutputs, outputMagnitudes, outputErrors) : nil
    let (byRow, byColumn) = rowsAreOutputs ? (byOutput, byInput) : (byInput, byOutput)
    (rowShifts, rowMagnitudes, rowErrors) = (byRow?.0, byRow?.1, byRow?.2)
    (columnShifts, columnMagnitudes, columnErrors) = (byColumn?.0, byColumn?.1, byColumn?.2)
    // Of every output, where their mean counts: a candidate may have left the last one out.
    if shift != nil { (through, throughErrors) = (sums.through, sums.throughErrors) }
  }

  /// The weights of a row, as they are stored.
  func values(row: Int, columns: Range<Int>) -> [Double] { rows.values(row: row, columns: columns) }

  /// Replaces the weights of a row of the tile by the elements of m.
  func transform(_ values: inout [Double], row: Int) {
    for index in values.indices {
      values[index] =
        values[index] * (rowFactors?[row] ?? 1) * (columnFactors?[index] ?? 1) - (rowShifts?[row] ?? 0)
        - (columnShifts?[index] ?? 0)
    }
  }
}

extension MapComparison {
  /// The bounds on the difference of each element of a candidate's row from the reference's.
  private struct Bounds {
    private let (reference, candidate): (Side, Side)
    private let allowance: Allowance
    /// The amounts that centring adds to the bounds, by row and by column of the tile, rounding in double precision
    /// included.
    private let rowSlack: [Double]?
    private let columnSlack: [Double]?
    /// Over |m| of the candidate and |v| of the reference, besides what storing costs.
    private let (candidateRelative, referenceRelative): (Double, Double)

    init(_ reference: Side, _ candidate: Side, allowance: Allowance) {
      (self.reference, self.candidate, self.allowance) = (reference, candidate, allowance)
      // Each product, each sum of n terms in double precision.
      func double(_ side: Side) -> Double { Double(side.numbers.weight.rowCount + 8) * 0x1p-53 }
      let folding = allowance.foldingRoundings * 0x1p-24
      candidateRelative = candidate.numbers.factorError + 4 * 0x1p-53
      referenceRelative =
        (allowance.countsReferenceRounding ? reference.numbers.factorError : 0) + 4 * 0x1p-53 + folding
      let ofReference = allowance.countsReferenceRounding ? (reference.numbers.error?.slackPerMagnitude ?? 0) : 0
      let ofCandidate = candidate.numbers.error?.slackPerMagnitude ?? 0
      let (mine, theirs) = (
        double(reference) + folding + ofReference, double(candidate) + ofCandidate + candidateRelative
      )
      func slack(_ r: [Double]?, _ c: [Double]?, _ rErrors: [Double]?, _ cErrors: [Double]?) -> [Double]? {
        guard let count = r?.count ?? c?.count else { return nil }
        let counted = allowance.countsReferenceRounding ? rErrors : nil
        return (0..<count).map {
          (r?[$0] ?? 0) * mine + (c?[$0] ?? 0) * theirs + (counted?[$0] ?? 0) + (cErrors?[$0] ?? 0)
        }
      }
      rowSlack = slack(
        reference.rowMagnitudes, candidate.rowMagnitudes, reference.rowErrors, candidate.rowErrors)
      columnSlack = slack(
        reference.columnMagnitudes, candidate.columnMagnitudes, reference.columnErrors, candidate.columnErrors)
    }

    /// The bounds of one row, given the weights as they are stored.
    func row(_ row: Int, _ expected: [Double], _ found: [Double]) -> [Double] {
      let mine = bounds(reference, referenceRelative, of: expected, row, counts: allowance.countsReferenceRounding)
      let theirs = bounds(candidate, candidateRelative, of: found, row, counts: true)
      return found.indices.map { mine[$0] + theirs[$0] + (rowSlack?[row] ?? 0) + (columnSlack?[$0] ?? 0) }
    }

    private func bounds(
      _ side: Side, _ relative: Double, of values: [Double], _ row: Int, counts: Bool
    ) -> [Double] {
      let error = counts ? side.numbers.error : nil
      var result = values.map { (relative + (error?.relative ?? 0)) * abs($0) + (error?.absolute ?? 0) }
      if let error, error.hasBlocks {
        unsafe values.withUnsafeBufferPointer { values in
          unsafe result.withUnsafeMutableBufferPointer { unsafe error.bounds(of: values, into: $0) }
        }
        for index in result.indices { result[index] += relative * abs(values[index]) }
      }
      for index in result.indices {
        result[index] *= abs((side.rowFactors?[row] ?? 1) * (side.columnFactors?[index] ?? 1))
      }
      return result
    }

    /// Returns the error of storing a side in blocks; nil where the side has no blocks, or its error does not count.
    func blockErrors(of side: Side) -> StorageError? {
      let counts = side.isReference ? allowance.countsReferenceRounding : true
      return counts ? side.numbers.error.flatMap { $0.hasBlocks ? $0 : nil } : nil
    }

    /// The same as numbers for the kernel.
    func kernelLimits(columnCount: Int) -> KernelLimits {
      func limits(_ side: Side, _ relative: Double, counts: Bool) -> KernelLimits.OfSide {
        let error = counts ? side.numbers.error : nil
        let isByBlock = error?.hasBlocks == true
        return KernelLimits.OfSide(
          columnFactors: side.columnFactors ?? [Double](repeating: 1, count: columnCount),
          columnShifts: side.columnShifts ?? [Double](repeating: 0, count: columnCount),
          relative: relative + (isByBlock ? 0 : error?.relative ?? 0), absolute: isByBlock ? 0 : error?.absolute ?? 0)
      }
      return KernelLimits(
        reference: limits(reference, referenceRelative, counts: allowance.countsReferenceRounding),
        candidate: limits(candidate, candidateRelative, counts: true),
        columnSlacks: columnSlack ?? [Double](repeating: 0, count: columnCount), rowSlacks: rowSlack)
    }
  }

  /// The types with blocks on either side, whose errors are computed row by row.
  private struct RowErrors {
    let reference: StorageError?
    let candidate: StorageError?
  }

  /// The numbers that the kernel needs besides the rows. It is a class, so that a row copies none of its arrays.
  private final class KernelLimits {
    struct OfSide {
      let columnFactors: [Double]
      let columnShifts: [Double]
      let relative: Double
      let absolute: Double
    }

    let reference: OfSide
    let candidate: OfSide
    let columnSlacks: [Double]
    let rowSlacks: [Double]?
    let zeros: [Double]

    init(reference: OfSide, candidate: OfSide, columnSlacks: [Double], rowSlacks: [Double]?) {
      (self.reference, self.candidate) = (reference, candidate)
      (self.columnSlacks, self.rowSlacks) = (columnSlacks, rowSlacks)
      zeros = [Double](repeating: 0, count: columnSlacks.count)
    }

    /// Returns whether an element of a row is farther off than `limit` times its bound.
    func isExceeded(
      by r: UnsafeRawPointer, _ c: UnsafeRawPointer, isFloat: Bool, _ mine: Side, _ theirs: Side, errors: RowErrors,
      row: Int, limit: Double
    ) -> Bool {
      unsafe withErrors(errors.reference, of: r, isFloat) { ofReference in
        unsafe withErrors(errors.candidate, of: c, isFloat) { ofCandidate in
          unsafe withSide(reference, mine, row, ofReference) { a in
            unsafe withSide(candidate, theirs, row, ofCandidate) { b in
              let (slack, count) = (rowSlacks?[row] ?? 0, zeros.count)
              return unsafe isFloat
                ? normfold_row_exceeds_float(
                  r.assumingMemoryBound(to: Float.self), c.assumingMemoryBound(to: Float.self), count, a, b, slack,
                  columnSlacks, limit)
                : normfold_row_exceeds_double(
                  r.assumingMemoryBound(to: Double.self), c.assumingMemoryBound(to: Double.self), count, a, b, slack,
                  columnSlacks, limit)
            }
          }
        }
      }
    }

    /// Lends the errors of a row that is stored in blocks, zeros otherwise. Blocks are decoded, so that the row is of Doubles.
    private func withErrors<Result>(
      _ error: StorageError?, of row: UnsafeRawPointer, _ isFloat: Bool, _ body: (UnsafePointer<Double>) -> Result
    ) -> Result {
      guard let error, !isFloat else {
        return unsafe zeros.withUnsafeBufferPointer { zeros in
          // Rows have columns, or nothing is compared.
          unsafe zeros.baseAddress.map(body) ?? withUnsafePointer(to: 0.0, body)
        }
      }
      return unsafe withUnsafeTemporaryAllocation(of: Double.self, capacity: zeros.count) { bounds in
        let values = unsafe UnsafeBufferPointer(start: row.assumingMemoryBound(to: Double.self), count: zeros.count)
        unsafe error.bounds(of: values, into: bounds)
        guard let base = bounds.baseAddress else { return unsafe withUnsafePointer(to: 0.0, body) }
        return unsafe body(UnsafePointer(base))
      }
    }

    private func withSide(
      _ limits: OfSide, _ side: Side, _ row: Int, _ errors: UnsafePointer<Double>,
      _ body: (UnsafePointer<normfold_side>) -> Bool
    ) -> Bool {
      unsafe limits.columnFactors.withUnsafeBufferPointer { factors in
        unsafe limits.columnShifts.withUnsafeBufferPointer { shifts in
          unsafe withUnsafePointer(
            to: normfold_side(
              rowFactor: side.rowFactors?[row] ?? 1, columnFactors: factors.baseAddress,
              rowShift: side.rowShifts?[row] ?? 0, columnShifts: shifts.baseAddress, relative: limits.relative,
              absolute: limits.absolute, errors: errors), body)
        }
      }
    }
  }
}

/// The sums over rows and columns of a matrix whose inputs were multiplied by factors, and vectors through it.
private struct Sums {
  /// By output: Σ g·w over the inputs, and Σ |g·w|.
  private(set) var overInputs: [Double]
  private(set) var inputMagnitudes: [Double]
  /// By input: the same over the outputs.
  private(set) var overOutputs: [Double]
  private(set) var outputMagnitudes: [Double]
  /// The bounds of the errors of storing in blocks, summed like the magnitudes.
  private(set) var inputErrors: [Double]
  private(set) var outputErrors: [Double]
  /// By output: Σ v·w and Σ e·|w| for a vector and its errors.
  private(set) var through: [Double]
  private(set) var throughErrors: [Double]

  init(
    _ side: Side, inputs: Range<Int>, outputs: Range<Int>, rowsAreOutputs: Bool, shift: MapComparison.InputShift?,
    needsInputMeans: Bool, needsOutputMeans: Bool
  ) {
    func zeros(_ count: Int) -> [Double] { [Double](repeating: 0, count: count) }
    var (overInputs, inputMagnitudes) = (zeros(outputs.count), zeros(outputs.count))
    var (overOutputs, outputMagnitudes) = (zeros(inputs.count), zeros(inputs.count))
    var (inputErrors, outputErrors) = (zeros(outputs.count), zeros(inputs.count))
    let blocks = side.numbers.error.flatMap { $0.hasBlocks ? $0 : nil }
    var (through, throughErrors) = (zeros(outputs.count), zeros(outputs.count))
    let factors = side.numbers.factors.map { Array($0[inputs]) } ?? [Double](repeating: 1, count: inputs.count)
    let values = shift.map { Array($0.values[inputs]) } ?? zeros(inputs.count)
    let errors = shift.map { Array($0.errors[inputs]) } ?? zeros(inputs.count)
    let ones = [Double](repeating: 1, count: max(inputs.count, outputs.count))
    var sums = zeros(4)
    let (rows, columns) = rowsAreOutputs ? (outputs, inputs) : (inputs, outputs)
    var bounds = zeros(columns.count)
    unsafe side.rows.forEachRow(with: nil, rows: rows, columns: columns) { row, isFloat, r, _ in
      let place = row - rows.lowerBound
      if let blocks, !isFloat {
        let values = unsafe UnsafeBufferPointer(start: r.assumingMemoryBound(to: Double.self), count: columns.count)
        unsafe bounds.withUnsafeMutableBufferPointer { unsafe blocks.bounds(of: values, into: $0) }
        for (column, bound) in bounds.enumerated() {
          let (input, output) = rowsAreOutputs ? (column, place) : (place, column)
          inputErrors[output] += abs(factors[input]) * bound
          outputErrors[input] += abs(factors[input]) * bound
        }
      }
      if rowsAreOutputs {
        unsafe Kernel.sums(r, isFloat, columns.count, factors, values, errors, &sums)
        (overInputs[place], inputMagnitudes[place]) = (sums[0], sums[1])
        (through[place], throughErrors[place]) = (sums[2], sums[3])
        if needsOutputMeans {
          unsafe Kernel.accumulate(r, isFloat, columns.count, 1, &overOutputs, &outputMagnitudes)
        }
      } else {
        if needsInputMeans {
          unsafe Kernel.accumulate(r, isFloat, columns.count, factors[place], &overInputs, &inputMagnitudes)
        }
        if shift != nil {
          unsafe Kernel.project(r, isFloat, columns.count, values[place], errors[place], &through, &throughErrors)
        }
        if needsOutputMeans {
          unsafe Kernel.sums(r, isFloat, columns.count, ones, ones, ones, &sums)
          (overOutputs[place], outputMagnitudes[place]) = (sums[0] * factors[place], sums[1] * abs(factors[place]))
        }
      }
    }
    if rowsAreOutputs, needsOutputMeans {
      for index in factors.indices {
        overOutputs[index] *= factors[index]
        outputMagnitudes[index] *= abs(factors[index])
      }
    }
    (self.overInputs, self.inputMagnitudes) = (overInputs, inputMagnitudes)
    (self.overOutputs, self.outputMagnitudes) = (overOutputs, outputMagnitudes)
    (self.inputErrors, self.outputErrors) = (inputErrors, outputErrors)
    (self.through, self.throughErrors) = (through, throughErrors)
  }
}

/// The kernels for rows of Floats and of Doubles.
private enum Kernel {
  static func sums(
    _ row: UnsafeRawPointer, _ isFloat: Bool, _ count: Int, _ factors: [Double], _ values: [Double], _ errors: [Double],
    _ result: inout [Double]
  ) {
    unsafe isFloat
      ? normfold_row_sums_float(row.assumingMemoryBound(to: Float.self), count, factors, values, errors, &result)
      : normfold_row_sums_double(row.assumingMemoryBound(to: Double.self), count, factors, values, errors, &result)
  }

  static func accumulate(
    _ row: UnsafeRawPointer, _ isFloat: Bool, _ count: Int, _ factor: Double, _ sums: inout [Double],
    _ magnitudes: inout [Double]
  ) {
    unsafe isFloat
      ? normfold_row_accumulate_float(row.assumingMemoryBound(to: Float.self), count, factor, &sums, &magnitudes)
      : normfold_row_accumulate_double(row.assumingMemoryBound(to: Double.self), count, factor, &sums, &magnitudes)
  }

  static func project(
    _ row: UnsafeRawPointer, _ isFloat: Bool, _ count: Int, _ value: Double, _ error: Double, _ sums: inout [Double],
    _ magnitudes: inout [Double]
  ) {
    unsafe isFloat
      ? normfold_row_project_float(row.assumingMemoryBound(to: Float.self), count, value, error, &sums, &magnitudes)
      : normfold_row_project_double(row.assumingMemoryBound(to: Double.self), count, value, error, &sums, &magnitudes)
  }
}

extension StorageError {
  /// A bound on the mean of errors, over the mean of magnitudes. Those of blocks are summed one by one.
  fileprivate var slackPerMagnitude: Double { hasBlocks ? 0 : relative }
}
