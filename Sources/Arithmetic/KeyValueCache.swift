import NormFoldNetworks

/// The keys and values of a sequence's tokens, attention by attention. One pass at a time uses it.
package final class KeyValueCache<Scalar: ArithmeticScalar>: @unchecked Sendable {
  /// Tokens whose keys and values all attentions have.
  package private(set) var count = 0
  private let capacity: Int
  /// By attention, each [capacity, width].
  private var memory: [Path: (keys: Matrix<Scalar>, values: Matrix<Scalar>)] = [:]

  /// - Parameter capacity: how many tokens the sequence may get.
  package init(capacity: Int) { self.capacity = capacity }

  /// Stores keys and values of new tokens behind those that are there.
  ///
  /// - Returns: those of all tokens up to the new ones, in the first rows.
  func append(
    key: Matrix<Scalar>, value: Matrix<Scalar>, at path: Path
  ) -> (keys: Matrix<Scalar>, values: Matrix<Scalar>) {
    precondition(count + key.rowCount <= capacity)
    let all =
      memory[path]
      ?? (Matrix(rows: capacity, columns: key.columnCount), Matrix(rows: capacity, columns: value.columnCount))
    memory[path] = all
    unsafe (all.keys.start + count * key.columnCount).update(from: key.start, count: key.values.count)
    unsafe (all.values.start + count * value.columnCount).update(from: value.start, count: value.values.count)
    return all
  }

  /// Counts new tokens once all attentions have their keys and values.
  package func advance(by newCount: Int) { count += newCount }
}
