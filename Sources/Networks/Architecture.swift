/// What sets one architecture apart from another: its tables. The forward pass, the folds and the verification know a
/// ``Network`` only.
package struct Architecture: Sendable {
  /// As people call it: `LLaMA`.
  package let name: String
  /// As configs and GGUF files call it: `llama`.
  package let modelType: String
  /// What its norms are.
  package let normKind: Norm.Kind
  package let huggingFace: Layout
  package let gguf: Layout

  package static let gpt2 = Architecture(
    name: "GPT-2", modelType: "gpt2", normKind: .layer, huggingFace: .gpt2, gguf: .ggufGPT2)

  package static let llama = Architecture(
    name: "LLaMA", modelType: "llama", normKind: .rms, huggingFace: .llama, gguf: .ggufLLaMA)

  package static let all = [gpt2, llama]

  /// The one whose tables have a place for such a network: rotary positions are no tensor.
  package init(of network: Network) {
    self = network.blocks.contains { $0.attention.rotary != nil } ? .llama : .gpt2
  }

  private init(name: String, modelType: String, normKind: Norm.Kind, huggingFace: Layout, gguf: Layout) {
    self.name = name
    self.modelType = modelType
    self.normKind = normKind
    self.huggingFace = huggingFace
    self.gguf = gguf
  }
}

extension Architecture: Equatable {
  package static func == (a: Architecture, b: Architecture) -> Bool { a.modelType == b.modelType }
}
