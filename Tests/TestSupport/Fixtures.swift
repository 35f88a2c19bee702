import CNormFoldZstd
import Foundation

/// The project's `fixtures` folder, expanded.
///
/// To keep the repository small, large files are stored compressed: `NAME.zst`, or, where a file shares most of its
/// bytes with `BASE/model.safetensors` beside its folder, as a zstd patch `NAME.from.BASE.zst`. They are expanded once
/// into `.build/fixtures`.
package enum Fixtures {
  /// The path of a fixture file or folder, by its unpacked name.
  package static func path(_ name: String) -> String { root.appending(path: name).path(percentEncoded: false) }

  private static let root: URL = {
    do { return try expand() } catch { fatalError("fixtures cannot be expanded: \(error)") }
  }()

  private static func expand() throws -> URL {
    let project = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent()
    let source = project.appending(path: "fixtures")
    let destination = project.appending(path: ".build/fixtures")
    let files = FileManager.default
    var packed: [(name: String, modified: Date)] = []
    for name in try files.subpathsOfDirectory(atPath: source.path(percentEncoded: false)).sorted() {
      let attributes = try files.attributesOfItem(atPath: source.appending(path: name).path(percentEncoded: false))
      guard attributes[.type] as? FileAttributeType == .typeRegular else { continue }
      packed.append((name, attributes[.modificationDate] as? Date ?? .distantPast))
    }
    // The listing with its dates is the stamp: any change to a fixture expands them all again.
    let stamp = Data(packed.map { "\($0.name) \($0.modified.timeIntervalSince1970)\n" }.joined().utf8)
    let stampFile = destination.appending(path: ".stamp")
    if (try? Data(contentsOf: stampFile)) == stamp { return destination }

    let staging = project.appending(path: ".build/fixtures-\(UUID().uuidString)")
    var patches: [String] = []
    for (name, _) in packed {
      if name.contains(".from.") {
        patches.append(name)
        continue
      }
      let data = try Data(contentsOf: source.appending(path: name))
      let isPacked = name.hasSuffix(".zst")
      try write(
        isPacked ? decompress(data, base: nil) : data,
        to: staging.appending(path: isPacked ? String(name.dropLast(4)) : name))
    }
    for name in patches {
      let parts = name.dropLast(4).split(separator: ".from.")
      let model = name.split(separator: "/")[0]
      let base = try Data(contentsOf: staging.appending(path: "\(model)/\(parts[1])/model.safetensors"))
      let patch = try Data(contentsOf: source.appending(path: name))
      try write(decompress(patch, base: base), to: staging.appending(path: String(parts[0])))
    }
    try stamp.write(to: staging.appending(path: ".stamp"))
    try? files.removeItem(at: destination)
    do {
      try files.moveItem(at: staging, to: destination)
    } catch {
      // Another test process was faster.
      try files.removeItem(at: staging)
      guard (try? Data(contentsOf: stampFile)) == stamp else { throw error }
    }
    return destination
  }

  private static func write(_ data: Data, to file: URL) throws {
    try FileManager.default.createDirectory(at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
    try data.write(to: file)
  }

  private static func decompress(_ data: Data, base: Data?) throws -> Data {
    let context = ZSTD_createDCtx()
    defer { ZSTD_freeDCtx(context) }
    _ = ZSTD_DCtx_setParameter(context, ZSTD_d_windowLogMax, 27)
    return try data.withUnsafeBytes { input in
      let size = ZSTD_getFrameContentSize(input.baseAddress, input.count)
      var output = Data(count: Int(size))
      let written = output.withUnsafeMutableBytes { output in
        guard let base else {
          return ZSTD_decompressDCtx(context, output.baseAddress, output.count, input.baseAddress, input.count)
        }
        return base.withUnsafeBytes { base in
          _ = ZSTD_DCtx_refPrefix(context, base.baseAddress, base.count)
          return ZSTD_decompressDCtx(context, output.baseAddress, output.count, input.baseAddress, input.count)
        }
      }
      guard ZSTD_isError(written) == 0, written == Int(size) else { throw CocoaError(.fileReadCorruptFile) }
      return output
    }
  }
}

extension Fixtures {
  /// The bytes of a fixture file as `zstd` compresses them, with a checksum.
  package static func compressed(_ name: String) throws -> [UInt8] {
    let content = try Data(contentsOf: URL(filePath: path(name)))
    let context = ZSTD_createCCtx()
    defer { ZSTD_freeCCtx(context) }
    _ = ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1)
    var output = [UInt8](repeating: 0, count: ZSTD_compressBound(content.count))
    let size = content.withUnsafeBytes { input in
      output.withUnsafeMutableBytes {
        ZSTD_compress2(context, $0.baseAddress, $0.count, input.baseAddress, input.count)
      }
    }
    guard ZSTD_isError(size) == 0 else { throw CocoaError(.fileReadCorruptFile) }
    return Array(output[..<size])
  }

  /// The content of a fixture file in JSON.
  package static func decode<Value: Decodable>(_ name: String) throws -> Value {
    try JSONDecoder().decode(Value.self, from: Data(contentsOf: URL(filePath: path(name))))
  }

  /// The bytes of a fixture file.
  package static func bytes(_ name: String) throws -> [UInt8] {
    [UInt8](try Data(contentsOf: URL(filePath: path(name))))
  }
}
