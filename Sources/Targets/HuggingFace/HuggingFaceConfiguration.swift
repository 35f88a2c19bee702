import NormFoldFormats

extension JSONValue {
  /// A `config.json`, its keys ascending.
  ///
  /// - Parameter type: of the weights, said in both spellings: transformers renamed the key.
  static func huggingFaceConfiguration(_ members: [(String, JSONValue)], type: ElementType) -> JSONValue {
    let name = JSONValue.string(type == .bf16 ? "bfloat16" : type == .f16 ? "float16" : "float32")
    let all = members + [("dtype", name), ("torch_dtype", name)]
    return .object(all.sorted { $0.0 < $1.0 }.map { Member(key: $0.0, value: $0.1) })
  }
}
