import CNormFoldKernels
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
          unsafe normfold_transpose_f32_double(
            corner, storedColumnCount, columns.count, height, target, rowStride)
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
}
