import NormFoldFormats

/// The tensors of a safetensors file in memory, by name, to be changed and written again.
package struct EditableTensors {
  package struct Entry: Equatable {
    package var type: ElementType
    package var shape: [Int]
    package var bytes: [UInt8]

    package init(type: ElementType, shape: [Int], bytes: [UInt8]) {
      self.type = type
      self.shape = shape
      self.bytes = bytes
    }

    /// Values rounded to `type`.
    package init(_ values: [Double], shape: [Int], type: ElementType = .f32) {
      precondition(values.count == shape.reduce(1, *), "\(values.count) values for \(shape)")
      var bytes = [UInt8](repeating: 0, count: type.byteCount(ofElements: values.count) ?? 0)
      values.withUnsafeBufferPointer { values in
        bytes.withUnsafeMutableBytes { _ = type.encode(values, into: $0) }
      }
      self.init(type: type, shape: shape, bytes: bytes)
    }

    /// The values of an F32 entry, to be read and changed one by one.
    package subscript(element: Int) -> Float {
      get {
        precondition(type == .f32)
        return bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: 4 * element, as: Float.self) }
      }
      set {
        precondition(type == .f32)
        bytes.withUnsafeMutableBytes { $0.storeBytes(of: newValue, toByteOffset: 4 * element, as: Float.self) }
      }
    }

    /// An F32 matrix, its rows as columns.
    package var transposed: Entry {
      precondition(shape.count == 2)
      var result = Entry(type: type, shape: [shape[1], shape[0]], bytes: bytes)
      for row in 0..<shape[0] {
        for column in 0..<shape[1] { result[column * shape[0] + row] = self[row * shape[1] + column] }
      }
      return result
    }
  }

  package private(set) var entries: [String: Entry] = [:]

  package init() {}

  /// Everything that a checkpoint holds.
  package init(of checkpoint: Checkpoint) {
    for tensor in checkpoint.tensors {
      let bytes = tensor.withBytes { $0.withUnsafeBytes { [UInt8]($0) } }
      entries[tensor.name] = Entry(type: tensor.info.type, shape: tensor.shape, bytes: bytes)
    }
  }

  package var names: [String] { entries.keys.sorted() }

  /// - Precondition: setting nil, or changing in place, needs an entry that is there: a test that alters nothing
  ///   proves nothing.
  package subscript(name: String) -> Entry? {
    get { entries[name] }
    set {
      precondition(newValue != nil || entries[name] != nil, "there is no tensor \(name)")
      entries[name] = newValue
    }
  }

  /// - Precondition: it is there.
  package func entry(_ name: String) -> Entry {
    guard let entry = entries[name] else { preconditionFailure("there is no tensor \(name)") }
    return entry
  }

  /// - Precondition: it is there.
  package mutating func change(_ name: String, _ body: (inout Entry) -> Void) {
    var changed = entry(name)
    body(&changed)
    entries[name] = changed
  }

  package mutating func rename(_ name: String, to other: String) {
    precondition(entries[name] != nil, "there is no tensor \(name)")
    entries[other] = entries.removeValue(forKey: name)
  }

  /// Writes a safetensors file.
  package func write(to path: String) throws {
    let infos = entries.map { TensorInfo(name: $0, type: $1.type, shape: $1.shape) }
    let writer = try TensorWriter(safetensors: path, tensors: infos)
    for info in writer.order {
      try entry(info.name).bytes.withUnsafeBytes { try writer.append($0) }
    }
    try writer.finish()
  }
}
