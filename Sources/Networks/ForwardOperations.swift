import Formats

/// What a forward pass is made of. The pass itself is written once, in ``Network``'s extension below; whoever
/// implements these operations runs it: arithmetic in Float or Double, a recorder, the writer of an ONNX graph. What is
/// verified is thus what is exported.
///
/// Shapes: T tokens, D = dModel, V vocabulary.
package protocol ForwardOperations {
  /// [T, any width]
  associatedtype Activations
  /// [T, V], or what stands for it: a large vocabulary is read in pieces.
  associatedtype Logits

  /// The rows of the token embedding, plus those of the positions where there are any: [T, D].
  mutating func embed(tokens: Parameter, positions: Parameter?) throws(Refusal) -> Activations
  /// All of the norm but its ``Norm/outputScale``.
  mutating func normalise(_ x: Activations, by norm: Norm) throws(Refusal) -> Activations
  /// xW + b.
  mutating func apply(_ map: LinearMap, to x: Activations) throws(Refusal) -> Activations
  /// Causal multi-head softmax attention: queries [T, heads · dHead], keys and values [T, key-value heads · dHead].
  ///
  /// - Parameter rotary: how queries and keys are turned by their positions first.
  mutating func attend(
    query: Activations, key: Activations, value: Activations, block: Int, headCount: Int, keyValueHeadCount: Int,
    rotary: Rotary?, scale: Double
  ) throws(Refusal) -> Activations
  mutating func activate(_ x: Activations, by activation: Activation) throws(Refusal) -> Activations
  mutating func add(_ a: Activations, _ b: Activations) throws(Refusal) -> Activations
  /// Element by element.
  mutating func multiply(_ a: Activations, _ b: Activations) throws(Refusal) -> Activations
  mutating func scale(_ x: Activations, by factor: Double) throws(Refusal) -> Activations
  mutating func unembed(_ x: Activations, by map: LinearMap) throws(Refusal) -> Logits
}

extension Network {
  /// The residual stream that enters the first block.
  package func embed<O: ForwardOperations>(with operations: inout O) throws(Refusal) -> O.Activations {
    try operations.embed(tokens: tokenEmbedding, positions: positionEmbedding)
  }

  /// The residual stream behind block `index`.
  package func run<O: ForwardOperations>(
    block index: Int, on x: O.Activations, with operations: inout O
  ) throws(Refusal) -> O.Activations {
    let attention = blocks[index].attention
    let queryKeyInput = try normalised(x, by: attention.queryKeyNorm, with: &operations)
    let valueInput =
      attention.valueNorm == attention.queryKeyNorm
      ? queryKeyInput : try normalised(x, by: attention.valueNorm, with: &operations)
    let query = try operations.apply(attention.query, to: queryKeyInput)
    let key = try operations.apply(attention.key, to: queryKeyInput)
    let value = try operations.apply(attention.value, to: valueInput)
    let mixed = try operations.attend(
      query: query, key: key, value: value, block: index, headCount: dimensions.headCount,
      keyValueHeadCount: dimensions.keyValueHeadCount, rotary: attention.rotary, scale: attention.scale)
    let attended = try operations.apply(attention.output, to: mixed)
    let middle = try operations.add(x, try scaled(attended, by: attention.outputScale, with: &operations))

    let mlp = blocks[index].mlp
    let mlpInput = try normalised(middle, by: mlp.norm, with: &operations)
    let hidden: O.Activations
    if let gate = mlp.gate {
      let opened = try operations.activate(try operations.apply(gate, to: mlpInput), by: mlp.activation)
      hidden = try operations.multiply(opened, try operations.apply(mlp.input, to: mlpInput))
    } else {
      hidden = try operations.activate(try operations.apply(mlp.input, to: mlpInput), by: mlp.activation)
    }
    let output = try operations.apply(mlp.output, to: hidden)
    return try operations.add(middle, try scaled(output, by: mlp.outputScale, with: &operations))
  }

  /// The logits from the residual stream behind the last block.
  package func unembed<O: ForwardOperations>(
    _ x: O.Activations, with operations: inout O
  ) throws(Refusal) -> O.Logits {
    try operations.unembed(try normalised(x, by: finalNorm, with: &operations), by: unembedding)
  }

  /// The whole pass.
  package func forward<O: ForwardOperations>(with operations: inout O) throws(Refusal) -> O.Logits {
    var x = try embed(with: &operations)
    for index in blocks.indices { x = try run(block: index, on: x, with: &operations) }
    return try unembed(x, with: &operations)
  }

  private func normalised<O: ForwardOperations>(
    _ x: O.Activations, by norm: Norm?, with operations: inout O
  ) throws(Refusal) -> O.Activations {
    guard let norm else { return x }
    return try scaled(try operations.normalise(x, by: norm), by: norm.outputScale, with: &operations)
  }

  private func scaled<O: ForwardOperations>(
    _ x: O.Activations, by factor: Double, with operations: inout O
  ) throws(Refusal) -> O.Activations {
    factor == 1 ? x : try operations.scale(x, by: factor)
  }
}
