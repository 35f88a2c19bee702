import NormFoldFormats
import Testing

@Suite("Numbers in decimal digits")
struct NotationTests {
  /// What glibc's printf writes, by its manual: rounded to even where a number lies between two.
  @Test(
    "Are rounded as printf rounds",
    arguments: [
      (0.125, Double.Notation.fixed(2), "0.12"), (0.375, .fixed(2), "0.38"), (-0.0, .fixed(1), "-0.0"),
      (1e22, .fixed(0), "10000000000000000000000"), (1e300, .scientific(16), "1.0000000000000001e+300"),
      (3.25e-15, .scientific(1), "3.2e-15"), (1e100, .scientific(3), "1.000e+100"), (0.5, .significant(3), "0.5"),
      (1e6, .significant(6), "1e+06"), (123_456, .significant(6), "123456"), (1e-5, .significant(6), "1e-05"),
      (.nan, .significant(3), "nan"), (-.infinity, .fixed(2), "-inf"),
    ])
  func rounding(number: Double, notation: Double.Notation, text: String) {
    #expect(number.text(notation) == text)
  }
}
