import NormFoldFormats
import NormFoldNetworks
import Testing
import TestSupport

@testable import NormFoldVerify

/// A change of a network, and the part that must be named for it; nil where both compute the same.
struct ChangedPart: CustomTestStringConvertible, Sendable {
  let testDescription: String
  let part: String?
  let change: @Sendable (inout Network) -> Void

  init(_ testDescription: String, part: String?, _ change: @escaping @Sendable (inout Network) -> Void) {
    self.testDescription = testDescription
    self.part = part
    self.change = change
  }

  static let all: [ChangedPart] = [
    ChangedPart("nothing", part: nil) { _ in },
    ChangedPart("a matrix one part in 10⁵ too large", part: "blocks.1.mlp.input.weight") {
      $0.changeWeight("blocks.1.mlp.input") { $0.multiplied(by: 1 + 1e-5) }
    },
    ChangedPart("a matrix of infinities", part: "blocks.1.mlp.output.weight") {
      $0.changeWeight("blocks.1.mlp.output") { .constant(.infinity, shape: $0.shape) }
    },
    ChangedPart("the gain of a fixed norm", part: "blocks.0.attention.query.weight") { network in
      network.changeNorms { path, norm in
        if path == "blocks.0.attention.norm" { norm.gain = norm.gain.multiplied(by: 1 + 1e-5) }
      }
    },
    ChangedPart("the bias of a fixed norm", part: "blocks.1.mlp.input.bias") { network in
      network.changeNorms { path, norm in if path == "blocks.1.mlp.norm" { norm.bias = nil } }
    },
    ChangedPart("no mean is subtracted", part: "blocks.0.mlp.input.weight") { network in
      network.changeNorms { path, norm in if path == "blocks.0.mlp.norm" { norm.kind = .rms } }
    },
    ChangedPart("gain and deviation both doubled", part: nil) { network in
      network.changeNorms { _, norm in
        guard case .fixed(let deviation) = norm.deviation else { return }
        norm.gain = norm.gain.multiplied(by: 2)
        norm.deviation = .fixed(deviation.multiplied(by: 2))
      }
    },
    ChangedPart("another activation", part: "blocks.0.mlp.activation") { $0.setActivations(.geluErf) },
    ChangedPart("other heads", part: "blocks.0.attention.mixed") { network in
      network.changeAttentions { _, attention in
        attention.headCount *= 2
        attention.keyValueHeadCount *= 2
      }
    },
    ChangedPart("the scale of scores", part: "blocks.0.attention.query.weight") { network in
      network.changeAttentions { $1.scale *= 1.001 }
    },
    ChangedPart("the scale of scores, taken back in the queries", part: nil) { network in
      network.changeAttentions { $1.scale *= 4 }
      for path in network.linearMaps.map(\.path) where path.lastComponent == "query" {
        guard let map = network[linear: path] else { continue }
        network[linear: path] = LinearMap(
          weight: map.weight.multiplied(by: 0.25), bias: map.bias?.multiplied(by: 0.25))
      }
    },
    ChangedPart("heads in another order, in every map", part: nil) { network in
      network.exchangeHeads(["query", "key", "value"], ofBlock: 0)
      network.changeWeight("blocks.0.attention.output") { $0.exchangingHalves(axis: 0) }
    },
    ChangedPart("heads in another order, in the queries", part: "blocks.0.attention.query.weight") { network in
      network.exchangeHeads(["query"], ofBlock: 0)
    },
    ChangedPart("the biases of values, moved behind attention", part: nil) { network in
      guard let value = network[linear: "blocks.0.attention.value"], let bias = value.bias,
        let output = network[linear: "blocks.0.attention.output"], let own = output.bias
      else { return }
      network[linear: "blocks.0.attention.output"]?.bias = own.adding(bias.projected(through: output.weight))
      network[linear: "blocks.0.attention.value"]?.bias = .constant(0, shape: bias.shape)
    },
    ChangedPart("the biases of values, left out", part: "blocks.0.attention.output.bias") { network in
      guard let bias = network[linear: "blocks.0.attention.value"]?.bias else { return }
      network[linear: "blocks.0.attention.value"]?.bias = .constant(0, shape: bias.shape)
    },
    ChangedPart("a block without its MLP", part: "blocks.1.mlp.output.weight") {
      $0.changeWeight("blocks.1.mlp.output") { .constant(0, shape: $0.shape) }
    },
    ChangedPart("tokens one row further", part: "embedding.tokens.weight") { network in
      guard let table = network.tokenEmbedding else { return }
      network[table: "embedding.tokens"] = .concatenating(
        [table.sliced(axis: 0, 1..<table.rowCount), table.sliced(axis: 0, 0..<1)], axis: 0)
    },
    ChangedPart("what writes into the stream, centred", part: nil) { network in
      for writer in network.streamWriters {
        if let table = network[table: writer] { network[table: writer] = table.centred(axis: 1) }
        if let map = network[linear: writer] {
          network[linear: writer] = LinearMap(
            weight: map.weight.centred(axis: 1), bias: map.bias?.centred(axis: 0))
        }
      }
    },
  ]
}

