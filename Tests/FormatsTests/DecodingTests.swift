import Foundation
import NormFoldFormats
import Testing
import TestSupport

/// One tensor in a file of its own, behind `gap` bytes of another.
private func tensor(_ type: ElementType, _ bytes: [UInt8], gap: Int = 0) throws -> (Tensor, TemporaryDirectory) {
  let directory = try TemporaryDirectory()
  let path = try directory.write([UInt8](repeating: 0xA5, count: gap) + bytes, to: "data")
  let info = TensorInfo(name: "a", type: type, shape: [bytes.count * 8 / type.bitsPerBlock])
  return (Tensor(info: info, file: try MappedFile(path: path), byteOffset: gap), directory)
}

private func bytes<T>(_ values: [T]) -> [UInt8] { values.withUnsafeBytes { [UInt8]($0) } }

extension FloatingPoint {
  /// Equal, or both not numbers; zeros with their sign.
  fileprivate func isSame(as other: Self) -> Bool { isNaN ? other.isNaN : self == other && sign == other.sign }
}

@Test("all 65,536 halves, held against Float16", arguments: [0, 1]) func halves(gap: Int) throws {
  let patterns = [UInt16](0...UInt16.max)
  let (tensor, directory) = try tensor(.f16, bytes(patterns), gap: gap)
  let floats = tensor.decoded(as: Float.self)
  let doubles = tensor.decoded(as: Double.self)
  let wrong = patterns.indices.filter {
    let expected = Float16(bitPattern: patterns[$0])
    return !floats[$0].isSame(as: Float(expected)) || !doubles[$0].isSame(as: Double(expected))
  }
  #expect(wrong.isEmpty)
  #expect(floats.count == 65_536)
  withExtendedLifetime(directory) {}
}

/// Sign, exponent and fraction put together by hand.
@Test("all 65,536 bfloat16, held against their definition") func bfloats() throws {
  let patterns = [UInt16](0...UInt16.max)
  let (tensor, directory) = try tensor(.bf16, bytes(patterns))
  let floats = tensor.decoded(as: Float.self)
  let doubles = tensor.decoded(as: Double.self)
  let wrong = patterns.indices.filter { index in
    let bits = Int(patterns[index])
    let exponent = bits >> 7 & 0xFF
    let fraction = Double(bits & 0x7F) / 128
    let magnitude =
      switch exponent {
      case 0xFF: fraction == 0 ? Double.infinity : .nan
      case 0: fraction * 0x1p-126
      default: Double(sign: .plus, exponent: exponent - 127, significand: 1 + fraction)
      }
    let expected = bits >= 0x8000 ? -magnitude : magnitude
    return !doubles[index].isSame(as: expected) || !floats[index].isSame(as: Float(expected))
  }
  #expect(wrong.isEmpty)
  withExtendedLifetime(directory) {}
}

/// Stored bytes, little-endian, and the numbers they stand for.
struct DecodingCase: CustomTestStringConvertible {
  let type: ElementType
  let bytes: [UInt8]
  let values: [Double]
  var testDescription: String { type.displayName }

  static let all: [DecodingCase] = [
    .init(type: .bool, bytes: [0, 1, 2, 255], values: [0, 1, 1, 1]),
    .init(type: .u8, bytes: [0, 1, 128, 255], values: [0, 1, 128, 255]),
    .init(type: .i8, bytes: [0, 1, 0x7F, 0x80, 0xFF], values: [0, 1, 127, -128, -1]),
    .init(type: .u16, bytes: [1, 2, 0xFF, 0xFF], values: [513, 65_535]),
    .init(type: .i16, bytes: [1, 2, 0xFF, 0xFF, 0, 0x80], values: [513, -1, -32_768]),
    .init(type: .u32, bytes: [1, 0, 0, 1, 0xFF, 0xFF, 0xFF, 0xFF], values: [16_777_217, 4_294_967_295]),
    .init(type: .i32, bytes: [1, 0, 0, 1, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0x80], values: [16_777_217, -1, -0x1p31]),
    // 2^53 + 1 lies between two Doubles and goes to the even one.
    .init(
      type: .u64, bytes: [1, 0, 0, 0, 0, 0, 0x20, 0] + [UInt8](repeating: 0xFF, count: 8), values: [0x1p53, 0x1p64]),
    .init(
      type: .i64, bytes: [3, 0, 0, 0, 0, 0, 0x20, 0] + [UInt8](repeating: 0xFF, count: 8), values: [0x1p53 + 4, -1]),
    .init(
      type: .f32, bytes: [0, 0, 0xC0, 0x3F, 1, 0, 0, 0, 0, 0, 0x80, 0xFF], values: [1.5, 0x1p-149, -.infinity]),
    .init(
      type: .f64, bytes: [0, 0, 0, 0, 0, 0, 0xF8, 0xBF, 1, 0, 0, 0, 0, 0, 0, 0], values: [-1.5, 0x1p-1074]),
  ]
}

@Test("decodes, aligned or not", arguments: DecodingCase.all, [0, 1, 3, 7])
func decodes(_ row: DecodingCase, gap: Int) throws {
  let (tensor, directory) = try tensor(row.type, row.bytes, gap: gap)
  #expect(tensor.decoded(as: Double.self) == row.values)
  #expect(tensor.decoded(as: Float.self) == row.values.map { Float($0) })
  withExtendedLifetime(directory) {}
}

/// Rounding an integer to Double first and to Float then would round twice.
@Test("large integers round to Float once") func roundsOnce() throws {
  let value: Int64 = 1 << 60 + 1 << 36 + 1
  let (tensor, directory) = try tensor(.i64, bytes([value]))
  #expect(tensor.decoded(as: Float.self) == [0x1p60 + 0x1p37])
  withExtendedLifetime(directory) {}
}

@Test("decodes a part") func decodesPart() throws {
  let (tensor, directory) = try tensor(.i16, bytes([Int16](0..<100)), gap: 1)
  var part = [Float](repeating: -1, count: 4)
  part.withUnsafeMutableBufferPointer { tensor.decode(97..<100, into: $0) }
  #expect(part == [97, 98, 99, -1])
  part.withUnsafeMutableBufferPointer { tensor.decode(100..<100, into: $0) }
  #expect(part == [97, 98, 99, -1])
  withExtendedLifetime(directory) {}
}

@Test("decodes strided views", arguments: [0, 3]) func decodesStrided(gap: Int) throws {
  let (stored, directory) = try tensor(.f32, bytes([Float](arrayLiteral: 0, 1, 2, 3, 4, 5)), gap: gap)
  let transposed = Tensor(
    info: .init(name: "t", type: .f32, shape: [3, 2]), file: stored.file, byteOffset: gap, elementStrides: [1, 3])
  #expect(transposed.decoded(as: Double.self) == [0, 3, 1, 4, 2, 5])
  withExtendedLifetime(directory) {}
}

@Test("types that hold no numbers for us say so")
func undecodable() {
  let numbers = ElementType.allCases.filter { $0.elementsPerBlock == 1 && $0.isDecodable }
  #expect(Set(numbers) == [.bool, .i8, .i16, .i32, .i64, .u8, .u16, .u32, .u64, .f16, .bf16, .f32, .f64])
}
