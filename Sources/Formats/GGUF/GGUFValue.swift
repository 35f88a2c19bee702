/// A value in the metadata of a GGUF file with its stored type: runtimes ask for exact types (a `u32` where an `i32`
/// stands is an error in llama.cpp), so a file can be written again only if they are kept.
package enum GGUFValue: Equatable, Sendable {
  case u8(UInt8), i8(Int8), u16(UInt16), i16(Int16), u32(UInt32), i32(Int32), u64(UInt64), i64(Int64)
  case f32(Float), f64(Double)
  case bool(Bool)
  case string(String)
  case u8s([UInt8]), i8s([Int8]), u16s([UInt16]), i16s([Int16]), u32s([UInt32]), i32s([Int32])
  case u64s([UInt64]), i64s([Int64])
  case f32s([Float]), f64s([Double])
  case bools([Bool])
  case strings([String])
}

/// The type numbers of metadata values.
enum GGUFValueType: Int32, CaseIterable {
  case u8 = 0
  case i8, u16, i16, u32, i32, f32, bool, string, array, u64, i64, f64

  /// The bytes of a value; for strings and arrays, of the shortest one.
  var smallestByteCount: Int {
    switch self {
    case .u8, .i8, .bool: 1
    case .u16, .i16: 2
    case .u32, .i32, .f32: 4
    case .u64, .i64, .f64, .string: 8
    case .array: 12
    }
  }

  /// The type that readers insist on for keys that change how the file itself is read.
  static func required(for key: String) -> GGUFValueType? {
    switch key {
    case "general.alignment": .u32
    case "split.no", "split.count": .u16
    case "split.tensors.count": .i32
    default: nil
    }
  }
}

extension GGUFValue {
  var type: GGUFValueType {
    switch self {
    case .u8: .u8
    case .i8: .i8
    case .u16: .u16
    case .i16: .i16
    case .u32: .u32
    case .i32: .i32
    case .u64: .u64
    case .i64: .i64
    case .f32: .f32
    case .f64: .f64
    case .bool: .bool
    case .string: .string
    case .u8s, .i8s, .u16s, .i16s, .u32s, .i32s, .u64s, .i64s, .f32s, .f64s, .bools, .strings: .array
    }
  }

  /// Any whole number that fits an Int.
  package var integer: Int? { MetadataValue(self).integer }
}

extension MetadataValue {
  package init(_ value: GGUFValue) {
    switch value {
    case .u8(let number): self = .integer(Int(number))
    case .i8(let number): self = .integer(Int(number))
    case .u16(let number): self = .integer(Int(number))
    case .i16(let number): self = .integer(Int(number))
    case .u32(let number): self = .integer(Int(number))
    case .i32(let number): self = .integer(Int(number))
    case .i64(let number): self = .integer(Int(number))
    case .u64(let number): self.init(number)
    case .f32(let number): self = .double(Double(number))
    case .f64(let number): self = .double(number)
    case .bool(let flag): self = .bool(flag)
    case .string(let text): self = .string(text)
    case .u8s(let numbers): self = .array(numbers.map { .integer(Int($0)) })
    case .i8s(let numbers): self = .array(numbers.map { .integer(Int($0)) })
    case .u16s(let numbers): self = .array(numbers.map { .integer(Int($0)) })
    case .i16s(let numbers): self = .array(numbers.map { .integer(Int($0)) })
    case .u32s(let numbers): self = .array(numbers.map { .integer(Int($0)) })
    case .i32s(let numbers): self = .array(numbers.map { .integer(Int($0)) })
    case .i64s(let numbers): self = .array(numbers.map { .integer(Int($0)) })
    case .u64s(let numbers): self = .array(numbers.map { MetadataValue($0) })
    case .f32s(let numbers): self = .array(numbers.map { .double(Double($0)) })
    case .f64s(let numbers): self = .array(numbers.map { .double($0) })
    case .bools(let flags): self = .array(flags.map { .bool($0) })
    case .strings(let texts): self = .array(texts.map { .string($0) })
    }
  }

  private init(_ number: UInt64) {
    if let integer = Int(exactly: number) { self = .integer(integer) } else { self = .large(number) }
  }
}
