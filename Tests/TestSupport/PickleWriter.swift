/// Pieces of pickle programs: each leaves one value on the stack.
package enum PickleWriter {
  package static func program(_ value: [UInt8]) -> [UInt8] { [0x80, 2] + value + Array(".".utf8) }

  package static func string(_ text: String) -> [UInt8] {
    Array("X".utf8) + little(UInt32(text.utf8.count)) + Array(text.utf8)
  }

  package static func integer(_ value: Int) -> [UInt8] {
    Int32(exactly: value) != nil ? Array("J".utf8) + little(Int32(value)) : [0x8A, 8] + little(Int64(value))
  }

  package static func global(_ module: String, _ name: String) -> [UInt8] { Array("c\(module)\n\(name)\n".utf8) }

  package static func tuple(_ values: [[UInt8]]) -> [UInt8] { Array("(".utf8) + values.joined() + Array("t".utf8) }

  package static func dict(_ pairs: [([UInt8], [UInt8])]) -> [UInt8] {
    Array("}(".utf8) + pairs.flatMap { $0.0 + $0.1 } + Array("u".utf8)
  }

  package static func dict(_ pairs: KeyValuePairs<String, [UInt8]>) -> [UInt8] {
    dict(pairs.map { (string($0.key), $0.value) })
  }

  package static func call(_ global: [UInt8], _ arguments: [[UInt8]]) -> [UInt8] {
    global + tuple(arguments) + Array("R".utf8)
  }

  package static let none = Array("N".utf8)
  package static let no: [UInt8] = [0x89]
  package static let orderedDict = call(global("collections", "OrderedDict"), [])

  package static func storage(_ type: String = "FloatStorage", key: String = "0", count: Int, tag: String = "storage")
    -> [UInt8]
  {
    let module = type == "UntypedStorage" ? "torch.storage" : "torch"
    return tuple([string(tag), global(module, type), string(key), string("cpu"), integer(count)]) + Array("Q".utf8)
  }

  /// A float32 tensor over storage 0 of `count` elements.
  package static func tensor(
    _ shape: [Int], strides: [Int], offset: Int = 0, storage: [UInt8]? = nil, count: Int = 6
  ) -> [UInt8] {
    call(
      global("torch._utils", "_rebuild_tensor_v2"),
      [
        storage ?? self.storage(count: count), integer(offset), tuple(shape.map(integer)), tuple(strides.map(integer)),
        no,
        orderedDict,
      ])
  }

  /// An archive with `pickle` and a record of 6 floats, 0 to 5, for storage 0.
  package static func records(_ pickle: [UInt8]) -> [ZipWriter.Record] {
    [
      .init("a/data.pkl", program(pickle)), .init("a/byteorder", Array("little".utf8)),
      .init("a/data/0", (0..<6).flatMap { little(Float($0).bitPattern) }), .init("a/version", Array("3\n".utf8)),
    ]
  }

  package static let sound = records(dict(["w": tensor([2, 3], strides: [3, 1])]))
}
