/// Memory for one weight at a time. Asking the system for it anew each time costs more than filling it.
final class Workspace<Scalar>: @unchecked Sendable {
  private var start: UnsafeMutablePointer<Scalar>?
  private var capacity = 0

  deinit { start?.deallocate() }

  /// Returns memory that is uninitialised and valid until the next call.
  func memory(for count: Int) -> UnsafeMutablePointer<Scalar> {
    if let start, count <= capacity { return start }
    start?.deallocate()
    let new = UnsafeMutablePointer<Scalar>.allocate(capacity: count)
    (start, capacity) = (new, count)
    return new
  }
}
