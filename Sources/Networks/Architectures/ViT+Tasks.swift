import NormFoldFormats

extension NamedTensors {
  /// Chooses one of several tasks that a ViT has norms for, as continual LayerNorm tuning stores them (arXiv 2308.09610): gains
  /// `w` and biases `b` [tasks, width] beside each norm, under `mln` in the place of `norm`. Those of the task take the places of
  /// the norm's own, and the network is a plain ViT.
  ///
  /// - Parameters:
  ///   - task: counted from 0.
  ///   - isUntuned: whether the norm's own gain and bias stay, and those of all tasks are left out.
  /// - Returns: a note; nil where there is one task.
  /// - Throws: `.usage` where the task is not said, or is none of those there are; `.malformed` for tensors that do not fit.
  mutating func selectTask(_ task: Int?, isUntuned: Bool = false) throws(Refusal) -> Message? {
    let file = checkpoint.path
    let gains = names.filter { Self.isTaskGain($0) }.sorted()
    guard let first = gains.first, let count = tensor(named: first)?.shape.first else {
      guard task != nil else { return nil }
      throw Refusal(
        .usage, file: file, subject: "\(.task)", "there are no norms of several tasks (mln1.w, mln2.w, mln.w)",
        advice: "leave it out")
    }
    if isUntuned {
      for name in gains.flatMap({ [$0, $0.dropLast() + "b"] }) { drop(name, rule: "norm of a task") }
      dropKeys()
      return nil
    }
    let known = count == 1 ? "0" : "0 to \(count - 1)"
    guard let task else {
      throw Refusal(
        .usage, file: file, "has norms for \(count) tasks, and nothing in it says which one an image belongs to",
        advice: "choose one with \(.task): \(known)")
    }
    guard (0..<count).contains(task) else {
      throw Refusal(
        .usage, file: file, subject: "\(.task, "\(task)")", "there is no such task", advice: "known are \(known)")
    }
    for gain in gains {
      let site = String(gain.dropLast(2)).replacing("mln", with: "norm")
      for (name, own) in [(gain, site + ".weight"), (gain.dropLast() + "b", site + ".bias")] {
        guard let all = take(String(name)) else {
          throw Refusal(
            .malformed, file: file, subject: String(name), "this tensor is missing", advice: "'\(gain)' is there")
        }
        try all.requireWeights(in: file)
        guard all.shape.count == 2, all.shape[0] == count, all.isContiguous else {
          throw Refusal(
            .malformed, file: file, subject: all.name,
            "expected a row for each of the \(count) tasks, stored one after the other, found shape \(all.shape)")
        }
        let original = tensor(named: own)
        drop(own, rule: "norm of the network before it was tuned, in whose place that of the task is")
        replace(own, by: all.row(task, named: original?.name ?? own))
      }
    }
    dropKeys()
    return
      "task \(task) of \(known), as told (\(.task, "\(task)")): which task an image belongs to is not computed by a plain ViT, and "
      + "the keys that choose it are left out"
  }

  private mutating func dropKeys() {
    for name in Array(names) {
      if name.hasPrefix("wsm.") || name.contains(".weight_selection.") {
        drop(name, rule: "chooses a task for an image")
      } else if name.hasPrefix("fake_head.") {
        drop(name, rule: "head of another stage of training")
      }
    }
  }

  /// `blocks.0.mln1.w`, `mln.w`
  private static func isTaskGain(_ name: String) -> Bool {
    let parts = name.split(separator: ".")
    return parts.count >= 2 && parts.last == "w" && ["mln", "mln1", "mln2"].contains(parts[parts.count - 2])
  }
}

extension Checkpoint {
  /// The number of tasks that a checkpoint has norms for; nil for a checkpoint that has the usual norms.
  package var taskCount: Int? {
    tensors.first { $0.name == "mln.w" || $0.name.hasSuffix(".mln.w") }?.shape.first
  }
}

extension Tensor {
  /// A row of a contiguous matrix, as a vector.
  fileprivate func row(_ index: Int, named name: String) -> Tensor {
    let info = TensorInfo(name: name, type: info.type, shape: Array(shape.dropFirst()))
    return Tensor(info: info, file: file, byteOffset: byteOffset + index * info.byteCount)
  }
}
