import Glibc
import Synchronization

/// Memory of large matrices that are gone, for those to come, as long as somebody holds an object of this class. A step of
/// training makes the same matrices as the step before it. If the system gave them their memory anew, it would clear every
/// page again, and a virtual machine that gives free memory back to its host would wait for each: 0.5 GB/s were measured,
/// where memory that is there already is cleared at 11 GB/s.
package final class KeptMemory: Sendable {
  /// Smaller matrices are left to the allocator, which keeps their memory by itself.
  static let smallestByteCount = 1 << 17

  @safe private struct State: @unchecked Sendable {
    var holderCount = 0
    var blocks: [UnsafeMutableRawBufferPointer] = unsafe []
  }

  private static let state = Mutex(State())

  package init() { Self.state.withLock { $0.holderCount += 1 } }

  deinit {
    let unused = unsafe Self.state.withLock { state in
      state.holderCount -= 1
      guard state.holderCount == 0 else { return unsafe [] as [UnsafeMutableRawBufferPointer] }
      defer { unsafe state.blocks = [] }
      return unsafe state.blocks
    }
    unsafe unused.forEach { unsafe $0.deallocate() }
  }

  /// The number of bytes that are kept for matrices to come.
  package static var byteCount: Int { state.withLock { unsafe $0.blocks.reduce(0) { $0 + $1.count } } }

  /// A block of at least so many bytes, and at most a quarter more, from those that are kept: the smallest one.
  static func take(_ byteCount: Int) -> UnsafeMutableRawBufferPointer? {
    guard byteCount >= smallestByteCount else { return nil }
    return unsafe state.withLock { state in
      var best: Int?
      for index in unsafe state.blocks.indices {
        let size = unsafe state.blocks[index].count
        guard size >= byteCount, size - byteCount <= byteCount / 4 else { continue }
        if let known = best, unsafe state.blocks[known].count <= size { continue }
        best = index
      }
      return unsafe best.map { unsafe state.blocks.remove(at: $0) }
    }
  }

  /// Keeps a block, or gives it back to the system where nobody holds on to memory.
  static func give(_ block: UnsafeMutableRawBufferPointer) {
    let isKept =
      block.count >= smallestByteCount
      && state.withLock { state in
        guard state.holderCount > 0 else { return false }
        unsafe state.blocks.append(block)
        return true
      }
    if !isKept { unsafe block.deallocate() }
  }
}
