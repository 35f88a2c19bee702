import Foundation
import NormFoldFormats
import NormFoldNetworks
import TestSupport

/// A file that says the same network in another way, as other programs might write it.
package enum HonestCopy: String, CaseIterable, Sendable {
  case tensorsReordered, metadataDropped, headsPermuted, headUntied
}

extension WrittenNetwork {
  /// Rewrites the files so.
  ///
  /// - Returns: whether they can be: not every form of file and not every network has each of these copies.
  package func rewrite(as copy: HonestCopy) throws -> Bool {
    switch copy {
    case .tensorsReordered: return try rewriteTensors { $0.names.sorted(by: >) }
    case .metadataDropped: return try rewriteTensors { $0.names.sorted() }
    case .headsPermuted: return try permuteHeads()
    case .headUntied: return try untieHead()
    }
  }

  private var weightsPath: String { directory + "/model.safetensors" }

  /// Writes the safetensors file again, without metadata, its data in the order that is asked for.
  private func rewriteTensors(_ order: (EditableTensors) -> [String]) throws -> Bool {
    guard FileManager.default.fileExists(atPath: weightsPath) else { return false }
    let tensors = EditableTensors(of: try Checkpoint(safetensors: weightsPath))
    var header: [String: Any] = [:]
    var data = Data()
    for name in order(tensors) {
      let entry = tensors.entry(name)
      header[name] = [
        "dtype": entry.type.displayName, "shape": entry.shape,
        "data_offsets": [data.count, data.count + entry.bytes.count],
      ]
      data += entry.bytes
    }
    var json = try JSONSerialization.data(withJSONObject: header)
    json += Data(repeating: UInt8(ascii: " "), count: (8 - json.count % 8) % 8)
    let length = withUnsafeBytes(of: UInt64(json.count).littleEndian) { Data($0) }
    try (length + json + data).write(to: URL(filePath: weightsPath))
    return true
  }

  /// Turns the order of the groups of heads that share keys and values around, in every map and bias alike.
  private func permuteHeads() throws -> Bool {
    var changes: [(parameter: Parameter, path: Path, headCount: Int, isInput: Bool)] = []
    for (path, attention) in network.attentions where attention.keyValueHeadCount > 1 {
      guard attention.isDistribution, network.users(of: path).count == 1, let user = network.users(of: path).first,
        let output = network[linear: user.path]
      else { return false }
      changes.append((output.weight, user.path, attention.headCount, true))
      for operand in 0..<3 {
        guard let place = map(behind: path, operand), let map = network[linear: place] else { return false }
        let count = operand == 0 ? attention.headCount : attention.keyValueHeadCount
        changes.append((map.weight, place, count, false))
        if let bias = map.bias { changes.append((bias, place, count, false)) }
      }
    }
    let isPlain = changes.allSatisfy { change in
      !change.parameter.storedTensors.isEmpty && change.parameter.place(0, 0) != nil
        && change.parameter.storedTensors.allSatisfy { $0.info.type.elementsPerBlock == 1 }
    }
    guard !changes.isEmpty, isPlain else { return false }
    let groups = network.attentions.first?.attention.keyValueHeadCount ?? 1
    for change in changes {
      _ = try write(change.parameter, change.path) { values in
        let old = values
        let width = change.parameter.shape.count == 2 ? change.parameter.columnCount : values.count
        let extent = change.isInput ? values.count / width : width
        let (perHead, perGroup) = (extent / change.headCount, change.headCount / groups)
        for index in 0..<extent {
          let (head, feature) = index.quotientAndRemainder(dividingBy: perHead)
          let origin = ((groups - 1 - head / perGroup) * perGroup + head % perGroup) * perHead + feature
          if change.isInput {
            for column in 0..<width { values[index * width + column] = old[origin * width + column] }
          } else {
            for row in 0..<values.count / width { values[row * width + index] = old[row * width + origin] }
          }
        }
      }
    }
    return true
  }

  /// Stores the unembedding of a tied network beside its embedding, and says that the two are not tied.
  private func untieHead() throws -> Bool {
    let url = URL(filePath: directory + "/config.json")
    guard network.isTied, FileManager.default.fileExists(atPath: weightsPath),
      var configuration = try JSONSerialization.jsonObject(with: Data(contentsOf: url)) as? [String: Any],
      ["gpt2", "llama", "opt"].contains(configuration["model_type"] as? String)
    else { return false }
    var tensors = EditableTensors(of: try Checkpoint(safetensors: weightsPath))
    guard tensors.entries["lm_head.weight"] == nil,
      let name = tensors.names.first(where: { $0.hasSuffix("wte.weight") || $0.hasSuffix("embed_tokens.weight") })
    else { return false }
    tensors["lm_head.weight"] = tensors[name]
    try FileManager.default.removeItem(atPath: weightsPath)
    try tensors.write(to: weightsPath)
    configuration["tie_word_embeddings"] = false
    try JSONSerialization.data(withJSONObject: configuration).write(to: url)
    return true
  }
}
