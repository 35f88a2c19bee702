import NormFoldFormats

extension Hyperparameters {
  /// Measures the sizes that the tensors have, and holds what the config states against them.
  ///
  /// - Throws: `.malformed` with the key, what is stated and what the tensors have.
  mutating func measure(
    _ tensors: NamedTensors, layout: Layout, architecture: Architecture
  ) throws(Refusal) {
    let file = tensors.checkpoint.path
    let blockCount = layout.blockCount(in: tensors.names)
    guard blockCount > 0 else {
      throw Refusal(
        .unsupported, file: file,
        "no tensor is named like a block of \(layout.name) (\(layout.slots(blockCount: 1).first { $0.block != nil }?.name ?? "")); "
          + "the names found are \(tensors.checkpoint.tensors.map(\.name).listed())",
        advice: layout.path == nil
          ? "is this \(architecture.nameWithArticle)? \(.layout) describes a network with names of its own"
          : "name the blocks as the checkpoint does")
    }
    // The matrix [in, out] itself, or a share of the one that holds several of its size.
    func matrix(_ name: String) throws(Refusal) -> [Int]? {
      guard let slot = layout.slots(blockCount: 1).first(where: { $0.parameters.contains(name) }) else { return nil }
      guard let parameter = tensors.peek(slot.name) else {
        if slot.presence == .perhaps { return nil }
        throw Refusal(
          .malformed, file: file, subject: slot.name, "this tensor is missing",
          advice: "\(architecture.nameWithArticle) cannot be read without it")
      }
      let stored = Array(parameter.shape.dropFirst(max(0, slot.leadingAxes)))
      guard stored.count == 2, stored.allSatisfy({ $0 > 0 }) else {
        throw Refusal(
          .malformed, file: file, subject: parameter.storedTensors.first?.name ?? slot.name,
          "expected a matrix, found shape \(parameter.shape)")
      }
      let shape = slot.axes[0] == [.input] ? stored : stored.reversed()
      return [shape[0], shape[1] / slot.parameters.count]
    }
    let (embedding, table) = (try matrix("embedding.tokens.weight"), try matrix("embedding.positions.weight"))
    // A network that reads images has no tokens.
    guard let dModel = (embedding ?? table)?[1] else { preconditionFailure("\(layout.name) has no embedding") }
    // Rotary positions are no tensor: the context is as long as the config says.
    let positions = table?[0]
    let contextLength = positions.map { $0 - layout.positionOffset } ?? stated(.context) ?? contextWithoutTable ?? 0
    guard let hidden = try matrix("blocks.0.mlp.input.weight") else {
      preconditionFailure("\(layout.name) has no input of an MLP")
    }
    // The heads span all features, also where the residual stream leaves one out.
    let headsWidth = normKind == .crms ? dModel + 1 : dModel
    // A matrix that lies the other way is refused when it is read, with the shape that it should have.
    let dMLP = hidden[0] != dModel && hidden[1] == dModel ? hidden[0] : hidden[1]
    var measured: [(Size, Int)] = [
      (.model, headsWidth), (.blocks, blockCount), (.hidden, dMLP), (.context, contextLength),
    ]
    if let embedding { measured.append((.vocabulary, embedding[0])) }
    if let types = try matrix("embedding.types.weight") { measured.append((.tokenTypes, types[0])) }
    if let classifier = try matrix("classifier.weight") { measured.append((.labels, classifier[1])) }
    for (size, found) in measured {
      for statement in statements where statement.size == size && statement.value != found {
        throw Refusal(
          .malformed, file: path, subject: statement.key, "says \(statement.value), but the tensors have \(found)",
          advice: size == .vocabulary
            ? "the config belongs to another checkpoint; or the table was padded, and \(statement.key) is to be the number of its rows"
            : "the config belongs to another checkpoint, or tensors are missing")
      }
      self[size] = found
    }
    self[.model] = dModel
    let headCount = stated(.heads) ?? 0
    guard headCount > 0, stated(.headWidth) != nil || headsWidth % headCount == 0 else {
      throw Refusal(
        .malformed, file: path, subject: key(of: .heads), "\(headCount) heads do not divide the width \(headsWidth)")
    }
    let dHead = stated(.headWidth) ?? headsWidth / headCount
    guard dHead > 0, dHead < 1 << 20, contextLength > 0 else {
      throw Refusal(
        .malformed, file: path,
        "expected heads and a context of some width and length, found \(dHead) and \(contextLength)")
    }
    self[.heads] = headCount
    self[.keyValueHeads] = stated(.keyValueHeads) ?? headCount
    self[.headWidth] = dHead
    guard let rotary, rotary.width % 2 == 0, rotary.width > 0, rotary.width <= dHead else {
      if rotary == nil { return }
      throw Refusal(
        .malformed, file: path,
        dHead % 2 != 0 && rotary?.width == dHead
          ? "heads of \(dHead) features cannot be rotated in pairs by their positions"
          : "\(rotary?.width ?? 0) of the \(dHead) features of a head cannot be rotated in pairs by their positions")
    }
  }

  /// - Throws: `.malformed` where heads of the queries cannot share those of keys and values evenly.
  func requireEvenGroups() throws(Refusal) {
    guard let heads = stated(.heads), heads > 0 else {
      throw Refusal(.malformed, file: path, subject: key(of: .heads), "expected at least one head")
    }
    guard let groups = stated(.keyValueHeads) else { return }
    guard groups > 0, heads % groups == 0 else {
      throw Refusal(
        .malformed, file: path, subject: key(of: .keyValueHeads),
        "\(groups) heads of keys and values do not divide \(heads) heads")
    }
  }
}
