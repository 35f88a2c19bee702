import NormFoldFormats

extension NamedTensors {
  /// Merges an adapter as peft's merge_and_unload() does: tensors that were trained whole take the places of those of the
  /// network, and products of low rank are added to theirs and rounded to their type.
  ///
  /// Sums over the rank are computed one after the other by fused multiply-add in single precision, as torch's product of
  /// matrices computes them on x86-64 for ranks below 200; beyond that it cuts the sum into parts.
  ///
  /// - Parameter directory: where merged weights are kept, without a name; nil for the system's temporary directory.
  /// - Throws: `.unsupported` for a tensor that the network does not have; `.malformed` for one of another shape.
  mutating func merge(
    _ adapter: Adapter, layout: Layout, temporaryDirectory directory: String?
  ) throws(Refusal) {
    guard checkpoint.container != .gguf else {
      throw Refusal(
        .unsupported, file: checkpoint.path,
        "names its tensors as llama.cpp does, and an adapter of peft as transformers does",
        advice: "give the base model in the form of transformers")
    }
    let slots = Dictionary(
      layout.slots(blockCount: layout.blockCount(in: names)).map { ($0.name, $0) },
      uniquingKeysWith: { first, _ in first })
    var sums: [(name: String, base: Tensor, sum: LowRankSum)] = []
    for (fullName, change) in adapter.changes {
      let name = bareName(of: fullName, layout: layout)
      if layout.droppingRule(for: Substring(name)) != nil {
        throw adapter.refusal(
          change, .unsupported, "trains '\(fullName)', which \(layout.name) does not have beside this head",
          advice: "merge it with merge_and_unload(), and give what save_pretrained() writes then")
      }
      let base = tensor(named: name)
      switch change {
      case .replacement(let tensor):
        // What another adapter has changed would be lost.
        guard !adapted.contains(name) else {
          throw adapter.refusal(
            change, .unsupported, "replaces '\(fullName)', which an adapter before it has changed",
            advice: "peft has one of them active at a time; give one")
        }
        guard base != nil || slots[name] != nil else { throw adapter.refusal(missing: fullName, change) }
        if let base, base.shape != tensor.shape {
          throw adapter.refusal(
            change, .malformed, "expected shape \(base.shape), that of the base, found \(tensor.shape)",
            advice: "the adapter belongs to another base")
        }
        replace(name, by: tensor.renamed(base?.name ?? fullName))
      case .lowRank(let down, let up, let scale):
        guard let base, let slot = slots[name] else { throw adapter.refusal(missing: fullName, change) }
        let isTransposed = slot.axes.last == [.input]
        let expected = [up.shape[0], down.shape[1]]
        guard base.shape == (isTransposed ? expected : expected.reversed()) else {
          throw adapter.refusal(
            change, .malformed,
            "a product of shape \(expected) cannot be added to '\(base.name)' of shape \(base.shape)",
            advice: "the adapter belongs to another base")
        }
        guard [.f32, .f64, .bf16, .f16].contains(base.info.type) else {
          throw adapter.refusal(
            change, .unsupported, "cannot be added to '\(base.name)' of type \(base.info.type.displayName)",
            advice: "give the base in F32, BF16 or F16")
        }
        sums.append((name, base, LowRankSum(base: base, down: down, up: up, scale: scale, isTransposed: isTransposed)))
      }
      markAdapted(name)
    }
    guard !sums.isEmpty else { return }
    let file = try TemporaryFile(in: directory)
    var offsets: [Int] = []
    for sum in sums {
      try file.pad(to: 64)
      offsets.append(file.byteCount)
      try sum.sum.write(to: file)
    }
    let mapped = try file.mapped(as: adapter.path)
    for (item, offset) in zip(sums, offsets) {
      replace(item.name, by: Tensor(info: item.base.info, file: mapped, byteOffset: offset))
    }
  }
}

