import NormFoldFormats
import Testing
import TestSupport

struct GGUFEncodingTests {
  static let blockTypes: [ElementType] = [.q8_0, .q5_0, .q5_1, .q4_0, .q4_1]

  @Test func encodesNineTypes() {
    #expect(ElementType.allCases.filter(\.isEncodable).count == 9)
  }

  @Test("encodes as gguf-py does, bit for bit", arguments: blockTypes + [.bf16])
  func encodesFixture(_ type: ElementType) throws {
    let fixture = try GGUFBlockTests.fixture.get()
    let input = try #require(fixture["input"]).decoded(as: Float.self)
    let expected = try #require(fixture["\(type.displayName).bytes"]).decoded(as: Float.self).map { UInt8($0) }
    #expect(encoded(input, as: type).bytes == expected)
    #expect(encoded(input.map { Double($0) }, as: type).bytes == expected)
  }

  /// Blocks of every kind that took a special path, or could: see the names.
  static let blocks: [(name: String, values: [Float])] = {
    var random = SeededGenerator(seed: 11)
    func block(_ value: (Int) -> Float) -> [Float] { (0..<32).map(value) }
    var blocks: [(name: String, values: [Float])] = [
      ("zeros", block { _ in 0 }), ("negative zeros", block { _ in -0.0 }),
      ("zeros of both signs", block { $0 % 3 == 0 ? -0.0 : 0 }),
      ("zero minimum, negative first", block { $0 == 3 ? -0.0 : $0 % 2 == 0 ? 0.5 : 0 }),
      ("zero minimum of both signs", block { $0 == 20 ? -0.0 : $0 == 25 ? 0 : 1 }),
      ("constant", block { _ in 0.3 }), ("constant negative", block { _ in -0.3 }),
      ("tie of magnitudes, negative first", block { $0 == 4 ? -2 : $0 == 9 ? 2 : 0.1 }),
      ("tie of magnitudes, positive first", block { $0 == 4 ? 2 : $0 == 9 ? -2 : 0.1 }),
      ("tie of magnitudes in both halves", block { $0 == 20 ? 2 : $0 == 4 ? -2 : 0.1 }),
      ("one outlier", block { $0 == 31 ? 1e4 : Float($0) * 1e-3 }),
      ("halves: every rounding tie of Q8_0", block { $0 == 0 ? 127 : Float($0) - 16.5 }),
      ("just below a half", block { $0 == 0 ? 127 : 0.499_999_97 }),
      ("smallest subnormals", block { Float(bitPattern: UInt32($0)) }),
      ("subnormals", block { Float($0 - 16) * 0x1p-133 }), ("inverse overflows", block { Float($0 - 16) * 1e-38 }),
      ("inverse barely finite", block { Float($0 - 16) * 5e-38 }),
      ("huge", block { Float($0 - 16) * 2e37 }), ("scale overflows", block { Float($0) * 1e6 }),
    ]
    for index in 0..<400 {
      let scale = Float.random(in: -20...20, using: &random)
      blocks.append(
        (
          "random \(index)",
          block { _ in
            Float.random(in: -1...1, using: &random) * .init(sign: .plus, exponent: Int(scale), significand: 1)
          }
        )
      )
      // The sign of a zero minimum is stored.
      blocks.append(("zeros of random signs \(index)", block { _ in [0, -0.0, 1].randomElement(using: &random) ?? 0 }))
      // Few distinct values, on a grid: ties everywhere.
      blocks.append(("grid \(index)", block { _ in Float(Int.random(in: -9...9, using: &random)) / 2 }))
    }
    return blocks
  }()

  @Test("fast and plain encoding agree", arguments: blockTypes)
  func fastAgreesWithPlain(_ type: ElementType) {
    for (name, values) in Self.blocks {
      var plain = [UInt8](repeating: 0xAA, count: type.bitsPerBlock / 8)
      values.withUnsafeBufferPointer { values in
        plain.withUnsafeMutableBytes {
          type.encodeWholeBlocksPlainly(values.baseAddress!, count: 1, into: $0.baseAddress!)
        }
      }
      #expect(encoded(values, as: type).bytes == plain, "\(name)")
    }
  }

  @Test("whatever the input, nothing traps", arguments: blockTypes + [.f16, .bf16, .f32, .f64])
  func anyBitsAreAccepted(_ type: ElementType) {
    var random = SeededGenerator(seed: 12)
    let floats = (0..<32 * 300).map { _ in Float(bitPattern: .random(in: 0...UInt32.max, using: &random)) }
    let doubles = (0..<32 * 300).map { _ in Double(bitPattern: .random(in: 0...UInt64.max, using: &random)) }
    #expect(encoded(floats, as: type).bytes.count == encoded(doubles, as: type).bytes.count)
  }

  @Test("F16 rounds as the standard library does")
  func float16() {
    var random = SeededGenerator(seed: 13)
    var inputs: [Float] = [0, -0.0, .infinity, -.infinity, 65_519.996, 65_520, -65_520, .greatestFiniteMagnitude]
    for bits in stride(from: UInt16(0), through: 0x7C00, by: 1) {
      // Every binary16, the middle to the next one, and the Floats beside both.
      let value = Float(Float16(bitPattern: bits))
      let middle = bits < 0x7BFF ? (value + Float(Float16(bitPattern: bits + 1))) / 2 : value
      inputs += [value, value.nextUp, value.nextDown, middle, middle.nextUp, -middle.nextDown]
    }
    for _ in 0..<50_000 { inputs.append(Float(bitPattern: .random(in: 0...UInt32.max, using: &random))) }
    for input in inputs where !input.isNaN {
      guard input.float16Bits == Float16(input).bitPattern else {
        Issue.record("\(input): expected \(Float16(input).bitPattern), found \(input.float16Bits)")
        return
      }
    }
    #expect(Float(float16Bits: Float.nan.float16Bits).isNaN)
    #expect(Float(float16Bits: Float(bitPattern: 0x7F80_0001).float16Bits).isNaN)
  }

