import CNormFoldKernels
import Numerics

extension Float {
  /// Replaces each x by eˣ, to within two units in the last place.
  package static func exponentials(_ x: UnsafeMutableBufferPointer<Float>) {
    unsafe normfold_exponentials(x.baseAddress, x.count)
  }

  package static func areFinite(_ x: UnsafeMutableBufferPointer<Float>) -> Bool {
    unsafe normfold_are_finite_32(x.baseAddress, x.count, 0x7F80_0000)
  }

  package static func largest(_ x: UnsafeMutableBufferPointer<Float>) -> Float {
    unsafe normfold_largest(x.baseAddress, x.count)
  }

  package static func sumOfExponentials(_ x: UnsafeMutableBufferPointer<Float>, shiftedBy shift: Float) -> Float {
    unsafe normfold_sum_of_exponentials(x.baseAddress, x.count, shift)
  }

  package static func geluTanh(_ x: UnsafeMutableBufferPointer<Float>, into y: UnsafeMutableBufferPointer<Float>) {
    unsafe normfold_gelu_tanh(x.baseAddress, x.count, y.baseAddress)
  }

  package static func silu(_ x: UnsafeMutableBufferPointer<Float>, into y: UnsafeMutableBufferPointer<Float>) {
    unsafe normfold_silu(x.baseAddress, x.count, y.baseAddress)
  }
}

extension Double {
  /// Replaces each x by eˣ. The system's function is as fast as two lanes of the instructions that every x86-64 has.
  package static func exponentials(_ x: UnsafeMutableBufferPointer<Double>) {
    for index in 0..<x.count { unsafe x[index] = unsafe .exp(x[index]) }
  }

  package static func areFinite(_ x: UnsafeMutableBufferPointer<Double>) -> Bool {
    unsafe normfold_are_finite_double(x.baseAddress, x.count)
  }

  /// In four parts, none of which waits for another.
  package static func largest(_ x: UnsafeMutableBufferPointer<Double>) -> Double {
    let none = -Double.infinity
    var (a, b, c, d) = (none, none, none, none)
    let whole = x.count / 4 * 4
    for index in stride(from: 0, to: whole, by: 4) {
      a = unsafe x[index] > a ? x[index] : a
      b = unsafe x[index + 1] > b ? x[index + 1] : b
      c = unsafe x[index + 2] > c ? x[index + 2] : c
      d = unsafe x[index + 3] > d ? x[index + 3] : d
    }
    for index in whole..<x.count { a = unsafe x[index] > a ? x[index] : a }
    a = b > a ? b : a
    c = d > c ? d : c
    return c > a ? c : a
  }

  package static func sumOfExponentials(_ x: UnsafeMutableBufferPointer<Double>, shiftedBy shift: Double) -> Double {
    for index in 0..<x.count { unsafe x[index] = unsafe .exp(x[index] - shift) }
    return unsafe Kernels.sum(x)
  }

  package static func geluTanh(_ x: UnsafeMutableBufferPointer<Double>, into y: UnsafeMutableBufferPointer<Double>) {
    let inner = -2 * (2 / Double.pi).squareRoot()
    for index in 0..<x.count {
      let v = unsafe x[index]
      unsafe y[index] = v / (1 + .exp(inner * (v + 0.044715 * v * v * v)))
    }
  }

  package static func silu(_ x: UnsafeMutableBufferPointer<Double>, into y: UnsafeMutableBufferPointer<Double>) {
    for index in 0..<x.count { unsafe y[index] = unsafe x[index] / (1 + .exp(-x[index])) }
  }
}
