import NormFoldFolding
import NormFoldFormats
import NormFoldNetworks
import Testing
import TestSupport

/// Folding one norm into one map, against numbers worked out by hand and against the definition.
@Suite struct GoldenFoldTests {
  /// A norm and the map that reads it, as stored tensors.
  private struct Case {
    let directory: TemporaryDirectory
    let file: Checkpoint

    init(_ tensors: [String: ([Double], [Int])]) throws {
      directory = try TemporaryDirectory()
      var editable = EditableTensors()
      for (name, (values, shape)) in tensors { editable[name] = .init(values, shape: shape, type: .f64) }
      try editable.write(to: directory / "case.safetensors")
      file = try Checkpoint(safetensors: directory / "case.safetensors")
    }

    func callAsFunction(_ name: String) throws -> Parameter { .stored(try #require(file[name])) }
  }

  /// Per-feature σ, d = 3, two outputs.
  private static func golden() throws -> Case {
    try Case([
      "gain": ([1, 2, -1], [3]), "beta": ([0.5, 0, -0.25], [3]), "sigma": ([4, 2, 2], [3]),
      "weight": ([1, 2, 3, -1, 0, 4], [3, 2]), "bias": ([0.1, -0.2], [2]),
      "weight-transposed": ([1, 3, 0, 2, -1, 4], [2, 3]),
    ])
  }

  private static let foldedWeight = [-5.0 / 6, 4.0 / 3, 23.0 / 12, -1.0 / 6, -13.0 / 12, -7.0 / 6]

  @Test("The golden vector, stored either way", arguments: [false, true])
  func golden(isTransposed: Bool) throws {
    let stored = try Self.golden()
    let weight = isTransposed ? try stored("weight-transposed").transposed() : try stored("weight")
    let map = LinearMap(weight: weight, bias: try stored("bias"))
    let folded = map.absorbing(
      kind: .layer, gain: try stored("gain"), deviation: try stored("sigma"), bias: try stored("beta"))
    // Fifteen digits: sums of three terms of order one.
    expectClose(ParameterReader(folded.weight).values(), Self.foldedWeight, within: 1e-15)
    expectClose(ParameterReader(try #require(folded.bias)).values(), [0.6, -0.2], within: 1e-15)
    // The same network on x = [1, 2, 6].
    expectClose(apply(folded, to: [1, 2, 6]), [-2.9, -6.2], within: 1e-14)
  }

  @Test("The scale comes before the centring, and β is not divided by σ: both mistakes are far off")
  func mistakes() throws {
    let stored = try Self.golden()
    let weight = try stored("weight")
    let ratio = try stored("gain").divided(by: try stored("sigma"))
    let centredFirst = ParameterReader(weight.centred(axis: 0).scaled(by: ratio, axis: 0)).values()
    #expect(zip(centredFirst, Self.foldedWeight).contains { abs($0 - $1) > 0.1 })
    let scaled = try stored("beta").divided(by: try stored("sigma")).projected(through: weight)
    #expect(zip(ParameterReader(scaled).values(), [0.5, 0.0]).contains { abs($0 - $1) > 0.1 })
  }

  @Test("An RMS norm subtracts no mean")
  func rms() throws {
    let stored = try Self.golden()
    let map = LinearMap(weight: try stored("weight"), bias: nil)
    let folded = map.absorbing(kind: .rms, gain: try stored("gain"), deviation: try stored("sigma"), bias: nil)
    #expect(ParameterReader(folded.weight).values() == [0.25, 0.5, 3, -1, 0, -2])
    #expect(folded.bias == nil)
  }

  @Test("A map without a bias gets one, βᵀW")
  func newBias() throws {
    let stored = try Self.golden()
    let map = LinearMap(weight: try stored("weight"), bias: nil)
    let folded = map.absorbing(
      kind: .layer, gain: try stored("gain"), deviation: try stored("sigma"), bias: try stored("beta"))
    #expect(ParameterReader(try #require(folded.bias)).values() == [0.5, 0])
    #expect(folded.bias?.description == "betaᵀ · weight")
  }

  @Test("Unit deviation and gain leave the centring alone; a zero β leaves the bias alone")
  func identities() throws {
    let stored = try Self.golden()
    let map = LinearMap(weight: try stored("weight"), bias: try stored("bias"))
    let one = Parameter.constant(1, shape: [3])
    let folded = map.absorbing(kind: .layer, gain: one, deviation: one, bias: .constant(0, shape: [3]))
    #expect(folded.weight == map.weight.centred(axis: 0))
    #expect(folded.bias == map.bias)
    let rms = map.absorbing(kind: .rms, gain: one, deviation: one, bias: nil)
    #expect(rms == map)
    // Folding an identity a second time changes nothing: C·C = C.
    #expect(folded.absorbing(kind: .layer, gain: one, deviation: one, bias: nil) == folded)
  }

  @Test("Folded columns have mean zero: the map no longer sees the mean of its input")
  func seesNoMean() throws {
    let stored = try Self.golden()
    let map = LinearMap(weight: try stored("weight"), bias: try stored("bias"))
    let folded = map.absorbing(
      kind: .layer, gain: try stored("gain"), deviation: try stored("sigma"), bias: try stored("beta"))
    expectClose(apply(folded, to: [101, 102, 106]), [-2.9, -6.2], within: 1e-12)
  }

  /// xW + b.
  private func apply(_ map: LinearMap, to x: [Double]) -> [Double] {
    let weight = ParameterReader(map.weight).values()
    let bias = map.bias.map { ParameterReader($0).values() }
    let width = map.weight.columnCount
    return (0..<width).map { column in
      x.indices.reduce(bias?[column] ?? 0) { $0 + x[$1] * weight[$1 * width + column] }
    }
  }

  private func expectClose(_ found: [Double], _ expected: [Double], within tolerance: Double) {
    #expect(found.count == expected.count)
    #expect(zip(found, expected).allSatisfy { abs($0 - $1) <= tolerance }, "\(found), expected \(expected)")
  }
}
