/// The bytes of a GGUF header, up to where its padding starts.
struct GGUFHeaderBytes {
  private(set) var bytes: [UInt8] = []

  /// - Precondition: the byte count of each tensor does not overflow.
  /// - Throws: `.unsupported` for what a GGUF file cannot hold.
  init(
    metadata: [(key: String, value: GGUFValue)], tensors: [TensorInfo], alignment: Int, file: String
  ) throws(Refusal) {
    try Self.check(metadata, file: file)
    try Self.check(tensors, file: file)
    bytes += "GGUF".utf8
    append(UInt32(3))
    append(Int64(tensors.count))
    append(Int64(metadata.count))
    for (key, value) in metadata {
      append(key)
      append(value.type.rawValue)
      append(value)
    }
    var offset = 0
    for tensor in tensors {
      append(tensor.name)
      append(UInt32(tensor.shape.count))
      for extent in tensor.shape.reversed() { append(Int64(extent)) }
      append(tensor.type.ggmlNumber ?? -1)  // Checked above.
      append(UInt64(offset))
      offset += (tensor.byteCount + alignment - 1) & ~(alignment - 1)
    }
  }

  private static func check(_ metadata: [(key: String, value: GGUFValue)], file: String) throws(Refusal) {
    var keys: Set<String> = []
    for (key, value) in metadata {
      let problem: String? =
        if key.isEmpty {
          "a key is empty"
        } else if key.utf8.count > GGUFHeader.maximumKeyByteCount {
          "the key has \(key.utf8.count) bytes, expected at most \(GGUFHeader.maximumKeyByteCount)"
        } else if key.utf8.contains(0) {
          "the key holds a NUL"
        } else if let required = GGUFValueType.required(for: key), value.type != required {
          "expected a value of type \(required), found \(value.type)"
        } else if !keys.insert(key).inserted {
          "the key occurs twice"
        } else {
          nil
        }
      if let problem {
        throw Refusal(
          .unsupported, file: file, subject: String(key.prefix(80)), "GGUF cannot hold this metadata: \(problem)")
      }
    }
  }

  private static func check(_ tensors: [TensorInfo], file: String) throws(Refusal) {
    var names: Set<String> = []
    for tensor in tensors {
      let maximumNameByteCount = GGUFHeader.maximumNameByteCount
      let problem: String? =
        if tensor.name.isEmpty {
          "a tensor has an empty name"
        } else if tensor.name.utf8.count > maximumNameByteCount {
          "the name has \(tensor.name.utf8.count) bytes, expected at most \(maximumNameByteCount)"
        } else if tensor.name.utf8.contains(0) {
          "the name holds a NUL"
        } else if !names.insert(tensor.name).inserted {
          "the name occurs twice"
        } else if tensor.type.ggmlNumber == nil {
          "\(tensor.type.displayName) is not a type of ggml"
        } else if tensor.shape.count > GGUFHeader.maximumRank {
          "expected at most \(GGUFHeader.maximumRank) axes, found shape \(tensor.shape)"
        } else if (tensor.shape.last ?? 1) % tensor.type.elementsPerBlock != 0 {
          "expected a last axis of whole \(tensor.type.displayName) blocks of \(tensor.type.elementsPerBlock), "
            + "found \(tensor.shape)"
        } else {
          nil
        }
      if let problem {
        throw Refusal(
          .unsupported, file: file, subject: String(tensor.name.prefix(80)), "GGUF cannot hold this tensor: \(problem)")
      }
    }
  }
}

// MARK: Values

extension GGUFHeaderBytes {
  private mutating func append<Number: FixedWidthInteger>(_ number: Number) {
    var rest = number
    for _ in 0..<MemoryLayout<Number>.size {
      bytes.append(UInt8(truncatingIfNeeded: rest))
      rest >>= 8
    }
  }

  private mutating func append(_ text: String) {
    append(UInt64(text.utf8.count))
    bytes += text.utf8
  }

  private mutating func append(_ value: GGUFValue) {
    switch value {
    case .u8(let number): append(number)
    case .i8(let number): append(number)
    case .u16(let number): append(number)
    case .i16(let number): append(number)
    case .u32(let number): append(number)
    case .i32(let number): append(number)
    case .u64(let number): append(number)
    case .i64(let number): append(number)
    case .f32(let number): append(number.bitPattern)
    case .f64(let number): append(number.bitPattern)
    case .bool(let flag): append(UInt8(flag ? 1 : 0))
    case .string(let text): append(text)
    case .u8s(let numbers): append(numbers, .u8) { $0.append($1) }
    case .i8s(let numbers): append(numbers, .i8) { $0.append($1) }
    case .u16s(let numbers): append(numbers, .u16) { $0.append($1) }
    case .i16s(let numbers): append(numbers, .i16) { $0.append($1) }
    case .u32s(let numbers): append(numbers, .u32) { $0.append($1) }
    case .i32s(let numbers): append(numbers, .i32) { $0.append($1) }
    case .u64s(let numbers): append(numbers, .u64) { $0.append($1) }
    case .i64s(let numbers): append(numbers, .i64) { $0.append($1) }
    case .f32s(let numbers): append(numbers, .f32) { $0.append($1.bitPattern) }
    case .f64s(let numbers): append(numbers, .f64) { $0.append($1.bitPattern) }
    case .bools(let flags): append(flags, .bool) { $0.append(UInt8($1 ? 1 : 0)) }
    case .strings(let texts): append(texts, .string) { $0.append($1) }
    }
  }

  private mutating func append<Element>(
    _ elements: [Element], _ type: GGUFValueType, _ appendElement: (inout Self, Element) -> Void
  ) {
    append(type.rawValue)
    append(UInt64(elements.count))
    for element in elements { appendElement(&self, element) }
  }
}