extension Network {
  fileprivate mutating func exchangeHeads(_ maps: [String], ofBlock block: Int) {
    for name in maps {
      let path = Path("blocks.\(block).attention.\(name)")
      guard let map = self[linear: path] else { preconditionFailure("no map at \(path)") }
      self[linear: path] = LinearMap(
        weight: map.weight.exchangingHalves(axis: 1), bias: map.bias?.exchangingHalves(axis: 0))
    }
  }
}

extension Parameter {
  fileprivate func exchangingHalves(axis: Int) -> Parameter {
    let half = shape[axis] / 2
    return .concatenating(
      [sliced(axis: axis, half..<shape[axis]), sliced(axis: axis, 0..<half)], axis: axis)
  }
}

@Suite struct PartsTests {
  private static func claim(_ candidate: Network, against reference: Network) -> PartsClaim {
    PartsClaim(of: candidate, against: reference, allowance: .conversion)
  }

  @Test("A change is found, and its part is named; what computes the same passes", arguments: ChangedPart.all)
  func named(_ changed: ChangedPart) throws {
    let reference = try Model(opening: Fixtures.path("tiny-2x32/lnfree")).network
    var candidate = reference
    changed.change(&candidate)
    let claim = Self.claim(candidate, against: reference)
    #expect(claim.isComplete)
    #expect(claim.failures.first?.path == changed.part)
    // Nothing is lost in the other direction either.
    let other = Self.claim(reference, against: candidate)
    #expect(other.isComplete)
    #expect(other.failures.first?.path == changed.part)
  }

  @Test("Norms that are computed have to agree in kind and epsilon")
  func computedNorms() throws {
    let reference = try Model(opening: Fixtures.path("tiny-2x32/vanilla")).network
    #expect(Self.claim(reference, against: reference).holds)
    var candidate = reference
    candidate.changeNorms { path, norm in
      if path == "blocks.1.attention.norm" { norm.deviation = .computed(epsilon: 2e-5) }
    }
    #expect(Self.claim(candidate, against: reference).failures.map(\.problem) == ["ε is 2e-05, expected 1e-05"])
    candidate = reference
    candidate.changeNorms { path, norm in if path == "final.norm" { norm.kind = .rms } }
    #expect(Self.claim(candidate, against: reference).failures.map(\.path) == ["unembedding"])
    candidate = reference
    candidate[norm: "final.norm"] = nil
    #expect(Self.claim(candidate, against: reference).failures.map(\.path) == ["final.norm"])
  }

  @Test("A network with other operations is not cut into parts, and says so")
  func otherOperations() throws {
    let reference = try Model(opening: Fixtures.path("tiny-2x32/vanilla")).network
    var candidate = reference
    candidate.addGates()
    let claim = Self.claim(candidate, against: reference)
    #expect(!claim.isComplete)
    #expect(claim.parts.isEmpty)
    #expect(claim.notCompared == ["blocks.0.mlp.hidden: only the candidate has it"] || claim.notCompared.count == 1)
  }

