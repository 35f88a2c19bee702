import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks
import Synchronization

/// The parameters of a network while it is trained, each once, beside its gradient and the optimiser's two moments.
///
/// ``network`` reads the numbers where they lie, so that the forward pass is the one that everything else is computed
/// with, and sees every update. A tied unembedding is the token embedding: one parameter, one gradient.
@safe package final class TrainedParameters<Scalar: ArithmeticScalar>: @unchecked Sendable {
  package struct Entry: Sendable {
    /// `blocks.0.attention.query.weight`
    package let name: String
    /// The place among ``TrainedParameters/entries``.
    fileprivate let number: Int
    /// The shape of the parameter as it lies in memory.
    package let shape: [Int]
    /// Is true if a row of the matrix that is meant is a column in memory, as where a weight lies [out, in].
    package fileprivate(set) var isTransposed: Bool
    /// The start of the parameter, counted in numbers.
    package let offset: Int

    package var count: Int { shape.reduce(1, *) }
    package var range: Range<Int> { offset..<offset + count }
    package var isMatrix: Bool { shape.count == 2 }
    /// The distance between rows, in numbers.
    var stride: Int { shape.last ?? 1 }
  }

  package let entries: [Entry]
  /// The network that was given, reading the parameters here.
  package private(set) var network: Network
  package let gradients: Matrix<Scalar>
  /// The moments that this process keeps: those of ``momentRange``.
  package let firstMoments: Matrix<Scalar>
  package let secondMoments: Matrix<Scalar>
  /// Is true if other processes keep the rest of the moments.
  package let sharesMoments: Bool
  /// The range of the numbers of which this process keeps moments, and for which it takes the steps.
  package let momentRange: Range<Int>
  /// The numbers of which one process keeps moments, but for the last one, which has what is left.
  private let shareSize: Int
  /// The start of ``allValues``.
  package let values: UnsafeMutablePointer<Scalar>
  private let file: MappedFile
  /// By the place of a parameter: whether a part of this step's gradient is there. What lies there else is of the step before.
  private let hasGradient = Mutex<[Bool]>([])
  /// By what ``network`` holds, as it lies and transposed.
  private var places: [Parameter: Entry] = [:]

  /// Numbers between the starts of two parameters are a multiple of this: 64 bytes of Float.
  private static var alignment: Int { 16 }

  /// Copies the parameters of a network, rounding them to `Scalar` where that is narrower.
  ///
  /// - Parameter share: which of how many shares of the moments is kept.
  package init(of network: Network, workers: Workers, momentShare share: (number: Int, count: Int) = (0, 1)) {
    var entries: [Entry] = []
    var sources: [Parameter] = []
    var end = 0
    func add(_ name: String, _ parameter: Parameter) {
      let isMatrix = parameter.shape.count == 2
      // As it is stored, so that rows are read as they lie.
      let isTransposed = isMatrix && (parameter.storedView?.isTransposed ?? parameter.readsAcrossStoredRows)
      let source = isTransposed ? parameter.transposed() : parameter
      entries.append(
        Entry(name: name, number: entries.count, shape: source.shape, isTransposed: isTransposed, offset: end))
      sources.append(source)
      end += (source.elementCount + Self.alignment - 1) / Self.alignment * Self.alignment
    }
    for node in network.nodes {
      switch node.operation {
      case .embed(let table, _): add("\(node.path).weight", table)
      case .linear(let map):
        if node.path != network.output || !network.isTied { add("\(node.path).weight", map.weight) }
        if let bias = map.bias { add("\(node.path).bias", bias) }
      case .norm(let norm):
        add("\(node.path).weight", norm.gain)
        if let bias = norm.bias { add("\(node.path).bias", bias) }
      case .patches, .features, .rotate, .attend, .activate, .scale, .scaleFeatures, .add, .multiply, .select: continue
      }
    }
    self.entries = entries
    let memory = unsafe UnsafeMutableRawPointer.allocate(inLargePages: end * MemoryLayout<Scalar>.stride)
    unsafe memory.initializeMemory(as: UInt8.self, repeating: 0, count: end * MemoryLayout<Scalar>.stride)
    unsafe values = memory.bindMemory(to: Scalar.self, capacity: end)
    unsafe file = MappedFile(
      owning: UnsafeMutableRawBufferPointer(start: values, count: end * MemoryLayout<Scalar>.stride),
      path: "the parameters in training")
    gradients = .zeros(count: end)
    sharesMoments = share.count > 1
    shareSize = (end + share.count * Self.alignment - 1) / (share.count * Self.alignment) * Self.alignment
    momentRange = min(share.number * shareSize, end)..<min((share.number + 1) * shareSize, end)
    firstMoments = .zeros(count: momentRange.count)
    secondMoments = .zeros(count: momentRange.count)
    self.network = network
    let file = file
    var stored: [String: Parameter] = [:]
    for entry in entries {
      let parameter = Parameter.stored(
        Tensor(
          info: TensorInfo(name: entry.name, type: Scalar.elementType, shape: entry.shape), file: file,
          byteOffset: entry.offset * MemoryLayout<Scalar>.stride))
      places[parameter] = entry
      places[parameter]?.isTransposed = false
      if entry.isMatrix {
        places[parameter.transposed()] = entry
        places[parameter.transposed()]?.isTransposed = true
      }
      stored[entry.name] = entry.isTransposed ? parameter.transposed() : parameter
    }
    if network.isTied { stored["\(network.output).weight"] = stored["embedding.tokens.weight"]?.transposed() }
    self.network = network.mappingOperations { path, operation in
      func own(_ parameter: Parameter, _ role: String) -> Parameter { stored["\(path).\(role)"] ?? parameter }
      switch operation {
      case .embed(let table, let index): return .embed(own(table, "weight"), by: index)
      case .linear(let map):
        return .linear(LinearMap(weight: own(map.weight, "weight"), bias: map.bias.map { own($0, "bias") }))
      case .norm(var norm):
        norm.gain = own(norm.gain, "weight")
        norm.bias = norm.bias.map { own($0, "bias") }
        return .norm(norm)
      case .patches, .features, .rotate, .attend, .activate, .scale, .scaleFeatures, .add, .multiply, .select:
        return operation
      }
    }
    let (numbers, origins) = (self, sources)
    workers.forEach(origins.count) { numbers.copy(origins[$0], to: numbers.entries[$0]) }
  }

  @specialized(where Scalar == Float)
  @specialized(where Scalar == Double)
  private func copy(_ source: Parameter, to entry: Entry) {
    let reader = ParameterReader(source)
    unsafe reader.forEachBlock { rows, block in
      let start = unsafe values + entry.offset + rows.lowerBound * reader.columnCount
      for index in 0..<block.count { unsafe start[index] = unsafe Scalar(block[index]) }
    }
  }

  /// Takes the values of another network's parameters of the same names.
  ///
  /// - Throws: `.malformed` where one is missing or of another shape.
  func copyValues(of other: Network, file path: String) throws(Refusal) {
    for entry in entries {
      let found = other.parameter(named: entry.name).map { entry.isTransposed ? $0.transposed() : $0 }
      guard let found, found.shape == entry.shape else {
        throw Refusal(.malformed, file: path, subject: entry.name, "is missing or of another shape")
      }
      copy(found, to: entry)
    }
  }

  /// The network with other numbers in the places of its parameters: their gradients.
  package func network(reading numbers: Matrix<Scalar>) -> Network {
    let memory = UnsafeMutableRawBufferPointer.allocate(
      byteCount: max(1, numbers.columnCount) * MemoryLayout<Scalar>.stride, alignment: 64)
    unsafe memory.copyMemory(from: UnsafeRawBufferPointer(numbers.values))
    let copy = unsafe MappedFile(owning: memory, path: file.path)
    return network.mappingParameters { parameter in
      guard let entry = places[parameter] else { return parameter }
      let stored = Parameter.stored(
        Tensor(
          info: TensorInfo(name: entry.name, type: Scalar.elementType, shape: entry.shape), file: copy,
          byteOffset: entry.offset * MemoryLayout<Scalar>.stride))
      return entry.isTransposed ? stored.transposed() : stored
    }
  }

  /// The numbers that process `rank` takes the steps of, where each has a share.
  func share(ofProcess rank: Int) -> Range<Int> {
    let end = gradients.columnCount
    return min(rank * shareSize, end)..<min((rank + 1) * shareSize, end)
  }

  /// A number that other values do not have, but for one chance in 2⁶⁴.
  func checksum(workers: Workers) -> UInt64 {
    let prime: UInt64 = 0x0000_0100_0000_01B3
    let byteCount = unsafe allValues.count * MemoryLayout<Scalar>.stride
    let size = 1 << 20
    let parts = (byteCount + size - 1) / size
    let sums = Matrix<Double>.zeros(count: max(1, parts))
    workers.forEach(parts) { part in
      var hash: UInt64 = 0xCBF2_9CE4_8422_2325
      let bytes = unsafe UnsafeRawBufferPointer(UnsafeBufferPointer(allValues))
      for start in stride(from: part * size, to: min((part + 1) * size, byteCount), by: 4) {
        hash = (hash ^ UInt64(unsafe bytes.load(fromByteOffset: start, as: UInt32.self))) &* prime
      }
      unsafe sums.start[part] = Double(bitPattern: hash)
    }
    return unsafe sums.values.reduce(0xCBF2_9CE4_8422_2325) { ($0 ^ $1.bitPattern) &* prime }
  }

  /// The number of parameters.
  package var count: Int { entries.reduce(0) { $0 + $1.count } }

  /// All values, one parameter behind the other with gaps of zeros, in the same places as gradients and moments.
  package var allValues: UnsafeMutableBufferPointer<Scalar> {
    unsafe UnsafeMutableBufferPointer(start: values, count: gradients.columnCount)
  }

  /// Returns where a parameter of ``network`` lies, and whether it lies transposed: a tied unembedding lies in its
  /// table, transposed.
  func entry(of parameter: Parameter) -> Entry {
    guard let entry = places[parameter] else { preconditionFailure("\(parameter) is not trained") }
    return entry
  }

  func value(of entry: Entry) -> UnsafeMutablePointer<Scalar> { unsafe values + entry.offset }

  func gradient(of entry: Entry) -> UnsafeMutablePointer<Scalar> { unsafe gradients.start + entry.offset }

  // MARK: The gradient of a step

  /// Begins a step: nothing is added up yet.
  func beginGradients() { hasGradient.withLock { $0 = entries.map { _ in false } } }

  /// Returns whether what is added to a gradient next is the first of the step, and is to take the place of what lies there.
  func beginsGradient(of entry: Entry) -> Bool {
    hasGradient.withLock { has in
      defer { has[entry.number] = true }
      return !has[entry.number]
    }
  }

  /// Makes a gradient zero, if nothing was added to it in this step.
  func clearGradient(of entry: Entry, workers: Workers) {
    guard beginsGradient(of: entry) else { return }
    workers.forEachPart(of: entry.count, size: 1 << 18) { part in
      // By bytes, which the compiler makes one call of: by numbers it would be a loop over values of any type.
      unsafe UnsafeMutableRawPointer(gradient(of: entry) + part.lowerBound).initializeMemory(
        as: UInt8.self, repeating: 0, count: part.count * MemoryLayout<Scalar>.stride)
    }
  }

  /// Ends a step: what it has nothing of is zero.
  func endGradients(workers: Workers) {
    for entry in entries { clearGradient(of: entry, workers: workers) }
  }
}

extension ArithmeticScalar {
  /// The element type that is this scalar in a file.
  package static var elementType: ElementType { Self.self == Double.self ? .f64 : .f32 }
}

extension Matrix {
  /// One row of zeros.
  static func zeros(count: Int) -> Matrix { zeros(rows: 1, columns: count) }

  static func zeros(rows: Int, columns: Int) -> Matrix {
    let result = Matrix(rows: rows, columns: columns)
    // By bytes, which the compiler makes one call of: by numbers it would be a loop over values of any type.
    unsafe UnsafeMutableRawPointer(result.start).initializeMemory(
      as: UInt8.self, repeating: 0, count: rows * columns * MemoryLayout<Scalar>.stride)
    return result
  }
}
