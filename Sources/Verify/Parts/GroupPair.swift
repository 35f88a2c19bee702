import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks

/// The same affine group of a reference and a candidate, and what is known of what enters and leaves it.
struct GroupPair: Sendable {
  var reference: AffineGroup
  var candidate: AffineGroup
  /// The value that enters the wire that the group is part of.
  let origin: Path
  /// The operation that the wire leads to, and the number of its operand; nil behind the last operation, and for tables.
  let junction: Path?
  let operand: Int
  /// Is true if the group is the first one of its wire; `isLast` is true if it is the last one.
  let isFirst: Bool
  let isLast: Bool
  /// Is true if the input is a state of the residual stream, or a computed norm of one.
  var readsStream: Bool
  /// Is true if the output becomes part of the residual stream.
  let writesStream: Bool
  /// Is true if all outputs may be off by one constant.
  let isUpToShift: Bool
  /// The kinds of the norms with a computed deviation in front of the group; nil without.
  var coreKinds: (reference: Norm.Kind, candidate: Norm.Kind)?
  /// The difference of the candidate's value biases from the reference's, and how far it may be off, where these biases
  /// are handed on to this group; nil elsewhere.
  var valueBiasShift: (values: [Double], errors: [Double])?
  /// Is true if the bias of this group is compared not here, but where it is handed on to.
  var handsBiasOn = false

  var isTrivial: Bool { reference.isIdentity && candidate.isIdentity }
  var elementCount: Int { candidate.weight?.elementCount ?? 0 }

  /// Is true if a bias of what enters may be added to the bias of what leaves.
  var takesInputShift: Bool {
    reference.weight != nil && candidate.weight != nil && !candidate.centresInput
  }
}

/// The means that are taken out of a matrix before it is compared: over its inputs, over its outputs, both or none.
struct Centring: Hashable, Sendable {
  var input = false
  var output = false
}

/// One way to compare the matrices of a group: the means that are taken out on both sides.
struct ComparisonForm: Hashable, Sendable {
  var reference = Centring()
  var candidate = Centring()
}

extension GroupPair {
  /// The ways in which the matrices may be equal, the strictest first. Each is enough.
  func forms(in stream: StreamRelation) -> [ComparisonForm] {
    var form = ComparisonForm()
    form.reference.input = reference.centresInput
    form.candidate.input = candidate.centresInput
    // What leaves a LayerNorm has mean zero, and so has what leaves another norm that computes the same.
    if let coreKinds, coreKinds.reference == .layer || coreKinds.reference != coreKinds.candidate {
      (form.reference.input, form.candidate.input) = (true, true)
    }
    if readsStream {
      form.reference.input = form.reference.input || stream.projectsReferenceInput
      form.candidate.input = form.candidate.input || stream.projectsCandidateInput
    }
    if writesStream { (form.reference.output, form.candidate.output) = stream.centredOutputs }
    // Where both are taken out, nothing needs to be: equal matrices have equal means.
    var strict = form
    if form.reference.input, form.candidate.input { (strict.reference.input, strict.candidate.input) = (false, false) }
    if form.reference.output, form.candidate.output {
      (strict.reference.output, strict.candidate.output) = (false, false)
    }
    // Of streams of several widths, matrices can be equal up to their means only.
    let needsMeans = stream.changesWidth && (readsStream || writesStream)
    var forms = strict == form || needsMeans ? [form] : [strict, form]
    if isUpToShift {
      form.reference.output = true
      form.candidate.output = true
      forms.append(form)
    }
    return forms
  }

  /// Why the group cannot compute the same of streams that are related so; nil where it can.
  func problem(in stream: StreamRelation) -> String? {
    guard readsStream || writesStream else { return nil }
    if stream.relation != .same, reference.weight == nil || candidate.weight == nil {
      return "reads or writes the residual stream without a matrix, and its mean is another in the candidate"
    }
    guard readsStream else { return nil }
    if let coreKinds, coreKinds.reference != coreKinds.candidate {
      let fits =
        switch (coreKinds.reference, coreKinds.candidate) {
        case (.layer, .rms): stream.relation == .centred
        case (.rms, .layer): stream.relation == .uncentred
        case (.layer, .crms): stream.relation == .compressed
        case (.crms, .layer): stream.relation == .expanded
        default: false
        }
      if !fits {
        return "reads \(coreKinds.candidate.displayName), expected \(coreKinds.reference.displayName), of a stream "
          + "that is not its centred form"
      }
    } else if stream.relation == .upToMean {
      let ignoresMean = coreKinds.map { $0.reference == .layer } ?? (reference.centresInput || candidate.centresInput)
      if !ignoresMean { return "sees the mean of the residual stream, which is another in the candidate" }
    }
    return nil
  }

