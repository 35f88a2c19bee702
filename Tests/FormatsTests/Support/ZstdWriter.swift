import TestSupport

/// Writes zstd frames of raw and repeated blocks, sound ones and others.
enum ZstdWriter {
  enum Block {
    case raw([UInt8])
    /// One byte, many times: the cheapest bomb.
    case repeated(UInt8, Int)
  }

  /// - Parameters:
  ///   - contentByteCount: states the size, in 8 bytes, without a window; nil states a window instead.
  ///   - window: the window byte; 0x38 is 128 KiB.
  static func frame(
    _ blocks: [Block], contentByteCount: UInt64? = nil, window: UInt8 = 0x38, descriptor: UInt8 = 0
  ) -> [UInt8] {
    var bytes: [UInt8] = [0x28, 0xB5, 0x2F, 0xFD]
    if let contentByteCount {
      bytes += [0xE0 | descriptor] + little(contentByteCount)
    } else {
      bytes += [descriptor, window]
    }
    for (index, block) in blocks.enumerated() {
      let isLast: UInt32 = index == blocks.count - 1 ? 1 : 0
      switch block {
      case .raw(let content): bytes += little(isLast | UInt32(content.count) << 3).prefix(3) + content
      case .repeated(let byte, let count): bytes += little(isLast | 1 << 1 | UInt32(count) << 3).prefix(3) + [byte]
      }
    }
    return bytes
  }

  static func skippable(_ content: [UInt8]) -> [UInt8] {
    little(UInt32(0x184D_2A53)) + little(UInt32(content.count)) + content
  }
}
