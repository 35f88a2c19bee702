import NormFoldFormats

/// Every target there is, by the name that the user gives.
package enum Targets {
  package static let all: [any Target] = [
    TransformersTarget(), StockGPT2Target(), TransformerLensTarget(), LlamaCppTarget(), ONNXTarget(),
  ]

  /// Types that some target can store matrices in.
  package static let types: Set<ElementType> = Set(all.flatMap(\.types))

  /// Programs and formats that a target serves, each under the spellings that people give to it.
  private static let served: [(names: Set<String>, target: String)] = [
    (["huggingface", "hf", "nnsight", "nnterp", "pytorch", "torch"], "transformers"),
    (["mlx", "mlxlm", "vllm", "sglang", "stockgpt2", "gpt2lmheadmodel"], "gpt2"),
    (["tl", "hookedtransformer", "transformerbridge", "saelens", "circuittracer"], "transformer-lens"),
    (["gguf", "ggml", "ollama", "lmstudio", "koboldcpp"], "llama.cpp"),
    (["onnx", "ort", "optimum", "onnxruntimegenai", "genai", "transformersjs"], "onnxruntime"),
  ]

  /// Returns the target of a name, in whatever case and with whatever between its words.
  ///
  /// - Throws: `.usage` with the target that serves what was named, or the one whose name is nearest, or all of them.
  package static func require(_ name: String) throws(Refusal) -> any Target {
    let plain = plain(name)
    if let target = all.first(where: { Self.plain($0.name) == plain }) { return target }
    let known = all.map(\.name).joined(separator: ", ")
    if let target = served.first(where: { $0.names.contains(plain) })?.target {
      throw Refusal(
        .usage, subject: name, "there is no such target, but one that serves it",
        advice: "use \(.targets, target); known are \(known)")
    }
    let near = all.map { (name: $0.name, distance: plain.distance(to: Self.plain($0.name))) }
      .min { $0.distance < $1.distance }
    throw Refusal(
      .usage, subject: name, "there is no such target",
      advice: (near.map { $0.distance <= 2 ? "did you mean \($0.name)? " : "" } ?? "") + "known are \(known)")
  }

  private static func plain(_ name: String) -> String {
    String(name.lowercased().filter { $0.isLetter || $0.isNumber })
  }
}