  /// Holds the matrices against each other; nil where their shapes do not fit, or where there are none.
  func comparison(_ form: ComparisonForm, in stream: StreamRelation, allowance: Allowance) -> MapComparison? {
    guard var mine = reference.numbers(form.reference), var theirs = candidate.numbers(form.candidate) else {
      return nil
    }
    if stream.changesWidth, readsStream {
      // The feature that is left out reads nothing.
      if stream.relation == .compressed { theirs.appendInput() } else { mine.appendInput() }
    }
    let difference = mine.weight.columnCount - theirs.weight.columnCount
    let expected = stream.changesWidth && writesStream ? (stream.relation == .compressed ? 1 : -1) : 0
    guard mine.weight.rowCount == theirs.weight.rowCount, difference == expected else { return nil }
    return MapComparison(
      mine, theirs, shift: inputShift(reference.weight?.rowCount ?? 0, allowance), allowance: allowance)
  }

  /// Returns the parts of the group with what was found: the differences of its matrix, and of its bias or other
  /// vectors.
  func parts(matrix: Difference?, vector: Difference?) -> [PartsClaim.Part] {
    let path = candidate.path
    guard let weight = candidate.weight, let other = reference.weight else {
      guard candidate.weight == nil, reference.weight == nil else {
        return [
          .init(
            path: path.description, ratio: .infinity,
            problem: "only the \(reference.weight == nil ? "candidate" : "reference") has a matrix here")
        ]
      }
      return vector.map { [.init($0, at: path.description)] } ?? []
    }
    guard let matrix else {
      return [
        .init(
          path: path.appending("weight").description, ratio: .infinity,
          problem: "has the shape \(weight.shape), expected \(other.shape)")
      ]
    }
    var parts = [PartsClaim.Part(matrix, at: path.appending("weight").description)]
    if let vector { parts.append(.init(vector, at: path.appending("bias").description)) }
    return parts
  }

  /// Finds out which head of the candidate computes what each head of the reference does, by what both make of one random
  /// input; nil where that is no permutation.
  func headOrder(_ headCount: Int, in stream: StreamRelation) -> [Int]? {
    guard let form = forms(in: stream).last, let comparison = comparison(form, in: stream, allowance: .conversion)
    else { return nil }
    var generator = SplitMix64(state: 1)
    let input = (0..<comparison.inputCount).map { _ in Double.random(in: -1...1, using: &generator) }
    let (mine, theirs) = (comparison.reference.output(of: input), comparison.candidate.output(of: input))
    let dHead = mine.count / headCount
    let order = (0..<headCount).map { head in
      (0..<headCount).min { distance(head, $0) < distance(head, $1) } ?? head
    }
    func distance(_ head: Int, _ other: Int) -> Double {
      (0..<dHead).reduce(0) { sum, index in
        let difference = mine[head * dHead + index] - theirs[other * dHead + index]
        return sum + difference * difference
      }
    }
    return Set(order).count == headCount ? order : nil
  }
}

extension MapNumbers {
  /// Adds an input that nothing is made of.
  fileprivate mutating func appendInput() {
    weight = .concatenating([weight, .constant(0, shape: [1, weight.columnCount])], axis: 0)
    factors?.append(1)
  }

  /// xᵀm; no mean is taken out of the result.
  fileprivate func output(of input: [Double]) -> [Double] {
    let mean = centresInput ? input.reduce(0, +) / Double(input.count) : 0
    let scaled = input.indices.map { (input[$0] - mean) * (factors?[$0] ?? 1) }
    return weight.projected(scaled, scaled.map { _ in 0 }).values
  }
}

extension PartsClaim.Part {
  init(_ difference: Difference, at path: String) {
    self.init(
      path: path, ratio: difference.ratio, input: difference.input, output: difference.output,
      expected: difference.expected, found: difference.found, beyondCount: difference.beyondCount,
      inputs: difference.inputs.map { [$0.lowerBound, $0.upperBound] },
      outputs: difference.outputs.map { [$0.lowerBound, $0.upperBound] })
  }
}

