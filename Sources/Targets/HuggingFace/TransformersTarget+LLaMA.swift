import Formats
import Networks

extension TransformersTarget {
  /// A directory for the stock class LlamaForCausalLM, and all that reads the same files. The class has a norm at every
  /// site and one ε: norms are what they are where all are computed; where all are fixed or gone, each is as near an
  /// identity as it gets. Nothing about either needs a modeling file.
  ///
  /// - Throws: `.unsupported` for what the class has no place for: some norms computed and others not, layers that
  ///   differ in their activation or positions.
  func llamaOutput(of network: Network, from model: Model, options: TargetOptions) throws(Refusal) -> TargetOutput {
    let scaled = network.withStandardAttentionScale().withUniformBiases()
    let (stock, epsilon) = try scaled.withStockNorms(layout: .llama, target: name)
    let configuration = try model.llamaConfiguration(of: stock, epsilon: epsilon, type: options.type, target: name)
    let parameters = Layout.llama.slotParameters(of: stock).filter {
      $0.slot.roles != [.weight(.unembedding)] || !stock.isTied
    }.map { slot, value in
      TargetOutput.StoredParameter(
        name: Layout.llama.fullName(of: slot), value: value, type: value.normType(in: slot, as: options.type))
    }
    let tokenizer = try model.tokenizerFiles()
    let widened = options.type == .f32 ? 0 : parameters.count { $0.info.type == .f32 }
    return TargetOutput(
      safetensors: parameters,
      sideFiles: tokenizer + [("config.json", Array(configuration.text.utf8))],
      notes: (widened == 0 ? [] : ["\(widened) gains are F32, since \(options.type.displayName) would round them"])
        + (try model.notes(onTokenizerFiles: tokenizer)))
  }
}

extension Parameter {
  /// The type that a tensor is stored in: a gain that is not the stored one has no reason to be a number of a narrow type.
  fileprivate func normType(in slot: Layout.Slot, as type: ElementType) -> ElementType {
    guard case .normGain = slot.roles[0] else { return type }
    if let tensor = storedTensor { return tensor.info.type == type ? type : .f32 }
    return constantValue == 1 ? type : .f32
  }
}
