import NormFoldFormats
import NormFoldNetworks

/// Finds the numbers of a network among the constants of a graph, by their values alone.
///
/// A matrix is looked for column by column in the weights that the graph's products read, so that it is found on its own,
/// beside others in one weight, and with its columns in another order. A table is looked for in the weights that rows are
/// gathered from, a vector among all vectors. Numbers that are nearly the network's are found, too: how far they are off is
/// for whoever compares them.
struct WeightSearch {
  /// The numbers that were found in the graph, and the paths of those that were not.
  struct Result {
    var products: [(node: Int, product: CutProduct)] = []
    /// The graph's numbers by operation.
    var maps: [Path: LinearMap] = [:]
    var tables: [Path: Parameter] = [:]
    var norms: [Path: (gain: Parameter, bias: Parameter?)] = [:]
    /// The operations whose matrix or table was not found.
    var missing: [Path] = []
    /// The gains and biases that were not found, where the network's own numbers stand.
    var missingVectors: [Path] = []

    /// A network with the graph's numbers in the places of its own.
    func storing(_ network: Network) -> Network {
      network.mappingOperations { path, operation in
        switch operation {
        case .linear: maps[path].map { .linear($0) } ?? operation
        case .embed(_, let index): tables[path].map { .embed($0, by: index) } ?? operation
        case .norm(let norm): norms[path].map { .norm(norm.with(gain: $0.gain, bias: $0.bias)) } ?? operation
        default: operation
        }
      }
    }
  }

  /// A node that multiplies by a weight [in, out].
  private struct Product {
    let node: Int
    let weight: Parameter
  }

  private let products: [Product]
  /// The weights that rows are gathered from.
  private let tables: [Parameter]
  /// The weights that have a row for each token and are added as a whole.
  private let wholeTables: [Parameter]
  private let vectors: [(parameter: Parameter, values: [Double])]

  init(_ graph: ONNXGraph) {
    let weights = Dictionary(
      graph.initializers.compactMap { initializer -> (String, Parameter)? in
        guard case .external(let value) = initializer.content else { return nil }
        return (initializer.name, value)
      }
    ) { first, _ in first }
    var products: [Product] = []
    var tables: [Parameter] = []
    for (index, node) in graph.nodes.enumerated() {
      switch node.operation {
      case "MatMul", "Gemm":
        guard node.inputs.count > 1, let weight = weights[node.inputs[1]], weight.shape.count == 2 else { continue }
        let isTransposed = node.attributes["transB"] == .integer(1)
        products.append(Product(node: index, weight: isTransposed ? weight.transposed() : weight))
      case "Gather":
        guard let table = node.inputs.first.flatMap({ weights[$0] }), table.shape.count == 2 else { continue }
        tables.append(table)
      default: continue
      }
    }
    self.products = products
    self.tables = tables
    let whole = graph.initializers.compactMap { initializer -> Parameter? in
      guard initializer.shape.count == 3, initializer.shape[0] == 1 else { return nil }
      return weights[initializer.name]
    }
    wholeTables = whole.filter { $0.rowCount > 1 }
    vectors =
      (weights.values.filter { $0.shape.count == 1 }
      + whole.filter { $0.rowCount == 1 }.map { $0.reshaped([$0.columnCount]) })
      .map { ($0, ParameterReader($0).values()) }
      .sorted { $0.0.description < $1.0.description }
  }