  @Test(
    "What storing costs is bounded, and the bound is reached",
    arguments: [
      (ElementType.f32, 0.9), (.bf16, 0.9), (.f16, 0.9), (.q8_0, 0.9), (.q4_0, 0.8), (.q5_0, 0.8), (.q4_1, 0.8),
      (.q5_1, 0.8),
    ])
  func bounds(type: ElementType, reached: Double) throws {
    let error = try #require(StorageError(type))
    var generator = TestGenerator(state: 7)
    var largest = 0.0
    for size in [1e-9, 1e-6, 1e-4, 0.02, 1, 300] {
      var meant = generator.values(32 * 400, in: -size...size)
      // A block of one sign, one of zeros, one with a single large number.
      for index in 0..<32 {
        meant[index] = abs(meant[index])
        meant[32 + index] = 0
        meant[64 + index] = index == 5 ? size : meant[64 + index] * 1e-3
      }
      var stored = meant.map(Float.init)
      let exact = meant
      stored.withUnsafeMutableBufferPointer { values in
        // Single precision is what other types are rounded from.
        type == .f32 ? () : type.roundTrip(values)
      }
      let found = stored.map(Double.init)
      var bounds = [Double](repeating: 0, count: found.count)
      if error.hasBlocks {
        found.withUnsafeBufferPointer { found in
          bounds.withUnsafeMutableBufferPointer { error.bounds(of: found, into: $0) }
        }
      } else {
        for index in bounds.indices { bounds[index] = error.relative * abs(found[index]) + error.absolute }
      }
      for index in found.indices {
        // Two roundings, where one is to single precision first.
        let slack = type == .f32 ? 0 : abs(exact[index]) * 0x1p-24
        #expect(abs(found[index] - exact[index]) <= bounds[index] + slack, "\(exact[index]) as \(found[index])")
        largest = max(largest, abs(found[index] - exact[index]) / (bounds[index] + slack))
      }
    }
    #expect(largest > reached)
  }

  /// m = f · Cᵢ · diag(g) · W · Cₒ by plain loops.
  private static func plain(
    _ weight: [[Double]], factors: [Double], centresInput: Bool, centresOutput: Bool
  ) -> [[Double]] {
    var result = zip(weight, factors).map { row, factor in row.map { $0 * factor } }
    if centresInput {
      for column in result[0].indices {
        let mean = result.reduce(0) { $0 + $1[column] } / Double(result.count)
        for row in result.indices { result[row][column] -= mean }
      }
    }
    if centresOutput {
      for row in result.indices {
        let mean = result[row].reduce(0, +) / Double(result[row].count)
        for column in result[row].indices { result[row][column] -= mean }
      }
    }
    return result
  }

  @Test(
    "Matrices are scaled, centred and compared as plain loops do it", arguments: [false, true],
    [(false, false), (true, false), (false, true), (true, true)])
  func comparison(isTransposed: Bool, centring: (input: Bool, output: Bool)) throws {
    let (rows, columns) = (70, 37)
    var generator = TestGenerator(state: 3)
    let weight = (0..<rows).map { _ in generator.values(columns, in: -1...1) }
    let factors = generator.values(rows, in: 0.5...2)
    let expected = Self.plain(weight, factors: factors, centresInput: centring.input, centresOutput: centring.output)
    var altered = expected
    altered[41][20] += 1e-3
    func parameter(_ values: [[Double]]) throws -> Parameter {
      let stored =
        isTransposed ? values[0].indices.map { column in values.map { $0[column] } } : values
      var tensors = EditableTensors()
      tensors["w"] = .init(stored.flatMap { $0 }, shape: [stored.count, stored[0].count], type: .f64)
      let directory = try TemporaryDirectory()
      try tensors.write(to: directory / "w.safetensors")
      let tensor = try #require(try Checkpoint(safetensors: directory / "w.safetensors")["w"])
      return isTransposed ? Parameter.stored(tensor).transposed() : .stored(tensor)
    }
    let reference = MapNumbers(
      weight: try parameter(weight), factors: factors, centresInput: centring.input, centresOutput: centring.output)
    for (candidate, place) in [(expected, nil as (Int, Int)?), (altered, (41, 20))] {
      let comparison = MapComparison(
        reference, MapNumbers(weight: try parameter(candidate)), allowance: .conversion)
      var difference = Difference()
      for tile in comparison.tiles(ofAbout: 500) {
        difference.merge(comparison.tile(inputs: tile.inputs, outputs: tile.outputs).difference)
      }
      #expect(difference.holds == (place == nil))
      guard let place else { continue }
      #expect((difference.input, difference.output) == place)
      #expect(difference.beyondCount == 1)
      #expect(abs(difference.found - difference.expected - 1e-3) < 1e-12)
    }
  }
}
