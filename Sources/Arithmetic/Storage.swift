import NormFoldFormats
import NormFoldNetworks

/// The types that a file stores the matrices of a network in. Vectors (gains, biases) are not rounded: next to the
/// matrices what their rounding does is nothing.
package struct Storage: Hashable, Sendable {
  package var tokenEmbedding: ElementType
  package var positionEmbedding: ElementType
  package var unembedding: ElementType
  /// The types of the other matrices, by the width of their input: types with blocks give way to F16 where rows do not
  /// fill them.
  private var matrices: [Int: ElementType]
  private let usual: ElementType
  /// The factor that values are multiplied by before they are rounded, and divided by after. With 1, values that a type
  /// can hold stay what they are; with another factor, they are rounded like any other value.
  package var unit: Float = 1

  /// Everything in one type.
  package init(_ type: ElementType) {
    (tokenEmbedding, positionEmbedding, unembedding, usual) = (type, type, type, type)
    matrices = [:]
  }

  /// The types in which the tensors of a network that was read from a file are stored.
  package init(of network: Network) {
    func type(_ parameter: Parameter) -> ElementType { parameter.storedTensors.first?.info.type ?? .f32 }
    (tokenEmbedding, positionEmbedding, unembedding) = (.f32, .f32, .f32)
    var usual = ElementType.f32
    matrices = [:]
    for node in network.nodes {
      switch node.operation {
      case .embed(let table, .token): tokenEmbedding = type(table)
      case .embed(let table, .position): positionEmbedding = type(table)
      case .linear(let map) where node.path == network.unembeddingPath: unembedding = type(map.weight)
      case .linear(let map):
        if matrices.isEmpty { usual = type(map.weight) }
        matrices[map.weight.rowCount] = type(map.weight)
      default: continue
      }
    }
    self.usual = usual
  }

  package func matrix(inputWidth: Int) -> ElementType {
    matrices[inputWidth] ?? usual.fitting(rowLength: inputWidth)
  }

  /// The same with the unembedding's type for all matrices.
  package var ofUnembedding: Storage {
    var result = Storage(unembedding)
    result.unit = unit
    return result
  }

  /// The same types with another ``unit``, to measure what they cost a network whose weights were folded. A source that
  /// is stored in one of these types loses nothing to that type, but what folding makes of the source's weights does:
  /// as much as a source in other units.
  package var ofFoldedWeights: Storage {
    var result = self
    // Any factor would do that is no power of two: those change exponents only, and round as before.
    result.unit = 0.7
    return result
  }

  /// Is true if single precision reads exactly what double precision means, and nothing has to be rounded.
  package var isSinglePrecision: Bool { types == [.f32] }

  package var hasBlocks: Bool { types.contains { $0.elementsPerBlock > 1 } }

  /// Types that a network cannot be rounded to, because nothing here can write them.
  package var typesWithoutRounding: Set<ElementType> { types.filter { !$0.isEncodable } }

  private var types: Set<ElementType> {
    Set(matrices.values).union([tokenEmbedding, positionEmbedding, unembedding, usual])
  }
}

extension UnsafeMutableBufferPointer where Element: ArithmeticScalar {
  /// Rounds a dense matrix [rows, columns] as storing it does, its blocks running along the rows. A type that cannot be
  /// written changes nothing.
  func round(to type: ElementType, unit: Float, columnCount: Int) {
    guard type.isEncodable, type != .f32, type != .f64 else { return }
    precondition(columnCount % type.elementsPerBlock == 0)
    unsafe withUnsafeTemporaryAllocation(of: Float.self, capacity: columnCount) { line in
      for start in stride(from: 0, to: count, by: columnCount) {
        for column in 0..<columnCount { unsafe line[column] = unsafe Float(self[start + column]) * unit }
        unsafe type.roundTrip(line)
        for column in 0..<columnCount { unsafe self[start + column] = unsafe Element(line[column] / unit) }
      }
    }
  }

  /// The same for a matrix that is stored transposed, its blocks running along the columns.
  func roundAcross(to type: ElementType, unit: Float, columnCount: Int) {
    let block = type.elementsPerBlock
    guard type.isEncodable, block > 1 else { return unsafe round(to: type, unit: unit, columnCount: columnCount) }
    precondition(count / columnCount % block == 0)
    unsafe withUnsafeTemporaryAllocation(of: Float.self, capacity: block * columnCount) { tile in
      // A strip of rows as high as a block, turned.
      for start in stride(from: 0, to: count, by: block * columnCount) {
        for row in 0..<block {
          for column in 0..<columnCount {
            unsafe tile[column * block + row] = unsafe unit * Float(self[start + row * columnCount + column])
          }
        }
        unsafe type.roundTrip(tile)
        for row in 0..<block {
          for column in 0..<columnCount {
            unsafe self[start + row * columnCount + column] = unsafe Element(tile[column * block + row] / unit)
          }
        }
      }
    }
  }
}
