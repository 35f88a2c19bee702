import CNormFoldKernels
import NormFoldFormats
import NormFoldNetworks

/// A part of a product that one task computes.
package struct ProductTile: Sendable {
  package let rows: Range<Int>
  package let outputs: Range<Int>

  /// Cuts a product. Over few tokens it is the weight that takes the time, in narrow parts as in wide ones: there are many, of 128
  /// outputs at most in small networks. Over 256 and more, rows are cut as well, and BLAS copies the operands of every part before it
  /// multiplies them: of 1,024 tokens, the products of GPT-2 small on two threads in parts of 512 × 256 have 0.81 of the speed of the whole with OpenBLAS 0.3.21 on an Ice
  /// Lake, of 512 × 512 0.89, of 1,024 × 512 0.96 and of 1,024 × 768 0.99. So parts are as large as leaves one to each thread.
  ///
  /// - Parameter threadCount: how many threads are to have a part at a time, where there are so many parts. With some of BLAS's kernels
  ///   the last bits depend on the parts.
  package static func tiles(
    rowCount: Int, outputCount: Int, threadCount: Int = manyThreads
  ) -> [ProductTile] {
    guard rowCount >= 256 else {
      return tiles(
        rowCount: rowCount, rowSize: rowCount, outputCount: outputCount,
        width: max(rowCount < 64 ? 64 : 128, outputCount / 32 / 64 * 64))
    }
    let shapes = [(1_024, 1_024), (1_024, 512), (512, 512), (512, 256)].lazy.map { rows, outputs in
      tiles(
        rowCount: rowCount, rowSize: size(of: rowCount, atMost: rows), outputCount: outputCount,
        width: size(of: outputCount, atMost: outputs))
    }
    return shapes.first { $0.count >= threadCount } ?? shapes[3]
  }

  /// The number of threads that products are cut for where no bit of a result may depend on how many there are.
  package static let manyThreads = 64

  /// The size of parts that are as equal as multiples of 64 can be.
  private static func size(of count: Int, atMost largest: Int) -> Int {
    let parts = max(1, (count + largest - 1) / largest)
    return (count + 64 * parts - 1) / (64 * parts) * 64
  }

  /// Cuts a product into equal parts that are large in both directions, the largest one first. Over 256 numbers, parts of
  /// 256 × 256 take 11 to 18% longer than the whole with OpenBLAS's kernels for AVX-512, 6 to 9% with those for AVX2; of
  /// 768 × 384 2 to 7 and 2 to 5%; of 768 × 768 0 to 4%.
  package static func squares(rowCount: Int, outputCount: Int) -> [ProductTile] {
    tiles(
      rowCount: rowCount, rowSize: size(of: rowCount, atMost: 768), outputCount: outputCount,
      width: size(of: outputCount, atMost: 768))
  }

  private static func tiles(rowCount: Int, rowSize: Int, outputCount: Int, width: Int) -> [ProductTile] {
    stride(from: 0, to: outputCount, by: width).flatMap { output in
      stride(from: 0, to: rowCount, by: max(1, rowSize)).map { row in
        ProductTile(
          rows: row..<min(row + max(1, rowSize), rowCount), outputs: output..<min(output + width, outputCount))
      }
    }
  }
}

extension Double {
  /// C += A·B, as ``MatrixProduct`` says, shared out.
  static func multiply(
    rows m: Int, columns n: Int, inner k: Int, _ a: UnsafePointer<Double>, strideA: Int, _ b: UnsafePointer<Double>,
    strideB: Int, isTransposed: Bool, into c: UnsafeMutablePointer<Double>, strideC: Int, workers: Workers
  ) {
    nonisolated(unsafe) let (a, b, c) = unsafe (a, b, c)
    let tiles = ProductTile.tiles(rowCount: m, outputCount: n)
    workers.forEach(tiles.count) { number in
      let tile = tiles[number]
      let (row, output) = (tile.rows.lowerBound, tile.outputs.lowerBound)
      unsafe multiply(
        rows: tile.rows.count, columns: tile.outputs.count, inner: k, a + row * strideA, strideA: strideA,
        b + (isTransposed ? output * strideB : output), strideB: strideB, isTransposed: isTransposed, factor: 1,
        beta: 1,
        into: c + row * strideC + output, strideC: strideC)
    }
  }
}