extension AffineGroup {
  /// Puts the heads of the outputs into another order: the first is that of number `order[0]`.
  mutating func reorderOutputs(_ order: [Int]) {
    weight = weight.map { $0.reorderingParts(order, axis: 1) }
    bias = bias.map { $0.reorderingParts(order, axis: 0) }
  }

  mutating func reorderInputs(_ order: [Int]) {
    weight = weight.map { $0.reorderingParts(order, axis: 0) }
    gains = gains.map { $0.reorderingParts(order, axis: 0) }
    divisors = divisors.map { $0.reorderingParts(order, axis: 0) }
    inputBias = inputBias.map { $0.reorderingParts(order, axis: 0) }
  }
}

extension Parameter {
  fileprivate func reorderingParts(_ order: [Int], axis: Int) -> Parameter {
    let width = shape[axis] / order.count
    return .concatenating(order.map { sliced(axis: axis, $0 * width..<($0 + 1) * width) }, axis: axis)
  }
}

extension AffineGroup {
  /// The numbers of f · γ/σ [in], and how far they may be off over themselves; nil for ones.
  func factors(count: Int) -> (values: [Double], error: Double)? {
    let factor = inputFactor * outputFactor
    guard !gains.isEmpty || !divisors.isEmpty || factor != 1 else { return nil }
    var values = [Double](repeating: factor, count: count)
    var error = 0.0
    for gain in gains {
      for (index, value) in ParameterReader(gain).values().enumerated() { values[index] *= value }
      error += gain.roundingError
    }
    for divisor in divisors {
      for (index, value) in ParameterReader(divisor).values().enumerated() { values[index] /= value }
      error += divisor.roundingError
    }
    return (values, error)
  }

  /// The differences that storing gains and divisors may make in each of the factors, however small these are: [in].
  func factorOffsets(count: Int) -> [Double] {
    var result = [Double](repeating: 0, count: count)
    let vectors = gains.map { ($0, isDivisor: false) } + divisors.map { ($0, isDivisor: true) }
    let values = vectors.map { ParameterReader($0.0).values() }
    for (number, (vector, isDivisor)) in vectors.enumerated() {
      guard let absolute = vector.storageError?.absolute else { continue }
      for index in 0..<count {
        var others = abs(inputFactor * outputFactor)
        for (other, numbers) in values.enumerated() where other != number {
          others *= vectors[other].isDivisor ? 1 / abs(numbers[index]) : abs(numbers[index])
        }
        let value = abs(values[number][index])
        result[index] += absolute * others / (isDivisor ? value * value : 1)
      }
    }
    return result
  }

  /// f · β [in].
  func inputBiases(count: Int) -> StoredVector { StoredVector(inputBias, factor: outputFactor, count: count) }

  /// f · b [out].
  func biases(count: Int) -> StoredVector { StoredVector(bias, factor: outputFactor, count: count) }

  /// The matrix with what is around it.
  func numbers(_ centring: Centring) -> MapNumbers? {
    guard let weight else { return nil }
    let factors = factors(count: weight.rowCount)
    return MapNumbers(
      weight: weight, factors: factors?.values, factorError: factors?.error ?? 0, centresInput: centring.input,
      centresOutput: centring.output, error: weight.storageError)
  }
}

/// The numbers of a vector, and how far storing may have put them: `error` · |v| + `offset`, and of each number `offsets` besides.
struct StoredVector {
  let values: [Double]
  let error: Double
  let offset: Double
  /// Nil for zeros.
  private var offsets: [Double]?

  /// - Parameters:
  ///   - vector: nil for zeros.
  ///   - factor: what its numbers are multiplied by.
  init(_ vector: Parameter?, factor: Double, count: Int) {
    values = vector.map { ParameterReader($0).values().map { $0 * factor } } ?? [Double](repeating: 0, count: count)
    error = vector?.roundingError ?? 0
    offset = abs(factor) * (vector?.storageError?.absolute ?? 0)
  }

  init(values: [Double], error: Double, offsets: [Double]) {
    (self.values, self.error, offset, self.offsets) = (values, error, 0, offsets)
  }

  func bound(_ index: Int) -> Double { error * abs(values[index]) + offset + (offsets?[index] ?? 0) }
}

