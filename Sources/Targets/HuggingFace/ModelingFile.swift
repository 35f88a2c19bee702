import NormFoldFormats

/// Code of this project that lies beside the weights: `AutoModelForCausalLM` loads it with `trust_remote_code=True` where no
/// stock class computes the network.
struct ModelingFile: Sendable {
  /// The name of the file without `.py`.
  let module: String
  let configurationClass: String
  let modelClass: String
  let text: String

  /// Returns the members of `config.json` that name the code and the model type.
  func head(modelType: String) -> [(String, JSONValue)] {
    [
      ("architectures", .array([.string(modelClass)])),
      (
        "auto_map",
        .object([
          "AutoConfig": .string("\(module).\(configurationClass)"),
          "AutoModelForCausalLM": .string("\(module).\(modelClass)"),
        ])
      ),
      ("model_type", .string(modelType)),
    ]
  }

  var file: (name: String, bytes: [UInt8]) { ("\(module).py", Array(text.utf8)) }
}
