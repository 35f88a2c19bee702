import Formats
import Networks

/// What the classes and graphs of other programs, which cannot be told otherwise, have one of.
extension Network {
  /// The last norm where nothing but it would untie the unembedding, or give it a bias.
  var lastNormBehindTie: Set<NormSite> { unembedding.bias == nil ? [.final] : [] }

  /// The network whose attention scores are multiplied by 1/√dHead in every block: any other factor moves into the
  /// queries.
  func withStandardAttentionScale() -> Network {
    var result = self
    let standard = 1 / Double(dimensions.dHead).squareRoot()
    for block in blocks.indices where blocks[block].attention.scale != standard {
      let factor = blocks[block].attention.scale / standard
      let query = blocks[block].attention.query
      result.blocks[block].attention.query = LinearMap(
        weight: query.weight.multiplied(by: factor), bias: query.bias?.multiplied(by: factor))
      result.blocks[block].attention.scale = standard
    }
    return result
  }

  /// The network with a bias on every map inside its blocks, zero where there was none.
  func withEveryBias() -> Network { withBiases(on: mapsOfAttentions + mapsOfMLPs) }

  /// The network in which all maps of the attentions have a bias or none has, and all of the MLPs: zero where there was
  /// none.
  func withUniformBiases() -> Network {
    [mapsOfAttentions, mapsOfMLPs].reduce(self) { network, maps in
      maps.contains { self[$0].bias != nil } ? network.withBiases(on: maps) : network
    }
  }

  private var mapsOfAttentions: [Role.Map] {
    blocks.indices.flatMap {
      [Role.Map.query(block: $0), .key(block: $0), .value(block: $0), .attentionOutput(block: $0)]
    }
  }

  private var mapsOfMLPs: [Role.Map] {
    blocks.indices.flatMap { block in
      [Role.Map.mlpInput(block: block), .mlpOutput(block: block)]
        + (blocks[block].mlp.gate == nil ? [] : [.mlpGate(block: block)])
    }
  }

  private func withBiases(on maps: [Role.Map]) -> Network {
    var result = self
    for map in maps where self[map].bias == nil {
      result[map].bias = .constant(0, shape: [self[map].weight.columnCount])
    }
    return result
  }

  /// What all blocks share.
  ///
  /// - Throws: `.unsupported` where they do not, or where an MLP has no gate.
  func uniformRotary(target: String) throws(Refusal) -> (rotary: Rotary, activation: Activation) {
    guard let first = blocks.first, let rotary = first.attention.rotary, positionEmbedding == nil,
      blocks.allSatisfy({
        $0.attention.rotary == rotary && $0.mlp.activation == first.mlp.activation && $0.mlp.gate != nil
      })
    else {
      throw Refusal(
        .unsupported, subject: target, "has one rotary base and one gated activation for all layers, and no others")
    }
    return (rotary, first.mlp.activation)
  }
}