extension Parameter {
  /// The error of storing the numbers that the recipe reads, the largest one where their types differ; nil where
  /// nothing here writes any of these types.
  var storageError: StorageError? {
    let errors = storedTensors.map { StorageError($0.info.type) }
    return errors.reduce(nil as StorageError?) { worst, next in
      guard let next else { return worst }
      return (worst?.relative ?? 0) < next.relative ? next : worst
    }
  }

  /// Is true if the error of storing is known for all numbers that the recipe reads.
  var hasKnownError: Bool { storedTensors.allSatisfy { StorageError($0.info.type) != nil } }

  /// The unit roundoff of the type of a vector.
  var roundingError: Double { storageError?.relative ?? 0 }
}

extension GroupPair {
  /// Compares what the group adds: f · (βᵀW + b), with what attention hands on of the biases of its values. Only the
  /// difference of the two sides goes through a matrix, and through the reference's, whose equality is compared on its own.
  ///
  /// - Parameter through: what the inputs' biases differ by, behind the reference's matrix.
  /// - Returns: the difference; by output how far the candidate is from the reference, and how far it may be. Nil where
  ///   there is nothing to compare.
  func biasDifference(
    _ form: ComparisonForm, through: MapComparison.InputShift?, allowance: Allowance
  ) -> (difference: Difference, shift: [Double], bounds: [Double])? {
    guard let weight = reference.weight, let other = candidate.weight, !handsBiasOn else { return nil }
    guard through != nil || reference.bias != nil || candidate.bias != nil else { return nil }
    let outputs = weight.columnCount
    let folding = allowance.foldingRoundings * 0x1p-24
    let counted = allowance.countsReferenceRounding ? 1.0 : 0
    let (mine, theirs) = (reference.biases(count: outputs), candidate.biases(count: other.columnCount))
    var expected = mine.values
    var found = theirs.values
    var bounds = expected.indices.map { index in
      let other = index < found.count ? abs(found[index]) : 0
      return (index < found.count ? theirs.bound(index) : 0) + counted * mine.bound(index)
        + abs(expected[index]) * folding + 8 * 0x1p-53 * (abs(expected[index]) + other) + 0x1p-150
    }
    if let through {
      for index in through.values.indices {
        expected[index] -= through.values[index]
        bounds[index] += through.errors[index]
      }
    }
    if form.reference.output { expected.subtractMean(&bounds) }
    if form.candidate.output { found.subtractMean(&bounds) }
    var result = Difference()
    let count = min(expected.count, found.count)
    for index in 0..<count {
      result.add(expected[index], found[index], bound: bounds[index], input: 0, output: index)
    }
    return (result, (0..<count).map { found[$0] - expected[$0] }, bounds)
  }

  /// The candidate's input bias in units of the reference's, minus that of the reference; with the biases of values. Nil
  /// where neither has any.
  private func inputShift(_ count: Int, _ allowance: Allowance) -> MapComparison.InputShift? {
    guard reference.inputBias != nil || candidate.inputBias != nil || valueBiasShift != nil else { return nil }
    let (mine, theirs) = (reference.inputBiases(count: count), candidate.inputBiases(count: candidate.inputWidth))
    let (own, other) = (reference.factors(count: count), candidate.factors(count: candidate.inputWidth))
    let folding = allowance.roundings(ofSumOf: count) * 0x1p-24
    let counted = allowance.countsReferenceRounding ? 1.0 : 0
    var values = [Double](repeating: 0, count: count)
    var errors = values
    for index in 0..<count {
      let ratio = index < theirs.values.count ? (own?.values[index] ?? 1) / (other?.values[index] ?? 1) : 0
      let biased = index < theirs.values.count && theirs.values[index] != 0 ? theirs.values[index] * ratio : 0
      let shift = valueBiasShift.map { $0.values[index] * (own?.values[index] ?? 1) } ?? 0
      let shiftError = valueBiasShift.map { abs($0.errors[index] * (own?.values[index] ?? 1)) } ?? 0
      values[index] = biased - mine.values[index] + shift
      let double = Double(count + 8) * 0x1p-53
      errors[index] =
        abs(biased) * (theirs.error + (other?.error ?? 0) + double) + abs(ratio) * theirs.offset
        + abs(mine.values[index]) * (folding + double) + counted * mine.bound(index) + abs(shift) * (folding + double)
        + shiftError
    }
    return .init(values: values, errors: errors)
  }

