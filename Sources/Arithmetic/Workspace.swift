/// Memory for one weight at a time. Asking the system for it anew each time costs more than filling it.
@safe final class Workspace<Scalar>: @unchecked Sendable {
  private var start: UnsafeMutablePointer<Scalar>?
  private var capacity = 0

  deinit { unsafe start?.deallocate() }

  /// Returns memory that is uninitialised and valid until the next call.
  func memory(for count: Int) -> UnsafeMutablePointer<Scalar> {
    if let start = unsafe start, count <= capacity { return unsafe start }
    unsafe start?.deallocate()
    let new = UnsafeMutablePointer<Scalar>.allocate(capacity: count)
    unsafe (start, capacity) = (new, count)
    return unsafe new
  }
}
