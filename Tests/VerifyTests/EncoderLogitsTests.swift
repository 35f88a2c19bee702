import NormFoldArithmetic
import NormFoldFolding
import NormFoldFormats
import NormFoldNetworks
import Testing
import TestSupport

/// What transformers computed with an encoder of the fixtures, in double precision: padded sequences and pairs, and one as long
/// as the context.
struct EncoderReference {
  let probes: [Probe]
  let full: Probe
  private let file: Checkpoint
  private let name: String

  init(_ name: String) throws {
    self.name = name
    file = try Checkpoint(safetensors: Fixtures.path("encoders/reference.safetensors"))
    let prefix = name.hasPrefix("roberta") ? "roberta" : "bert"
    let hasTypes = !name.hasPrefix("distilbert")
    let tensors = file
    func rows(_ name: String) throws -> [[Int]] {
      let tensor = try #require(tensors["\(prefix).\(name)"])
      let values = tensor.decoded(as: Double.self).map { Int($0) }
      let width = tensor.shape[1]
      return (0..<tensor.shape[0]).map { Array(values[$0 * width..<($0 + 1) * width]) }
    }
    let (tokens, masks, types) = (try rows("tokens"), try rows("mask"), try rows("types"))
    probes = tokens.indices.map { index in
      Probe(
        name: "\(index)", tokens: tokens[index], types: hasTypes ? types[index] : nil,
        isVisible: masks[index].map { $0 == 1 })
    }
    full = Probe(name: "full", tokens: try rows("full.tokens")[0])
  }

  func numbers(_ part: String) throws -> [Double] { try #require(file["\(name).\(part)"]).decoded() }

  /// What a network gives for the probes, where there is one answer for a sequence that of its first token.
  func outputs<Scalar: ArithmeticScalar>(
    of network: Network, in _: Scalar.Type, on probes: [Probe]
  ) throws -> [Double] {
    let all = try network.logits(on: FastBackend<Scalar>(probes: probes)).all()
    return answers(of: network, all.array.map { Double($0) }, width: all.columnCount, on: probes)
  }

  func answers(of network: Network, _ all: [Double], width: Int, on probes: [Probe]) -> [Double] {
    guard network.task.isPerSequence else { return all }
    var (result, row) = ([Double](), 0)
    for probe in probes {
      result += all[row * width..<(row + 1) * width]
      row += probe.tokens.count
    }
    return result
  }
}

@Suite struct EncoderLogitsTests {
  static let names = EncoderFixtures.names

  @Test("Double forward is the reference's float64, padding and pairs included", arguments: names)
  func double(_ name: String) throws {
    let reference = try EncoderReference(name)
    let network = try Model(opening: Fixtures.path("encoders/" + name)).network
    let found = try reference.outputs(of: network, in: Double.self, on: reference.probes)
    #expect(relativeDifference(found, try reference.numbers("output")) <= 1e-13)
    let full = try reference.outputs(of: network, in: Double.self, on: [reference.full])
    #expect(relativeDifference(full, try reference.numbers("full")) <= 1e-13)
  }

  @Test("Float forward is within float32 noise of it", arguments: names)
  func single(_ name: String) throws {
    let reference = try EncoderReference(name)
    let network = try Model(opening: Fixtures.path("encoders/" + name)).network
    let found = try reference.outputs(of: network, in: Float.self, on: reference.probes)
    #expect(relativeDifference(found, try reference.numbers("output")) <= 4e-6)
  }

  @Test("Plain loops compute the same", arguments: names)
  func plain(_ name: String) throws {
    let reference = try EncoderReference(name)
    let network = try Model(opening: Fixtures.path("encoders/" + name)).network
    var found: [Double] = []
    for probe in reference.probes {
      var backend = PlainBackend(probe)
      let rows = try network.evaluate(on: &backend)
      found += reference.answers(of: network, rows.flatMap { $0 }, width: rows[0].count, on: [probe])
    }
    #expect(relativeDifference(found, try reference.numbers("output")) <= 1e-13)
  }

  @Test("The pooled state is the reference's", arguments: EncoderFixtures.pooled)
  func pooled(_ name: String) throws {
    let reference = try EncoderReference(name)
    let network = try Model(opening: Fixtures.path("encoders/" + name)).network
    #expect(network.sideOutputs == ["pooler.activation"])
    var execution = Execution(network, on: FastBackend<Double>(probes: reference.probes))
    var pooled: [Double] = []
    for stage in 0..<execution.stageCount {
      try execution.run(stage: stage) { node, _, result in
        if node.path == "pooler.activation" { pooled = result.array }
      }
    }
    let width = network.streamWidth
    let first = reference.probes.indices.flatMap { Array(pooled[$0 * 10 * width..<($0 * 10 + 1) * width]) }
    #expect(relativeDifference(first, try reference.numbers("pooled")) <= 1e-13)
  }

  @Test("Old names, and what other heads left in the file, change nothing")
  func legacy() throws {
    let reference = try EncoderReference("bert-masked-lm")
    let model = try Model(opening: Fixtures.path("encoders/bert-legacy"))
    let found = try reference.outputs(of: model.network, in: Double.self, on: reference.probes)
    #expect(relativeDifference(found, try reference.numbers("output")) <= 1e-13)
    #expect(model.network.isTied && model.dropped.count == 6)
    #expect(model.network.norms[1].norm.name == "bert.encoder.layer.0.attention.output.LayerNorm")
  }

  @Test("An unembedding of its own is read")
  func untied() throws {
    let reference = try EncoderReference("bert-untied")
    let network = try Model(opening: Fixtures.path("encoders/bert-untied")).network
    #expect(!network.isTied)
    let found = try reference.outputs(of: network, in: Double.self, on: reference.probes)
    #expect(relativeDifference(found, try reference.numbers("output")) <= 1e-13)
  }

  @Test("Every bias of a norm moves but that of an output, and the outputs stay", arguments: names)
  func movedBiases(_ name: String) throws {
    let reference = try EncoderReference(name)
    let network = try Model(opening: Fixtures.path("encoders/" + name)).network
    let plan = try FoldingPlan(folding: network, options: .init(allowsPartial: true))
    let biased = plan.folded.norms.filter { $0.norm.bias != nil }.map(\.path)
    #expect(biased == (network.task == .features ? [network.output] : []))
    let found = try reference.outputs(of: plan.folded, in: Double.self, on: reference.probes)
    #expect(relativeDifference(found, try reference.numbers("output")) <= 1e-13)
  }

  @Test("A mask that is not heeded, a text that is not told apart and another token in front are far off")
  func wrong() throws {
    let reference = try EncoderReference("bert-sequence")
    let network = try Model(opening: Fixtures.path("encoders/bert-sequence")).network
    let expected = try reference.numbers("output")
    for altered in [
      reference.probes.map { Probe(name: "unmasked", tokens: $0.tokens, types: $0.types) },
      reference.probes.map { Probe(name: "untyped", tokens: $0.tokens, isVisible: $0.isVisible) },
    ] {
      let found = try reference.outputs(of: network, in: Double.self, on: altered)
      #expect(relativeDifference(found, expected) > 1e-3)
    }
    let causal = network.mappingOperations { _, operation in
      guard case .attend(var attention) = operation else { return operation }
      attention.mask = .causal
      return .attend(attention)
    }
    let found = try reference.outputs(of: causal, in: Double.self, on: reference.probes)
    #expect(relativeDifference(found, expected) > 1e-3)
  }
}