  /// Returns the vectors that the group adds to what depends on its input: those of the reference and of the candidate,
  /// and how far the two may be apart.
  ///
  /// - Parameter width: the number of outputs.
  /// - Returns: nil where the group has another number of outputs.
  func addedVectors(
    _ form: ComparisonForm, through: MapComparison.InputShift?, width: Int, allowance: Allowance
  ) -> (expected: [Double], found: [Double], bounds: [Double])? {
    if reference.weight != nil || candidate.weight != nil {
      guard reference.weight?.columnCount == width, candidate.weight?.columnCount == width else { return nil }
      let zeros = [Double](repeating: 0, count: width)
      guard let added = biasDifference(form, through: through, allowance: allowance) else {
        return (zeros, zeros, zeros)
      }
      return (zeros, added.shift, added.bounds)
    }
    guard reference.inputWidth == width || reference.inputBias == nil,
      candidate.inputWidth == width || candidate.inputBias == nil
    else { return nil }
    let (mine, theirs) = (reference.inputBiases(count: width), candidate.inputBiases(count: width))
    return (
      mine.values, theirs.values,
      mine.values.indices.map { bound(mine, theirs, $0, allowance) }
    )
  }

  /// Returns how far an element of a vector of the candidate may be from the reference's.
  private func bound(_ mine: StoredVector, _ theirs: StoredVector, _ index: Int, _ allowance: Allowance) -> Double {
    let (expected, found) = (mine.values[index], theirs.values[index])
    return theirs.bound(index) + (allowance.countsReferenceRounding ? mine.bound(index) : 0)
      + 8 * 0x1p-53 * (abs(expected) + abs(found)) + abs(expected) * allowance.foldingRoundings * 0x1p-24
  }

  /// Compares a group without a matrix: gains and biases, element by element.
  func vectorDifference(allowance: Allowance) -> Difference {
    let count = max(reference.inputWidth, candidate.inputWidth)
    var result = Difference()
    func compare(_ mine: StoredVector, _ theirs: StoredVector, input: Int) {
      for index in 0..<count {
        let (expected, found) = (mine.values[index], theirs.values[index])
        result.add(
          expected, found, bound: bound(mine, theirs, index, allowance), input: input, output: index)
      }
    }
    func factors(_ group: AffineGroup) -> StoredVector {
      let found = group.factors(count: count)
      return StoredVector(
        values: found?.values ?? [Double](repeating: 1, count: count), error: found?.error ?? 0,
        offsets: group.factorOffsets(count: count))
    }
    compare(factors(reference), factors(candidate), input: 0)
    if !handsBiasOn {
      compare(reference.inputBiases(count: count), candidate.inputBiases(count: count), input: 1)
    }
    return result
  }
}

extension AffineGroup {
  /// The number of features that enter, as far as the numbers of the group say so.
  fileprivate var inputWidth: Int {
    weight?.rowCount ?? gains.first?.elementCount ?? divisors.first?.elementCount ?? inputBias?.elementCount ?? 1
  }
}

extension [Double] {
  /// Subtracts the mean; what that may cost is added to the bounds.
  mutating func subtractMean(_ bounds: inout [Double]) {
    let mean = reduce(0, +) / Double(count)
    let slack =
      bounds.reduce(0, +) / Double(bounds.count) + Double(count + 8) * 0x1p-53 * reduce(0) { $0 + abs($1) }
      / Double(count)
    for index in indices { self[index] -= mean }
    for index in bounds.indices { bounds[index] += slack }
  }
}

extension Parameter {
  /// vᵀM for a vector v [rows], and |e|ᵀ|M|: what errors e of v do at most.
  func projected(_ vector: [Double], _ errors: [Double]) -> MapComparison.InputShift {
    var (sums, bounds) = ([Double](repeating: 0, count: columnCount), [Double](repeating: 0, count: columnCount))
    let isAcross = readsAcrossStoredRows
    let matrix = isAcross ? transposed() : self
    let (rows, columns) = (matrix.rowCount, matrix.columnCount)
    let reader = ParameterReader(matrix)
    for row in 0..<rows {
      let values = reader.values(rows: row..<row + 1, columns: 0..<columns)
      for column in 0..<columns {
        let (input, output) = isAcross ? (column, row) : (row, column)
        sums[output] += vector[input] * values[column]
        bounds[output] += errors[input] * abs(values[column])
      }
    }
    return .init(values: sums, errors: bounds)
  }
}
