import Formats
import Networks
import Verify

/// Runs the tokens that follow those that a cache remembers: their keys and values join it, and their queries see all
/// that is in it.
struct CachedOperations<Scalar: ArithmeticScalar>: DecoratingOperations {
  var base: CPUOperations<Scalar>
  private let cache: KeyValueCache<Scalar>
  private let newCount: Int

  /// - Parameter tokens: what follows.
  init(tokens: [Int], cache: KeyValueCache<Scalar>) {
    let positions = Array(cache.count..<cache.count + tokens.count)
    base = CPUOperations(probes: [Probe(name: "text", tokens: tokens, positions: positions)])
    self.cache = cache
    newCount = tokens.count
  }

  func attend(
    query: Matrix<Scalar>, key: Matrix<Scalar>, value: Matrix<Scalar>, block: Int, headCount: Int,
    keyValueHeadCount: Int, rotary: Rotary?, scale: Double
  ) -> Matrix<Scalar> {
    let width = query.columnCount
    let dHead = width / headCount
    let query = rotary.map { base.rotated(query, dHead: dHead, by: $0) } ?? query
    let key = rotary.map { base.rotated(key, dHead: dHead, by: $0) } ?? key
    let past = cache.count
    let (keys, values) = cache.append(key: key, value: value, block: block)
    if past == 0 {
      return base.attend(
        query: query, key: key, value: value, block: block, headCount: headCount, keyValueHeadCount: keyValueHeadCount,
        rotary: nil, scale: scale)
    }
    let total = past + newCount
    let result = Matrix<Scalar>(rows: newCount, columns: width)
    let scores = Matrix<Scalar>(rows: newCount, columns: total)
    for head in 0..<headCount {
      let corner = head * dHead
      let keyCorner = head * keyValueHeadCount / headCount * dHead
      Scalar.multiply(
        rows: newCount, columns: total, inner: dHead, query.start + corner, strideA: width, keys.start + keyCorner,
        strideB: keys.columnCount, isTransposed: true, factor: Scalar(scale), beta: 0, into: scores.start,
        strideC: total)
      for row in 0..<newCount {
        let line = scores.row(row)
        Kernels.softmax(UnsafeMutableBufferPointer(rebasing: line[...(past + row)]))
        for future in past + row + 1..<max(past + row + 1, total) { line[future] = 0 }
      }
      Scalar.multiply(
        rows: newCount, columns: dHead, inner: total, scores.start, strideA: total, values.start + keyCorner,
        strideB: values.columnCount, isTransposed: false, factor: 1, beta: 0, into: result.start + corner,
        strideC: width)
    }
    return result
  }

  /// Of the last token only: the others are known.
  func unembed(_ x: Matrix<Scalar>, by map: LinearMap) -> PendingLogits<Scalar> {
    let last = Matrix<Scalar>(rows: 1, columns: x.columnCount)
    _ = last.values.update(from: x.row(x.rowCount - 1))
    return base.unembed(last, by: map)
  }
}

/// The keys and values of a sequence's tokens, block by block.
final class KeyValueCache<Scalar: ArithmeticScalar> {
  /// Tokens whose keys and values all blocks have.
  private(set) var count = 0
  private let capacity: Int
  /// Of each block, [capacity, width].
  private var keys: [Matrix<Scalar>] = []
  private var values: [Matrix<Scalar>] = []

  /// - Parameter capacity: how many tokens the sequence may get.
  init(capacity: Int) { self.capacity = capacity }

  /// - Returns: those of all tokens up to the new ones, in the first rows.
  func append(
    key: Matrix<Scalar>, value: Matrix<Scalar>, block: Int
  ) -> (keys: Matrix<Scalar>, values: Matrix<Scalar>) {
    precondition(count + key.rowCount <= capacity && block <= keys.count)
    if block == keys.count {
      keys.append(Matrix(rows: capacity, columns: key.columnCount))
      values.append(Matrix(rows: capacity, columns: value.columnCount))
    }
    (keys[block].start + count * key.columnCount).update(from: key.start, count: key.values.count)
    (values[block].start + count * value.columnCount).update(from: value.start, count: value.values.count)
    return (keys[block], values[block])
  }

  /// Once all blocks have the keys and values of so many new tokens.
  func advance(by newCount: Int) { count += newCount }
}