extension Adapter {
  fileprivate func refusal(
    _ change: Change, _ category: Refusal.Category, _ problem: String, advice: Message
  ) -> Refusal {
    let tensor =
      switch change {
      case .replacement(let tensor): tensor
      case .lowRank(let down, _, _): down
      }
    return Refusal(category, file: checkpoint.path, subject: tensor.name, problem, advice: advice)
  }

  fileprivate func refusal(missing name: String, _ change: Change) -> Refusal {
    refusal(
      change, .unsupported, "is for '\(name)', and the base has no such tensor",
      advice: "the adapter belongs to another base, or to another head of it")
  }

  /// Returns notes on what the user should know.
  ///
  /// - Parameter path: the path of the base.
  func notes(besides path: String) -> [Message] {
    func last(_ path: String) -> Substring { path.split(separator: "/").last ?? "" }
    guard let baseName, last(baseName) != last(path) else { return [summary] }
    return [summary, "\(self.path): says that its base is '\(baseName)'; it is merged into \(path)"]
  }
}

extension CheckpointContent {
  /// Reads the checkpoint as the class that adapters were trained in, where they say one.
  mutating func setClass(of adapters: [Adapter]) throws(Refusal) {
    guard let type = presentConfiguration?["model_type"]?.string else { return }
    let own = presentConfiguration?["architectures"]?.array?.first?.string
    for adapter in adapters {
      if let name = adapter.className(amongClassesOf: type), name != own { setClass(name) }
    }
  }
}

extension Tensor {
  fileprivate func renamed(_ name: String) -> Tensor {
    var info = info
    info.name = name
    return Tensor(info: info, file: file, byteOffset: byteOffset, elementStrides: elementStrides)
  }
}

/// W + scale·(up·down), in the orientation and the type of W.
private struct LowRankSum {
  let base: Tensor
  /// [rank, in]
  let down: Tensor
  /// [out, rank]
  let up: Tensor
  let scale: Float
  /// Is true if the weight is stored [out, in], as torch's Linear stores it.
  let isTransposed: Bool

  func write(to file: TemporaryFile) throws(Refusal) {
    let rank = down.shape[0]
    // The factor whose rows go along the rows of the weight, [rank, columns], and the other one, [rows, rank].
    let (along, across): ([Float], [Float]) =
      isTransposed
      ? (down.decoded(), up.decoded())
      : (Self.transposed(up.decoded(), columns: rank), Self.transposed(down.decoded(), columns: down.shape[1]))
    let (rows, columns) = (base.shape[0], base.shape[1])
    var result = [Double](repeating: 0, count: columns)
    var bytes = [UInt8](repeating: 0, count: base.info.byteCount / max(1, rows))
    for row in 0..<rows {
      var sum = [Float](repeating: 0, count: columns)
      for index in 0..<rank {
        let factor = across[row * rank + index]
        let start = index * columns
        for column in 0..<columns { sum[column].addProduct(along[start + column], factor) }
      }
      unsafe result.withUnsafeMutableBufferPointer {
        unsafe base.decode(row * columns..<(row + 1) * columns, into: $0)
      }
      for column in 0..<columns {
        let product = sum[column] * scale
        // Of a weight in half precision the sum is rounded twice, to Float first.
        result[column] =
          base.info.type == .f64 ? result[column] + Double(product) : Double(Float(result[column]) + product)
      }
      let outcome: Result<Void, Refusal> = unsafe bytes.withUnsafeMutableBytes { bytes in
        unsafe result.withUnsafeBufferPointer { _ = unsafe base.info.type.encode($0, into: bytes) }
        do throws(Refusal) { return .success(try unsafe file.write(UnsafeRawBufferPointer(bytes))) } catch {
          return .failure(error)
        }
      }
      try outcome.get()
    }
  }

  private static func transposed(_ values: [Float], columns: Int) -> [Float] {
    let rows = values.count / max(1, columns)
    var result = [Float](repeating: 0, count: values.count)
    for row in 0..<rows {
      for column in 0..<columns { result[column * rows + row] = values[row * columns + column] }
    }
    return result
  }
}