extension FastBackend {
  /// Returns whether so many rows are multiplied by a weight in floats as it lies, in double precision.
  ///
  /// With AVX-512 that takes 0.4 to 0.7 of the time of decoding the weight and dgemm for 2 to 48 rows of a weight [in, out], and 0.2 to
  /// 1.0 for 2 to 13 rows of one that is stored [out, in], more beyond. A verification of a large network has 13 rows.
  private static func readsInPlace(rowCount: Int, isTransposed: Bool) -> Bool { rowCount <= (isTransposed ? 12 : 16) }

  /// Returns how many outputs of one row's product a task computes. Of a weight [in, out] a task reads a piece of each row: with
  /// pieces of 384 floats memory gives 25 GB/s to two cores where pieces of 64 get 18, those of 128 and 192 19. Of one that is
  /// stored [out, in] it reads whole rows, 1 MB at most, so that no thread waits long for another.
  ///
  /// This product may be cut as the workers need it: each output is the same sum, whichever are computed with it.
  private static func outputsPerTask(
    inputCount: Int, outputCount: Int, isTransposed: Bool, workers: Workers
  ) -> Int {
    let size =
      isTransposed
      ? min((1 << 18) / max(1, inputCount), outputCount / (4 * workers.count)) : min(384, outputCount / workers.count)
    return max(1, size / 64) * 64
  }

  /// xW + b: [T, in] → [T, out].
  @specialized(where Scalar == Float)
  @specialized(where Scalar == Double)
  func apply(_ map: LinearMap, to x: Matrix<Scalar>) -> Matrix<Scalar> {
    let result = Matrix<Scalar>(rows: x.rowCount, columns: map.weight.columnCount)
    let bias = map.bias.map { ParameterReader($0, workers: workers).values().map { Scalar($0) } }
    /// Puts the bias where a tile's sums are to be added, and returns the place of the first of them.
    @Sendable func begin(_ tile: ProductTile) -> UnsafeMutablePointer<Scalar> {
      let corner = unsafe result.start + tile.rows.lowerBound * result.columnCount + tile.outputs.lowerBound
      if let bias {
        unsafe bias.withUnsafeBufferPointer { values in
          let part = unsafe UnsafeBufferPointer(rebasing: values[tile.outputs])
          guard let start = part.baseAddress else { return }
          for row in 0..<tile.rows.count {
            unsafe (corner + row * result.columnCount).update(from: start, count: part.count)
          }
        }
      }
      return unsafe corner
    }
    /// Computes a tile, given the weight's columns that belong to it.
    @Sendable func multiply(_ tile: ProductTile, by weight: UnsafePointer<Scalar>, stride: Int, isTransposed: Bool) {
      let corner = unsafe begin(tile)
      unsafe Scalar.multiply(
        rows: tile.rows.count, columns: tile.outputs.count, inner: x.columnCount,
        x.start + tile.rows.lowerBound * x.columnCount, strideA: x.columnCount, weight, strideB: stride,
        isTransposed: isTransposed, factor: 1, beta: bias == nil ? 0 : 1, into: corner, strideC: result.columnCount)
    }
    if rounding == nil, let row = x as? Matrix<Float>, x.rowCount == 1,
      let stored = InPlaceWeight(map.weight, as: Float.self)
    {
      let width = Self.outputsPerTask(
        inputCount: x.columnCount, outputCount: result.columnCount, isTransposed: stored.isTransposed,
        workers: workers)
      workers.forEachPart(of: result.columnCount, size: width) { outputs in
        // Scalar is Float here, since x is a matrix of Floats.
        let corner = unsafe UnsafeMutableRawPointer(begin(ProductTile(rows: 0..<1, outputs: outputs)))
          .assumingMemoryBound(to: Float.self)
        if bias == nil { unsafe corner.update(repeating: 0, count: outputs.count) }
        unsafe stored.withColumns(from: outputs.lowerBound) { (weight: UnsafePointer<Float>) in
          unsafe normfold_row_product(
            outputs.count, x.columnCount, row.start, weight, stored.stride, stored.isTransposed, corner)
        }
      }
      return result
    }
    // The same for weights of both kinds: so are the bits of the result.
    let tiles = ProductTile.tiles(
      rowCount: x.rowCount, outputCount: result.columnCount, threadCount: workers.cut)
    if let stored = InPlaceWeight(map.weight, as: Scalar.self), rounding == nil {
      workers.forEach(tiles.count) { number in
        let tile = tiles[number]
        unsafe stored.withColumns(from: tile.outputs.lowerBound) { weight in
          unsafe multiply(tile, by: weight, stride: stored.stride, isTransposed: stored.isTransposed)
        }
      }
    } else if rounding == nil, let x = x as? Matrix<Double>, let stored = InPlaceWeight(map.weight, as: Float.self),
      Self.readsInPlace(rowCount: x.rowCount, isTransposed: stored.isTransposed)
    {
      workers.forEach(tiles.count) { number in
        let tile = tiles[number]
        // Scalar is Double here, since x is a matrix of Doubles.
        let corner = unsafe UnsafeMutableRawPointer(begin(tile)).assumingMemoryBound(to: Double.self)
        if bias == nil {
          for row in 0..<tile.rows.count {
            unsafe (corner + row * result.columnCount).update(repeating: 0, count: tile.outputs.count)
          }
        }
        unsafe stored.withColumns(from: tile.outputs.lowerBound) { (weight: UnsafePointer<Float>) in
          unsafe normfold_product(
            tile.rows.count, tile.outputs.count, x.columnCount, x.start + tile.rows.lowerBound * x.columnCount,
            x.columnCount, weight, stored.stride, stored.isTransposed, corner, result.columnCount)
        }
      }
    } else {
      let weight = ComputedWeight(map.weight, rounding: rounding, workers: workers)
      // Each part of the weight is computed once, for all rows.
      let parts = Dictionary(grouping: tiles, by: \.outputs).values.sorted {
        $0[0].outputs.lowerBound < $1[0].outputs.lowerBound
      }
      workers.forEach(parts.count) { number in
        let part = parts[number]
        unsafe weight.withColumns(part[0].outputs, as: Scalar.self) { numbers, stride in
          nonisolated(unsafe) let numbers = unsafe numbers
          workers.forEach(part.count) { tile in
            unsafe multiply(part[tile], by: numbers, stride: stride, isTransposed: weight.isTransposed)
          }
        }
      }
    }
    return result
  }

