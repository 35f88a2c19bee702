import Formats

/// The sizes that the tensors have, held against what the checkpoint says of itself.
struct MeasuredDimensions {
  let sizes: Dimensions
  let blockCount: Int

  /// - Throws: `.malformed` with the field, what is said and what the tensors have.
  init(of tensors: NamedTensors, layout: Layout, configuration: Configuration) throws(Refusal) {
    let file = tensors.checkpoint.path
    let blockCount = layout.blockCount(in: tensors.names)
    guard blockCount > 0 else {
      throw Refusal(
        .unsupported, file: file,
        "no tensor is named like a block of \(layout.name) (\(layout.slots(blockCount: 1).first { $0.name.contains("0") }?.name ?? ""))",
        advice: "is this a \(configuration.architecture.name)?")
    }
    func matrix(_ role: Role) throws(Refusal) -> [Int] {
      guard let slot = layout.slots(blockCount: 1).first(where: { $0.roles == [role] }) else {
        preconditionFailure("\(layout.name) has no place for \(role)")
      }
      guard let parameter = tensors.peek(slot.name) else {
        throw Refusal(
          .malformed, file: file, subject: slot.name, "this tensor is missing",
          advice: "a \(configuration.architecture.name) cannot be read without it")
      }
      guard parameter.shape.count == 2, parameter.shape.allSatisfy({ $0 > 0 }) else {
        throw Refusal(
          .malformed, file: file, subject: parameter.storedTensors.first?.name ?? slot.name,
          "expected a matrix, found shape \(parameter.shape)")
      }
      return slot.orientation == .outIn ? parameter.shape.reversed() : parameter.shape
    }
    let embedding = try matrix(.tokenEmbedding)
    // Rotary positions are no tensor: the context is as long as the config says.
    let hasPositions = layout.slots(blockCount: 1).contains { $0.roles == [.positionEmbedding] }
    let contextLength = hasPositions ? try matrix(.positionEmbedding)[0] : configuration.contextLength ?? 0
    let hidden = try matrix(.weight(.mlpInput(block: 0)))
    let dModel = embedding[1]
    // The heads span all features, also where the residual stream leaves one out.
    let headsWidth = configuration.normKind == .crms ? dModel + 1 : dModel
    // A matrix that lies the other way is refused when it is read, with the shape that it should have.
    let dMLP = hidden[0] != dModel && hidden[1] == dModel ? hidden[0] : hidden[1]
    for (key, said, found) in [
      ("n_embd", configuration.dModel, headsWidth),
      ("n_layer", configuration.blockCount, blockCount),
      ("n_inner", configuration.dMLP, dMLP),
      ("n_ctx", configuration.olderContextLength, contextLength),
      ("n_positions", configuration.contextLength, contextLength),
      ("vocab_size", configuration.vocabularySize, embedding[0]),
    ] {
      guard let said, said != found else { continue }
      throw Refusal(
        .malformed, file: configuration.path, subject: configuration.keyName(key),
        "says \(said), but the tensors have \(found)",
        advice: "the config belongs to another checkpoint, or tensors are missing")
    }
    guard configuration.headCount > 0, configuration.dHead != nil || headsWidth % configuration.headCount == 0 else {
      throw Refusal(
        .malformed, file: configuration.path, subject: configuration.keyName("n_head"),
        "\(configuration.headCount) heads do not divide the width \(headsWidth)")
    }
    let dHead = configuration.dHead ?? headsWidth / configuration.headCount
    guard dHead > 0, dHead < 1 << 20, contextLength > 0 else {
      throw Refusal(
        .malformed, file: configuration.path,
        "expected heads and a context of some width and length, found \(dHead) and \(contextLength)")
    }
    guard configuration.rotary == nil || dHead % 2 == 0 else {
      throw Refusal(
        .malformed, file: configuration.path, "heads of \(dHead) features cannot be turned in pairs by their positions")
    }
    sizes = Dimensions(
      dModel: dModel, headCount: configuration.headCount, keyValueHeadCount: configuration.keyValueHeadCount,
      dHead: dHead, dMLP: dMLP, contextLength: contextLength, vocabularySize: embedding[0])
    self.blockCount = blockCount
  }
}
