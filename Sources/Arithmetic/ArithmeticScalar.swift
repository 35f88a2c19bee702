import CNormFoldKernels
import CNormFoldLinux
import CNormFoldOpenBLAS
import Glibc
import NormFoldFormats
import Numerics

/// A precision that the forward pass can be computed in.
package protocol ArithmeticScalar: ComputeScalar, Real {
  /// C = A·B + β·C on row-major matrices, A [m, k], B [k, n] or, if `isTransposed`, stored as [n, k].
  static func multiply(
    rows m: Int, columns n: Int, inner k: Int, _ a: UnsafePointer<Self>, strideA: Int,
    _ b: UnsafePointer<Self>, strideB: Int, isTransposed: Bool, factor: Self, beta: Self,
    into c: UnsafeMutablePointer<Self>, strideC: Int)

  /// C = Aᵀ·B + β·C on row-major matrices, A stored [k, m], B [k, n].
  static func multiplyTransposed(
    rows m: Int, columns n: Int, inner k: Int, _ a: UnsafePointer<Self>, strideA: Int,
    _ b: UnsafePointer<Self>, strideB: Int, beta: Self, into c: UnsafeMutablePointer<Self>, strideC: Int)

  /// Returns whether no number is NaN or infinite.
  static func areFinite(_ x: UnsafeMutableBufferPointer<Self>) -> Bool

  /// Replaces each x by eˣ.
  static func exponentials(_ x: UnsafeMutableBufferPointer<Self>)

  /// The largest number; −∞ of nothing. NaN counts for nothing.
  static func largest(_ x: UnsafeMutableBufferPointer<Self>) -> Self

  /// Replaces each x by e^(x − shift).
  /// - Returns: their sum.
  static func sumOfExponentials(_ x: UnsafeMutableBufferPointer<Self>, shiftedBy shift: Self) -> Self

  /// y = ½x(1 + tanh u) = x / (1 + e⁻²ᵘ) with u = √(2/π)(x + 0.044715x³): without the cancellation of 1 + tanh u.
  static func geluTanh(_ x: UnsafeMutableBufferPointer<Self>, into y: UnsafeMutableBufferPointer<Self>)

  /// y = x / (1 + e⁻ˣ)
  static func silu(_ x: UnsafeMutableBufferPointer<Self>, into y: UnsafeMutableBufferPointer<Self>)

  // Training

  /// y = up ⊙ the derivative of ``geluTanh(_:into:)`` at x.
  static func geluTanhSlope(
    _ up: UnsafeMutableBufferPointer<Self>, of x: UnsafeMutableBufferPointer<Self>,
    into y: UnsafeMutableBufferPointer<Self>)

  /// y = up ⊙ the derivative of ``silu(_:into:)`` at x.
  static func siluSlope(
    _ up: UnsafeMutableBufferPointer<Self>, of x: UnsafeMutableBufferPointer<Self>,
    into y: UnsafeMutableBufferPointer<Self>)

  /// sum = a + b; the sum may be one of them.
  static func add(
    _ a: UnsafeMutableBufferPointer<Self>, _ b: UnsafeMutableBufferPointer<Self>,
    into sum: UnsafeMutableBufferPointer<Self>)

  /// Σx², in double precision.
  static func sumOfSquares(_ x: UnsafeMutableBufferPointer<Self>) -> Double

  /// Adds some columns of all rows to their sums, row by row.
  static func addColumns(
    _ columns: Range<Int>, of matrix: Matrix<Self>, to sums: UnsafeMutableBufferPointer<Double>)

  /// A step of AdamW with some numbers: parameters, gradient, first and second moments.
  static func takeStep(
    of count: Int, _ p: UnsafeMutablePointer<Self>, gradient g: UnsafePointer<Self>,
    moments m: UnsafeMutablePointer<Self>, _ v: UnsafeMutablePointer<Self>, _ factors: AdamWFactors)
}

extension Float: ArithmeticScalar {
  package static func multiply(
    rows m: Int, columns n: Int, inner k: Int, _ a: UnsafePointer<Float>, strideA: Int,
    _ b: UnsafePointer<Float>, strideB: Int, isTransposed: Bool, factor: Float, beta: Float,
    into c: UnsafeMutablePointer<Float>, strideC: Int
  ) {
    if m == 1 {
      // A product of matrices would copy the whole of B first. β = 0 is to hold for whatever lies there, too.
      if beta == 0 { unsafe c.update(repeating: 0, count: n) }
      let (rows, columns) = isTransposed ? (n, k) : (k, n)
      return unsafe cblas_sgemv(
        CblasRowMajor, isTransposed ? CblasNoTrans : CblasTrans, blasint(rows), blasint(columns), factor, b,
        blasint(strideB), a, 1, beta == 0 ? 1 : beta, c, 1)
    }
    unsafe cblas_sgemm(
      CblasRowMajor, CblasNoTrans, isTransposed ? CblasTrans : CblasNoTrans, blasint(m), blasint(n), blasint(k), factor,
      a, blasint(strideA), b, blasint(strideB), beta, c, blasint(strideC))
  }