  /// The logits of a residual stream [T, D], to be computed when asked for.
  package func logits(of x: Matrix<Scalar>, by map: LinearMap?, cappedAt cap: Double? = nil) -> PendingLogits<Scalar> {
    var backend = self
    backend.rounding = rounding?.ofUnembedding
    return PendingLogits(residual: x, map: map, cap: cap, backend: backend)
  }
}

/// A weight [in, out] whose numbers a file holds in the precision of the arithmetic, where BLAS can read them.
private struct InPlaceWeight: Sendable {
  private let view: StoredView
  private let elementSize: Int

  /// nil where numbers have to be computed or copied.
  init?<Scalar: ArithmeticScalar>(_ parameter: Parameter, as _: Scalar.Type) {
    guard let view = parameter.storedView, view.tensor.isContiguous, view.tensor.info.type == Scalar.storedType,
      view.tensor.withBytes({ bytes in
        unsafe bytes.withUnsafeBytes { Int(bitPattern: $0.baseAddress) % MemoryLayout<Scalar>.alignment == 0 }
      })
    else { return nil }
    self.view = view
    elementSize = MemoryLayout<Scalar>.stride
  }

  var stride: Int { view.leadingDimension }
  /// Is true if the weight is stored [out, in].
  var isTransposed: Bool { view.isTransposed }

  /// Lends the numbers from the first input of an output on.
  func withColumns<Scalar>(from output: Int, _ body: (UnsafePointer<Scalar>) -> Void) {
    view.tensor.withBytes { bytes in
      unsafe bytes.withUnsafeBytes { raw in
        guard let base = raw.baseAddress else { return }
        let first = view.elementOffset + (isTransposed ? output * stride : output)
        unsafe body((base + first * elementSize).assumingMemoryBound(to: Scalar.self))
      }
    }
  }
}

/// A weight [in, out] whose numbers are computed, some outputs at a time.
private struct ComputedWeight: Sendable {
  /// Is true if a row is an output: as the weight is stored, so that rows are read as they lie.
  let isTransposed: Bool
  private let reader: ParameterReader
  private let inputCount: Int
  private let rounding: Storage?

  init(_ parameter: Parameter, rounding: Storage?, workers: Workers) {
    isTransposed = parameter.storedView?.isTransposed ?? parameter.readsAcrossStoredRows
    reader = ParameterReader(
      isTransposed ? parameter.transposed() : parameter, readsPartsOfRows: !isTransposed, workers: workers)
    inputCount = parameter.rowCount
    self.rounding = rounding
  }

