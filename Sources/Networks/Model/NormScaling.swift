import Formats

/// How the norms of a network were scaled in training, which no file says.
package enum NormScaling: String, Sendable, CaseIterable {
  /// LayerNorm Scaling (arXiv 2502.05795): what both norms of layer l give is divided by √l, counted from 1. The last
  /// norm is left as it is.
  case lns

  /// What a norm's output is multiplied by.
  package func factor(at site: NormSite) -> Double {
    switch self {
    case .lns: site.block.map { 1 / Double($0 + 1).squareRoot() } ?? 1
    }
  }
}

extension Network {
  func scalingNorms(by scaling: NormScaling) -> Network {
    var result = self
    for site in sites { result[site]?.outputScale = scaling.factor(at: site) }
    return result
  }
}

/// The learned factors on the branches of a LLaMA that lmsdss/LayerNorm-Scaling trained with the norm type
/// `scale_res_pre_norm`: one number each.
struct BranchScales {
  private let values: [Int: (attention: Double, mlp: Double)]

  /// - Throws: `.malformed` for one that is missing or no single number, `.unsupported` for an integer, `.nonFinite` for one
  ///   that is no number at all.
  init(taking tensors: inout NamedTensors, blockCount: Int) throws(Refusal) {
    var values: [Int: (attention: Double, mlp: Double)] = [:]
    let file = tensors.checkpoint.path
    func name(_ branch: String, _ block: Int) -> String { "layers.\(block).raw_scaling_factor_\(branch)" }
    func take(_ name: String) throws(Refusal) -> Double {
      guard let tensor = tensors.take(name) else {
        throw Refusal(
          .malformed, file: file, subject: name, "this tensor is missing, and other branches have theirs",
          advice: "the checkpoint is incomplete")
      }
      try tensor.requireWeights(in: file)
      guard tensor.info.elementCount == 1 else {
        throw Refusal(.malformed, file: file, subject: tensor.name, "expected one number, found shape \(tensor.shape)")
      }
      let value = tensor.decoded(as: Double.self)[0]
      guard value.isFinite else { throw Refusal(.nonFinite, file: file, subject: tensor.name, "is \(value)") }
      return value
    }
    if tensors.names.contains(where: { $0.contains(".raw_scaling_factor_") }) {
      for block in 0..<blockCount { values[block] = (try take(name("attn", block)), try take(name("mlp", block))) }
    }
    self.values = values
  }

  func applied(to network: Network) -> Network {
    var result = network
    for (block, scales) in values {
      result.blocks[block].attention.outputScale = scales.attention
      result.blocks[block].mlp.outputScale = scales.mlp
    }
    return result
  }
}

extension NamedTensors {
  /// - Throws: `.unsupported` for the norms of other types in lmsdss/LayerNorm-Scaling, which stand behind a branch or are
  ///   chosen among by a router.
  func refuseNormsBehindBranches() throws(Refusal) {
    for (part, reason) in [
      (".post_feedforward_layernorm.", "is a norm behind a branch (post, deeppost, sandwich, Mix-LN)"),
      (".pre_feedforward_layernorm.", "belongs to a layer with norms behind its branches (sandwich)"),
      (".router.", "chooses between norms token by token (mono)"),
    ] {
      guard let name = names.filter({ $0.contains(part) }).min() else { continue }
      throw Refusal(
        .unsupported, file: checkpoint.path, subject: name,
        reason + ": it changes what joins the residual stream, and no map reads that alone",
        advice: "only norms before a branch can be folded")
    }
  }
}