  func result(for network: Network) -> Result {
    var result = Result()
    let samples = products.map { ColumnSample(of: $0.weight) }
    var maps: [Int: [CutProduct.Map]] = [:]
    var taken: Set<Int> = []
    for node in network.nodes {
      switch node.operation {
      case .linear(let map):
        let wanted = ColumnSample(of: map.weight)
        var best: (number: Int, columns: [Int], count: Int)?
        for (number, sample) in samples.enumerated() {
          guard let found = wanted.columns(in: sample) else { continue }
          if let best {
            // Where two weights are the same, the network's maps stand in the order of the graph's.
            let isNext = taken.contains(best.number) && !taken.contains(number)
            guard found.count > best.count || found.count == best.count && isNext else { continue }
          }
          best = (number, found.columns, found.count)
        }
        guard let best else {
          result.missing.append(node.path)
          continue
        }
        taken.insert(best.number)
        maps[best.number, default: []].append(.init(path: node.path, columns: best.columns))
        let weight = products[best.number].weight
        let bias = map.bias.map { bias in
          let found = nearest(to: bias, through: best.columns, of: weight.columnCount)
          if found == nil { result.missingVectors.append(node.path.appending("bias")) }
          return found ?? bias
        }
        result.maps[node.path] = LinearMap(weight: weight.gathered(best.columns, axis: 1), bias: bias)
      case .embed(let table, .token), .embed(let table, .position), .embed(let table, .tokenType),
        .embed(let table, .unpaddedPosition):
        guard let found = self.table(like: table) else {
          result.missing.append(node.path)
          continue
        }
        result.tables[node.path] = found
      case .embed(let table, .first), .embed(let table, .others):
        guard let found = nearest(to: table.reshaped([table.columnCount])) else {
          result.missing.append(node.path)
          continue
        }
        result.tables[node.path] = found.reshaped(table.shape)
      case .norm(let norm):
        let gain = nearest(to: norm.gain)
        let bias = norm.bias.map { (own: $0, found: nearest(to: $0)) }
        // What is one number everywhere need not be stored.
        if gain == nil, norm.gain.constantValue == nil { result.missingVectors.append(node.path.appending("gain")) }
        if let bias, bias.found == nil, bias.own.constantValue == nil {
          result.missingVectors.append(node.path.appending("bias"))
        }
        result.norms[node.path] = (gain ?? norm.gain, bias.map { $0.found ?? $0.own })
      default: continue
      }
    }
    for number in maps.keys.sorted() {
      result.products.append(
        (
          products[number].node,
          CutProduct(
            maps: maps[number] ?? [], width: products[number].weight.columnCount,
            firstRow: maps[number]?.first.map { network.firstRow(of: $0.path) } ?? 0)
        ))
    }
    return result
  }

  /// The rows of a table that begin where the graph's does, or behind rows that nothing is gathered from.
  private func table(like table: Parameter) -> Parameter? {
    let wanted = ParameterReader(table)
    let rows = Array(Set((0..<16).map { $0 * (table.rowCount - 1) / 15 })).sorted()
    let expected = rows.map { wanted.values(rows: $0..<$0 + 1, columns: 0..<table.columnCount) }
    var best: (table: Parameter, count: Int)?
    for other in tables + wholeTables
    where other.columnCount == table.columnCount && other.rowCount >= table.rowCount {
      let reader = ParameterReader(other)
      for offset in Set([0, 1, 2, other.rowCount - table.rowCount]) where offset + table.rowCount <= other.rowCount {
        let count = zip(rows, expected).reduce(0) { sum, row in
          let found = reader.values(rows: offset + row.0..<offset + row.0 + 1, columns: 0..<table.columnCount)
          return sum + zip(row.1, found).count { isNear($0, $1) }
        }
        if count > best?.count ?? 0 {
          best = (other.sliced(axis: 0, offset..<offset + table.rowCount), count)
        }
      }
    }
    guard let best, 2 * best.count > rows.count * table.columnCount else { return nil }
    return best.table
  }

  /// The vector that most elements of one are in.
  private func nearest(
    to vector: Parameter, through columns: [Int]? = nil, of width: Int? = nil
  ) -> Parameter? {
    let wanted = ParameterReader(vector).values()
    var best: (parameter: Parameter, equal: Int, near: Int)?
    for (parameter, values) in vectors {
      let order: [Int]
      if values.count == wanted.count, columns == nil || width != values.count {
        order = Array(wanted.indices)
      } else if let columns, values.count == width {
        order = columns
      } else {
        continue
      }
      let equal = zip(wanted, order).count { $0 == values[$1] }
      let near = zip(wanted, order).count { isNear($0, values[$1]) }
      if (equal, near) > (best?.equal ?? -1, best?.near ?? -1) {
        best = (columns == nil ? parameter : parameter.gathered(order, axis: 0), equal, near)
      }
    }
    guard let best, 2 * best.near > wanted.count else { return nil }
    return best.parameter
  }
}

/// Returns whether a number may be another one that was rounded or slightly changed.
private func isNear(_ a: Double, _ b: Double) -> Bool { abs(a - b) <= 0x1p-6 * max(abs(a), abs(b)) }

/// Some rows of a matrix [in, out], in which its columns are told apart.
private struct ColumnSample {
  private let rowCount: Int
  private let columnCount: Int
  private let rows: [[Double]]
  /// For each of the first rows: its columns in the order of their numbers.
  private let orders: [[Int]]

