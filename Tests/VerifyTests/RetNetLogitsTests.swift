import Glibc
import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks
import Testing
import TestSupport

/// RetNets of XATL, held against the recurrent form of a reimplementation (`fixtures/generate/retnet.py`).
@Suite struct RetNetLogitsTests {
  static let forms = ["xatl", "lit/lit_model.pth", "affine"]

  private func reference(_ form: String) throws -> ReferenceLogits {
    try ReferenceLogits("retnet/reference.safetensors", prefix: form.prefix { $0 != "/" } + ".")
  }

  private func difference<Scalar: ArithmeticScalar>(of form: String, in _: Scalar.Type) throws -> Double {
    let reference = try reference(form)
    let network = try Model(opening: Fixtures.path("retnet/\(form)")).network
    let logits = try network.logits(on: FastBackend<Scalar>(probes: reference.probes)).all()
    return reference.relativeDifference(reference.select(logits))
  }

  @Test("Double forward is the reference's float64", arguments: forms)
  func double(_ form: String) throws {
    let difference = try difference(of: form, in: Double.self)
    #expect(difference <= 1e-12)
  }

  @Test("Float forward is within float32 noise of it", arguments: forms)
  func single(_ form: String) throws {
    let difference = try difference(of: form, in: Float.self)
    #expect(difference <= 4e-6)
  }

  @Test("The plain forward pass has retention and pairs of neighbours, too", arguments: forms)
  func plain(_ form: String) throws {
    let reference = try reference(form)
    let network = try Model(opening: Fixtures.path("retnet/\(form)")).network
    var logits: [Double] = []
    for probe in reference.probes {
      var plain = PlainBackend(tokens: probe.tokens, positions: probe.positions)
      logits += try network.evaluate(on: &plain).flatMap { $0 }
    }
    let fast = try network.logits(on: FastBackend<Double>(probes: reference.probes)).all().array
    #expect(relativeDifference(logits, fast) <= 1e-13)
  }

  @Test("Norms are those of the stream, and one of each head without numbers where the class has none")
  func norms() throws {
    let network = try Model(opening: Fixtures.path("retnet/xatl")).network
    let group = try #require(network[norm: "blocks.1.attention.group"])
    #expect(group.kind == .rms && group.headCount == 4 && group.gain == .constant(1, shape: [8]) && group.bias == nil)
    let affine = try Model(opening: Fixtures.path("retnet/affine")).network
    let norm = try #require(affine[norm: "blocks.1.attention.group.norm"])
    #expect(norm.kind == .layer && norm.headCount == 4 && norm.name == "model.layers.1.retention.group_norm")
  }

  // MARK: Retention alone

  private func retention(
    heads: Int, query: [[Double]], key: [[Double]], value: [[Double]]
  ) throws -> [Double] {
    let count = query.count
    func matrix(_ rows: [[Double]]) -> Matrix<Double> {
      let matrix = Matrix<Double>(rows: count, columns: rows[0].count)
      for row in 0..<count { for (column, value) in rows[row].enumerated() { matrix.row(row)[column] = value } }
      return matrix
    }
    let attention = Attention(
      headCount: heads, keyValueHeadCount: heads, scale: 1 / Double(query[0].count / heads).squareRoot(),
      weighting: .decaying((0..<heads).map { 1 - exp2(-5 - Double($0)) }))
    let node = Network.Node(path: "retained", operation: .attend(attention), operands: ["q", "k", "v"])
    let probe = Probe(name: "text", tokens: [Int](repeating: 0, count: count))
    let fast = try FastBackend<Double>(probes: [probe]).evaluate(node, [matrix(query), matrix(key), matrix(value)])
    let plain = try PlainBackend(probe).evaluate(node, [query, key, value]).flatMap { $0 }
    #expect(relativeDifference(fast.doubles(), plain) <= 1e-14)
    return fast.doubles()
  }

  @Test("One head of two features, by hand")
  func golden() throws {
    let found = try retention(
      heads: 1, query: [[1, 0], [0.5, 1], [0, 2]], key: [[1, 1], [0, 1], [1, -1]], value: [[1, 2], [3, 4], [5, 6]])
    let expected = [0.70710678, 1.41421356, 3.14883488, 4.88345621, -1.63380336, -0.35079125]
    for (found, expected) in zip(found, expected) { #expect(abs(found - expected) <= 1e-8) }
  }

  /// S = γS + kᵀv, and qS/√d, token by token.
  @Test("The parallel form is the recurrent one, over 300 tokens")
  func recurrent() throws {
    var generator = SeededGenerator(seed: 3)
    let (heads, dHead, count) = (3, 4, 300)
    func random() -> [[Double]] {
      (0..<count).map { _ in (0..<heads * dHead).map { _ in Double.random(in: -1...1, using: &generator) } }
    }
    let (query, key, value) = (random(), random(), random())
    var expected: [Double] = []
    var states = [[Double]](repeating: [Double](repeating: 0, count: dHead * dHead), count: heads)
    for token in 0..<count {
      for head in 0..<heads {
        let features = head * dHead..<(head + 1) * dHead
        let (q, k, v) = (Array(query[token][features]), Array(key[token][features]), Array(value[token][features]))
        for index in 0..<dHead * dHead {
          states[head][index] =
            (1 - exp2(-5 - Double(head))) * states[head][index] + k[index / dHead] * v[index % dHead]
        }
        for column in 0..<dHead {
          let sum = (0..<dHead).reduce(0) { $0 + q[$1] * states[head][$1 * dHead + column] }
          expected.append(sum / Double(dHead).squareRoot())
        }
      }
    }
    let found = try retention(heads: heads, query: query, key: key, value: value)
    #expect(relativeDifference(found, expected) <= 1e-12)
  }
}