  @Test("BF16 NaNs stay NaNs", arguments: [0x7F80_0001, 0xFFFF_FFFF, 0x7FC0_0000, 0x7FFF_FFFF] as [UInt32])
  func bfloat16NaN(_ bits: UInt32) {
    #expect(Float(bfloat16Bits: Float(bitPattern: bits).bfloat16Bits).isNaN)
  }

  /// A Double just above the middle of two numbers of the type, so close that Float rounds it to the middle; a second
  /// rounding would then go to the even one, which is the lower one.
  @Test func doublesAreRoundedOnce() {
    let nearMiddle = 1 + 0x1p-8 + 0x1p-40
    #expect(Float(nearMiddle).bfloat16Bits == Float(1).bfloat16Bits)
    #expect(encoded([nearMiddle], as: .bf16).bytes == encoded([Float(1 + 0x1p-7)], as: .bf16).bytes)
    #expect(encoded([-nearMiddle], as: .bf16).bytes == encoded([Float(-1 - 0x1p-7)], as: .bf16).bytes)
    var random = SeededGenerator(seed: 14)
    for _ in 0..<20_000 {
      // Near middles of all kinds, down to the subnormals, and beyond the largest.
      let exponent = Int.random(in: -28...16, using: &random)
      let half =
        Double(Int.random(in: 1024...4096, using: &random)) / 2048
        * Double(sign: .plus, exponent: exponent, significand: 1)
      let value = half * (1 + Double(Int.random(in: -1...1, using: &random)) * 0x1p-50)
      let expected = Float16(value).bitPattern
      guard value.roundedToOddFloat.float16Bits == expected else {
        Issue.record("\(value): expected \(expected), found \(value.roundedToOddFloat.float16Bits)")
        return
      }
    }
  }

  @Test("tells where a finite value was lost")
  func overflow() {
    var values = [Float](repeating: 0.5, count: 9_000)
    values[10] = .infinity
    values[11] = .nan
    #expect(encoded(values, as: .f16).overflow == nil)
    values[8_191] = -65_519
    #expect(encoded(values, as: .f16).overflow == nil)
    values[8_192] = -65_520
    values[8_999] = 1e38
    #expect(encoded(values, as: .f16).overflow == 8_192)
    #expect(encoded(values, as: .bf16).overflow == nil)
    values[8_500] = .greatestFiniteMagnitude
    #expect(encoded(values, as: .bf16).overflow == 8_500)
    #expect(encoded(values, as: .f32).overflow == nil)
    var doubles = values.map { Double($0) }
    #expect(encoded(doubles, as: .f16).overflow == 8_192)
    #expect(encoded(doubles, as: .bf16).overflow == 8_500)
    #expect(encoded(doubles, as: .f32).overflow == nil)
    doubles[4_097] = 1e39
    #expect(encoded(doubles, as: .f32).overflow == 4_097)
    #expect(encoded(doubles, as: .bf16).overflow == 4_097)
    #expect(encoded(doubles, as: .f64).overflow == nil)
  }

  @Test(
    "tells which block lost its scale",
    arguments: [
      (ElementType.q8_0, Float(127 * 65_520)), (.q5_0, 16 * 65_520), (.q4_0, 8 * 65_520), (.q5_1, 65_520),
      (.q4_1, 65_520),
    ])
  func blockOverflow(_ type: ElementType, _ limit: Float) {
    var values = [Float](repeating: 0.5, count: 32 * 200)
    values[5] = .infinity
    values[40] = -limit.nextDown
    #expect(encoded(values, as: type).overflow == nil)
    values[32 * 150 + 7] = -limit
    values[32 * 150 + 3] = limit / 2
    #expect(encoded(values, as: type).overflow == 32 * 150 + 7)
    #expect(encoded(values.map { Double($0) }, as: type).overflow == 32 * 150 + 7)
  }

  @Test func floatsAndDoublesAreCopied() {
    let values: [Float] = [1, -0.0, .pi, .leastNonzeroMagnitude, .infinity]
    #expect(encoded(values, as: .f32).bytes == values.withUnsafeBytes { [UInt8]($0) })
    let doubles: [Double] = [1, -0.0, .pi, .leastNonzeroMagnitude, .infinity]
    #expect(encoded(doubles, as: .f64).bytes == doubles.withUnsafeBytes { [UInt8]($0) })
    #expect(encoded(values, as: .f64).bytes == values.map { Double($0) }.withUnsafeBytes { [UInt8]($0) })
    #expect(encoded(doubles, as: .f32).bytes == doubles.map { Float($0) }.withUnsafeBytes { [UInt8]($0) })
  }

  private func encoded(_ values: [Float], as type: ElementType) -> (bytes: [UInt8], overflow: Int?) {
    var bytes = [UInt8](repeating: 0, count: type.byteCount(ofElements: values.count) ?? 0)
    let overflow = values.withUnsafeBufferPointer { values in
      bytes.withUnsafeMutableBytes { type.encode(values, into: $0) }
    }
    return (bytes, overflow)
  }

  private func encoded(_ values: [Double], as type: ElementType) -> (bytes: [UInt8], overflow: Int?) {
    var bytes = [UInt8](repeating: 0, count: type.byteCount(ofElements: values.count) ?? 0)
    let overflow = values.withUnsafeBufferPointer { values in
      bytes.withUnsafeMutableBytes { type.encode(values, into: $0) }
    }
    return (bytes, overflow)
  }
}
