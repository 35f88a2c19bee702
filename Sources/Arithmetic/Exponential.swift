import CNormFoldKernels

extension Float {
  /// Replaces each x by eˣ, to within two units in the last place.
  package static func exponentials(_ x: UnsafeMutableBufferPointer<Float>) {
    unsafe normfold_exponentials_float(x.baseAddress, x.count)
  }

  package static func areFinite(_ x: UnsafeMutableBufferPointer<Float>) -> Bool {
    unsafe normfold_are_finite_32(x.baseAddress, x.count, 0x7F80_0000)
  }

  package static func largest(_ x: UnsafeMutableBufferPointer<Float>) -> Float {
    unsafe normfold_largest_float(x.baseAddress, x.count)
  }

  package static func sumOfExponentials(_ x: UnsafeMutableBufferPointer<Float>, shiftedBy shift: Float) -> Float {
    unsafe normfold_sum_of_exponentials_float(x.baseAddress, x.count, shift)
  }

  package static func geluTanh(_ x: UnsafeMutableBufferPointer<Float>, into y: UnsafeMutableBufferPointer<Float>) {
    unsafe normfold_gelu_tanh_float(x.baseAddress, x.count, y.baseAddress)
  }

  package static func silu(_ x: UnsafeMutableBufferPointer<Float>, into y: UnsafeMutableBufferPointer<Float>) {
    unsafe normfold_silu_float(x.baseAddress, x.count, y.baseAddress)
  }
}

extension Double {
  /// Replaces each x by eˣ, to within two units in the last place.
  package static func exponentials(_ x: UnsafeMutableBufferPointer<Double>) {
    unsafe normfold_exponentials_double(x.baseAddress, x.count)
  }

  package static func areFinite(_ x: UnsafeMutableBufferPointer<Double>) -> Bool {
    unsafe normfold_are_finite_double(x.baseAddress, x.count)
  }

  package static func largest(_ x: UnsafeMutableBufferPointer<Double>) -> Double {
    unsafe normfold_largest_double(x.baseAddress, x.count)
  }

  package static func sumOfExponentials(_ x: UnsafeMutableBufferPointer<Double>, shiftedBy shift: Double) -> Double {
    unsafe normfold_sum_of_exponentials_double(x.baseAddress, x.count, shift)
  }

  package static func geluTanh(_ x: UnsafeMutableBufferPointer<Double>, into y: UnsafeMutableBufferPointer<Double>) {
    unsafe normfold_gelu_tanh_double(x.baseAddress, x.count, y.baseAddress)
  }

  package static func silu(_ x: UnsafeMutableBufferPointer<Double>, into y: UnsafeMutableBufferPointer<Double>) {
    unsafe normfold_silu_double(x.baseAddress, x.count, y.baseAddress)
  }
}