  package static func multiplyTransposed(
    rows m: Int, columns n: Int, inner k: Int, _ a: UnsafePointer<Float>, strideA: Int,
    _ b: UnsafePointer<Float>, strideB: Int, beta: Float, into c: UnsafeMutablePointer<Float>, strideC: Int
  ) {
    unsafe cblas_sgemm(
      CblasRowMajor, CblasTrans, CblasNoTrans, blasint(m), blasint(n), blasint(k), 1, a, blasint(strideA), b,
      blasint(strideB), beta, c, blasint(strideC))
  }
}

extension Double: ArithmeticScalar {
  package static func multiply(
    rows m: Int, columns n: Int, inner k: Int, _ a: UnsafePointer<Double>, strideA: Int,
    _ b: UnsafePointer<Double>, strideB: Int, isTransposed: Bool, factor: Double, beta: Double,
    into c: UnsafeMutablePointer<Double>, strideC: Int
  ) {
    if m == 1 {
      // A product of matrices would copy the whole of B first. β = 0 is to hold for whatever lies there, too.
      if beta == 0 { unsafe c.update(repeating: 0, count: n) }
      let (rows, columns) = isTransposed ? (n, k) : (k, n)
      return unsafe cblas_dgemv(
        CblasRowMajor, isTransposed ? CblasNoTrans : CblasTrans, blasint(rows), blasint(columns), factor, b,
        blasint(strideB), a, 1, beta == 0 ? 1 : beta, c, 1)
    }
    unsafe cblas_dgemm(
      CblasRowMajor, CblasNoTrans, isTransposed ? CblasTrans : CblasNoTrans, blasint(m), blasint(n), blasint(k), factor,
      a, blasint(strideA), b, blasint(strideB), beta, c, blasint(strideC))
  }

  package static func multiplyTransposed(
    rows m: Int, columns n: Int, inner k: Int, _ a: UnsafePointer<Double>, strideA: Int,
    _ b: UnsafePointer<Double>, strideB: Int, beta: Double, into c: UnsafeMutablePointer<Double>, strideC: Int
  ) {
    unsafe cblas_dgemm(
      CblasRowMajor, CblasTrans, CblasNoTrans, blasint(m), blasint(n), blasint(k), 1, a, blasint(strideA), b,
      blasint(strideB), beta, c, blasint(strideC))
  }
}

/// Sets OpenBLAS to one thread, for the whole process, before the first product. It is called from several threads here,
/// each with its own work: its own threads would wait for each other by spinning, and lose all their speed to any neighbour
/// on the machine.
let blasRunsOnOneThread: Void = openblas_set_num_threads(1)

/// Arranges this process for arithmetic: what a program may do at its start, and a library may not do unasked.
///
/// OpenBLAS's own threads are stopped: those that it starts when it is loaded spin for a tenth of a second before they
/// sleep. And glibc keeps the memory of activations, which are made and dropped with every operation: asking the system for
/// it anew, page by page, costs more than many an operation does.
package func prepareProcessForArithmetic() {
  _ = blasRunsOnOneThread
  // What OpenBLAS does before a process forks; its header does not have it, nor every build of it.
  if let stopThreads = unsafe dlsym(nil, "blas_thread_shutdown_") {
    _ = unsafe unsafeBitCast(stopThreads, to: (@convention(c) () -> CInt).self)()
  }
  // The largest threshold that glibc takes: 32 MiB.
  _ = mallopt(M_MMAP_THRESHOLD, 32 << 20)
  _ = mallopt(M_TRIM_THRESHOLD, .max)
}

/// Starts this program again where OpenBLAS does not know the processor, and returns otherwise.
///
/// OpenBLAS 0.3.21 takes its oldest kernels, Prescott's, for an Emerald Rapids (model 207), which is newer, and multiplies at a
/// quarter of the speed that those for AVX-512 have there. It reads OPENBLAS_CORETYPE once, when it is loaded. A user's own
/// value stays.
package func restartWhereOpenBLASIsTooOld() {
  guard unsafe getenv("OPENBLAS_CORETYPE") == nil, let core = unsafe normfold_openblas_core(),
    let taken = unsafe openblas_get_corename(), unsafe strcmp(taken, "Prescott") == 0,
    let path = unsafe realpath("/proc/self/exe", nil)
  else { return }
  _ = unsafe setenv("OPENBLAS_CORETYPE", core, 1)
  // Returns only where it fails; then everything goes on, at the lower speed.
  _ = unsafe execv(path, CommandLine.unsafeArgv)
  unsafe free(path)
}

/// A precision that a network is computed in.
///
///     input.precision = .double
public enum Precision: String, Sendable, Codable {
  case single, double
}
