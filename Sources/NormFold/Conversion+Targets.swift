import NormFoldFolding
import NormFoldFormats
import NormFoldTargets

extension Conversion {
  /// Returns the targets that are named.
  ///
  /// - Throws: `.usage` for a name that is none, and for options that a target does not have.
  func chosenTargets() throws(Refusal) -> [any Target] {
    guard !targets.isEmpty else {
      throw Refusal(.usage, "no target is named", advice: "say what the output is for: \(.targets, "transformers")")
    }
    var chosen: [any Target] = []
    for name in targets.flatMap({ $0.split(separator: ",").map(String.init) }) {
      let target = try Targets.require(name)
      try target.require(type)
      if let normForm { try target.require(normForm.kind) }
      if !chosen.contains(where: { $0.name == target.name }) { chosen.append(target) }
    }
    try requireGraphOptions(for: chosen)
    return chosen
  }

  /// - Throws: `.usage` for a length without the form that has one, and for that form besides other targets, to which the length
  /// says nothing.
  private func requireGraphOptions(for targets: [any Target]) throws(Refusal) {
    guard onnxForm == .cached else {
      if let other = targets.first(where: { !($0 is ONNXTarget) }) {
        throw Refusal(
          .usage, subject: "\(.onnxForm, onnxForm.rawValue)",
          "is a form for onnxruntime alone, and '\(other.name)' is a target, too",
          advice: "convert for \(.targets, "onnxruntime") by itself")
      }
      return
    }
    if onnxLength != nil {
      throw Refusal(
        .usage, subject: "\(.onnxLength)",
        "is for a graph of fixed length, and the one with a cache takes any",
        advice: "give \(.onnxForm, "plain"), too")
    }
  }
}