  /// Lends the numbers of some outputs, dense.
  func withColumns<Scalar: ArithmeticScalar>(
    _ outputs: Range<Int>, as _: Scalar.Type, _ body: (_ numbers: UnsafePointer<Scalar>, _ stride: Int) -> Void
  ) {
    let (rows, columns) = isTransposed ? (outputs, 0..<inputCount) : (0..<inputCount, outputs)
    let numbers = UnsafeMutableBufferPointer<Scalar>.allocate(capacity: inputCount * outputs.count)
    defer { unsafe numbers.deallocate() }
    unsafe reader.read(rows: rows, columns: columns, into: numbers)
    if let rounding {
      // Stored matrices are [out, in] wherever a type has blocks, so these run along the input.
      let type = rounding.matrix(inputWidth: inputCount)
      if isTransposed {
        unsafe numbers.round(to: type, unit: rounding.unit, columnCount: columns.count)
      } else {
        unsafe numbers.roundAcross(to: type, unit: rounding.unit, columnCount: columns.count)
      }
    }
    guard let start = numbers.baseAddress else { return }
    unsafe body(start, columns.count)
  }
}

/// Logits that are computed when asked for, a range of the vocabulary at a time: all of them at once would be the
/// largest thing in memory.
package struct PendingLogits<Scalar: ArithmeticScalar>: Sendable {
  /// [T, D]
  package let residual: Matrix<Scalar>
  /// The unembedding; nil where the network gives away its stream and no logits.
  let map: LinearMap?
  /// The bound c of c · tanh(x / c), which the logits stay below; nil where nothing caps them.
  let cap: Double?
  let backend: FastBackend<Scalar>

  package var vocabularySize: Int { map?.weight.columnCount ?? residual.columnCount }

  /// The logits of a range of the vocabulary: [T, range].
  package func logits(of range: Range<Int>) -> Matrix<Scalar> {
    guard let map else {
      let part = Matrix<Scalar>(rows: residual.rowCount, columns: range.count)
      for row in 0..<residual.rowCount {
        _ = unsafe part.row(row).update(from: UnsafeMutableBufferPointer(rebasing: residual.row(row)[range]))
      }
      return part
    }
    return capped(
      backend.apply(
        LinearMap(
          weight: map.weight.sliced(axis: 1, range), bias: map.bias.map { $0.sliced(axis: 0, range) }), to: residual))
  }

  private func capped(_ logits: Matrix<Scalar>) -> Matrix<Scalar> {
    if let cap { unsafe Kernels.activate(logits.values, by: .softCap(cap), into: logits.values) }
    return logits
  }

  /// The logits of the last token: [1, V].
  package func ofLastToken() -> Matrix<Scalar> {
    let last = Matrix<Scalar>(rows: 1, columns: residual.columnCount)
    _ = unsafe last.values.update(from: residual.row(residual.rowCount - 1))
    return map.map { capped(backend.apply($0, to: last)) } ?? last
  }

  /// All logits: [T, V].
  package func all() -> Matrix<Scalar> { logits(of: 0..<vocabularySize) }
}

extension ArithmeticScalar {
  /// The element type that is this scalar in a file.
  static var storedType: ElementType { Self.self == Double.self ? .f64 : .f32 }
}

extension ParameterReader {
  /// Reads a rectangle, in blocks that stay in cache between the steps of the recipe, rounding to `Scalar` where that is
  /// narrower.
  fileprivate func read<Scalar: ArithmeticScalar>(
    rows: Range<Int>, columns: Range<Int>, into destination: UnsafeMutableBufferPointer<Scalar>
  ) {
    if let doubles = unsafe destination as? UnsafeMutableBufferPointer<Double> {
      return unsafe read(rows: rows, columns: columns, into: doubles)
    }
    let step = max(1, Self.blockElementCount / max(1, columns.count))
    unsafe withUnsafeTemporaryAllocation(of: Double.self, capacity: min(step, rows.count) * columns.count) { block in
      for first in stride(from: rows.lowerBound, to: rows.upperBound, by: step) {
        let part = first..<min(first + step, rows.upperBound)
        unsafe read(rows: part, columns: columns, into: block)
        let start = (first - rows.lowerBound) * columns.count
        for index in 0..<part.count * columns.count {
          unsafe destination[start + index] = unsafe Scalar(block[index])
        }
      }
    }
  }
}