  private static let rowsOfSample = 16
  /// Rows to find columns by: where an element was changed, another row finds it.
  private static let keyCount = 3

  init(of matrix: Parameter) {
    (rowCount, columnCount) = (matrix.rowCount, matrix.columnCount)
    let reader = ParameterReader(matrix)
    let count = min(matrix.rowCount, Self.rowsOfSample)
    let chosen = (0..<count).map { count == 1 ? 0 : $0 * (matrix.rowCount - 1) / (count - 1) }
    let rows = chosen.map { reader.values(rows: $0..<$0 + 1, columns: 0..<matrix.columnCount) }
    self.rows = rows
    orders = rows.prefix(Self.keyCount).map { row in row.indices.sorted { row[$0] < row[$1] } }
  }

  /// The columns of another matrix that this one's are, and how many of them were recognised; nil where most are not in it.
  func columns(in other: ColumnSample) -> (columns: [Int], count: Int)? {
    guard rowCount == other.rowCount, columnCount <= other.columnCount, columnCount > 0 else { return nil }
    // Most pairs of matrices have nothing in common: a few columns show it.
    let few = Set([0, columnCount / 3, columnCount / 2, columnCount - 1])
    guard few.contains(where: { place(of: $0, in: other) != nil }) else { return nil }
    var result = [Int?](repeating: nil, count: columnCount)
    for column in 0..<columnCount {
      if column > 0, let last = result[column - 1], last + 1 < other.columnCount,
        isSame(column, other, last + 1)
      {
        result[column] = last + 1
      } else {
        result[column] = place(of: column, in: other)
      }
    }
    let count = result.count { $0 != nil }
    guard 2 * count > columnCount else { return nil }
    // What was not recognised stands between its neighbours.
    for column in result.indices.dropFirst() where result[column] == nil {
      result[column] = result[column - 1].map { $0 + 1 }
    }
    for column in result.indices.dropLast().reversed() where result[column] == nil {
      result[column] = result[column + 1].map { $0 - 1 }
    }
    let columns = result.compactMap(\.self)
    guard columns.count == columnCount, columns.allSatisfy({ other.rows[0].indices.contains($0) }) else { return nil }
    return (columns, count)
  }

  private func isSame(_ column: Int, _ other: ColumnSample, _ place: Int) -> Bool {
    4 * rows.indices.count { isNear(rows[$0][column], other.rows[$0][place]) } >= 3 * rows.count
  }

  /// Returns the place of a column of this matrix in another one; nil where it is not there.
  private func place(of column: Int, in other: ColumnSample) -> Int? {
    var best: (place: Int, distance: Double)?
    for (key, order) in other.orders.enumerated() {
      let value = rows[key][column]
      let margin = 0x1p-5 * abs(value)
      var (low, high) = (0, order.count)
      while low < high {
        let middle = (low + high) / 2
        if other.rows[key][order[middle]] < value - margin { low = middle + 1 } else { high = middle }
      }
      while low < order.count, other.rows[key][order[low]] <= value + margin {
        let place = order[low]
        low += 1
        guard isSame(column, other, place) else { continue }
        let distance = rows.indices.reduce(0.0) { $0 + abs(rows[$1][column] - other.rows[$1][place]) }
        if distance < best?.distance ?? .infinity { best = (place, distance) }
      }
      if best != nil { break }
    }
    return best?.place
  }
}

extension Network {
  /// The first token that a map has a row for in programs: a class token is no patch of an image.
  fileprivate func firstRow(of path: Path) -> Int {
    for node in nodes where node.path == path {
      for operand in node.operands {
        if case .patches? = self[operand] { return 1 }
      }
    }
    return 0
  }
}

extension Norm {
  fileprivate func with(gain: Parameter, bias: Parameter?) -> Norm {
    var result = self
    (result.gain, result.bias) = (gain, bias)
    return result
  }
}

extension Parameter {
  /// The elements at some indices along an axis: slices of it, one behind the other.
  fileprivate func gathered(_ indices: [Int], axis: Int) -> Parameter {
    var runs: [Range<Int>] = []
    for index in indices {
      if let last = runs.last, last.upperBound == index {
        runs[runs.count - 1] = last.lowerBound..<index + 1
      } else {
        runs.append(index..<index + 1)
      }
    }
    return .concatenating(runs.map { sliced(axis: axis, $0) }, axis: axis)
  }
}
