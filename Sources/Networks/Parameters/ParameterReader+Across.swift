import NormFoldFormats

extension ParameterReader {
  /// Each stored row holds one column of ours. Some are read together, so that what is written of each of our rows is a
  /// line of the cache: a number here and a number there would each fetch a line of their own.
  static func readAcross(
    _ tensor: Tensor, _ storedColumnCount: Int, _ rows: Range<Int>, _ columns: Range<Int>,
    into target: UnsafeMutablePointer<Double>, rowStride: Int
  ) {
    let height = rows.count
    if tensor.info.type == .f32, tensor.isContiguous {
      return tensor.withBytes { bytes in
        unsafe bytes.withUnsafeBytes { all in
          guard let all = all.baseAddress else { return }
          let corner = unsafe all + (columns.lowerBound * storedColumnCount + rows.lowerBound) * 4
          unsafe transpose(
            corner, pitch: storedColumnCount * 4, rows: columns.count, columns: height, into: target,
            rowStride: rowStride)
        }
      }
    }
    let together = 8
    let strip = UnsafeMutableBufferPointer<Double>.allocate(capacity: together * height)
    defer { unsafe strip.deallocate() }
    for first in stride(from: 0, to: columns.count, by: together) {
      let width = min(together, columns.count - first)
      for index in 0..<width {
        let start = (columns.lowerBound + first + index) * storedColumnCount
        let line = unsafe UnsafeMutableBufferPointer(rebasing: strip[index * height..<(index + 1) * height])
        unsafe tensor.decode(start + rows.lowerBound..<start + rows.upperBound, into: line)
      }
      let corner = unsafe target + first
      if width == together, let strip = strip.baseAddress {
        for row in 0..<height {
          let line = unsafe corner + row * rowStride
          for index in 0..<together { unsafe line[index] = strip[index * height + row] }
        }
      } else {
        for row in 0..<height {
          for index in 0..<width { unsafe corner[row * rowStride + index] = strip[index * height + row] }
        }
      }
    }
  }

  /// Writes rows of Floats, which begin `pitch` bytes apart, as columns: eight rows at a time, in squares of four.
  private static func transpose(
    _ source: UnsafeRawPointer, pitch: Int, rows rowCount: Int, columns columnCount: Int,
    into target: UnsafeMutablePointer<Double>, rowStride: Int
  ) {
    typealias Lanes = SIMD4<Float>
    func lanes(_ row: Int, _ column: Int) -> Lanes {
      unsafe source.loadUnaligned(fromByteOffset: row * pitch + column * 4, as: Lanes.self)
    }
    func put(_ lanes: Lanes, at column: Int, _ row: Int) {
      let place = unsafe UnsafeMutableRawPointer(target + column * rowStride + row)
      unsafe place.storeBytes(of: SIMD4<Double>(lanes), as: SIMD4<Double>.self)
    }
    let (wholeRows, wholeColumns) = (rowCount / 8 * 8, columnCount / 4 * 4)
    for first in stride(from: 0, to: wholeRows, by: 8) {
      for column in stride(from: 0, to: wholeColumns, by: 4) {
        for row in stride(from: first, to: first + 8, by: 4) {
          let (a, b) = (lanes(row, column), lanes(row + 1, column))
          let (c, d) = (lanes(row + 2, column), lanes(row + 3, column))
          put(Lanes(a[0], b[0], c[0], d[0]), at: column, row)
          put(Lanes(a[1], b[1], c[1], d[1]), at: column + 1, row)
          put(Lanes(a[2], b[2], c[2], d[2]), at: column + 2, row)
          put(Lanes(a[3], b[3], c[3], d[3]), at: column + 3, row)
        }
      }
    }
    for row in 0..<rowCount {
      for column in (row < wholeRows ? wholeColumns : 0)..<columnCount {
        unsafe target[column * rowStride + row] = Double(
          source.loadUnaligned(fromByteOffset: row * pitch + column * 4, as: Float.self))
      }
    }
  }
}
