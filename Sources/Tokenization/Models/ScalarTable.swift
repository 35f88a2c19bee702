/// A number for some characters: pages of 256, of which most scripts need few.
struct ScalarTable: Sendable {
  /// No character has this number.
  static let none = UInt32.max

  private var pages = [UInt16](repeating: 0, count: 0x1100)
  private var numbers = [UInt32](repeating: none, count: 256)

  @inline(__always)
  subscript(scalar: Unicode.Scalar) -> UInt32 {
    get { numbers[Int(pages[Int(scalar.value >> 8)]) << 8 | Int(scalar.value & 0xFF)] }
    set {
      let page = Int(scalar.value >> 8)
      if pages[page] == 0 {
        pages[page] = UInt16(numbers.count >> 8)
        numbers.append(contentsOf: repeatElement(Self.none, count: 256))
      }
      numbers[Int(pages[page]) << 8 | Int(scalar.value & 0xFF)] = newValue
    }
  }
}
