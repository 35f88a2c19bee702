import Formats

/// The sizes that the tensors have, held against the config.
struct MeasuredDimensions {
  let sizes: Dimensions
  let blockCount: Int
}

extension Dimensions {
  /// Sizes come from the tensors; the config must agree wherever it speaks.
  ///
  /// - Throws: `.malformed` with the field, what the config says and what the tensors say.
  static func measured(
    _ tensors: NamedTensors, layout: Layout, configuration: Configuration
  ) throws(Refusal) -> MeasuredDimensions {
    let file = tensors.checkpoint.path
    func matrix(_ name: String) throws(Refusal) -> [Int] {
      guard let tensor = tensors.peek(name) else {
        throw Refusal(
          .malformed, file: file, subject: name, "this tensor is missing", advice: "a GPT-2 cannot be read without it")
      }
      guard tensor.shape.count == 2, tensor.shape.allSatisfy({ $0 > 0 }) else {
        throw Refusal(.malformed, file: file, subject: tensor.name, "expected a matrix, found shape \(tensor.shape)")
      }
      return tensor.shape
    }
    let embedding = try matrix("wte.weight")
    let positions = try matrix("wpe.weight")
    let dModel = embedding[1]
    let blockCount = layout.blockCount(in: tensors.names)
    guard blockCount > 0 else {
      throw Refusal(
        .unsupported, file: file, "no tensor is named like a block of \(layout.name) (h.0.attn.c_attn.weight)",
        advice: "is this a GPT-2?")
    }
    let hidden = try matrix("h.0.mlp.c_fc.weight")
    let dMLP =
      layout.slots(blockCount: 1).first { $0.name == "h.0.mlp.c_fc.weight" }?.orientation == .outIn
      ? hidden[0] : hidden[1]
    for (key, said, found) in [
      ("n_embd", configuration.dModel, dModel), ("n_layer", configuration.blockCount, blockCount),
      ("n_inner", configuration.dMLP, dMLP), ("n_positions", configuration.contextLength, positions[0]),
      ("vocab_size", configuration.vocabularySize, embedding[0]),
    ] {
      guard let said, said != found else { continue }
      throw Refusal(
        .malformed, file: configuration.path, subject: key, "says \(said), but the tensors have \(found)",
        advice: "the config belongs to another checkpoint, or tensors are missing")
    }
    guard configuration.headCount > 0, dModel % configuration.headCount == 0 else {
      throw Refusal(
        .malformed, file: configuration.path, subject: "n_head",
        "\(configuration.headCount) heads do not divide the width \(dModel)")
    }
    let sizes = Dimensions(
      dModel: dModel, headCount: configuration.headCount, dHead: dModel / configuration.headCount, dMLP: dMLP,
      contextLength: positions[0], vocabularySize: embedding[0])
    return MeasuredDimensions(sizes: sizes, blockCount: blockCount)
  }
}
