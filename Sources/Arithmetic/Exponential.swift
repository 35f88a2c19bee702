import CNormFoldKernels
import Numerics

extension Float {
  /// Replaces each x by eˣ, to within two units in the last place.
  package static func exponentials(_ x: UnsafeMutableBufferPointer<Float>) {
    unsafe normfold_exponentials(x.baseAddress, x.count)
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
