import Formats

extension Model {
  /// Opens a checkpoint and finds out what it is.
  ///
  /// - Parameter path: a directory as Hugging Face lays it out, or one file with its `config.json` beside it.
  /// - Throws: `.malformed`, `.unsupported` with everything that does not fit, listed at once.
  package init(opening path: String, options: ReadingOptions = .init()) throws(Refusal) {
    let location = try CheckpointLocation(path: path)
    let checkpoint = try location.open()
    guard checkpoint.container == .safetensors else {
      throw Refusal(
        .unsupported, file: path, "\(checkpoint.container.rawValue) checkpoints are not supported yet",
        advice: "save the model as safetensors")
    }
    let configuration = try Configuration(path: location.configurationPath)
    try self.init(
      gpt2: checkpoint, configuration: configuration, directory: location.directory, options: options)
  }

  private init(
    gpt2 checkpoint: Checkpoint, configuration: Configuration, directory: String, options: ReadingOptions
  ) throws(Refusal) {
    let isNormFree = configuration.modelType == "gpt2_lnfree"
    guard isNormFree || configuration.modelType == nil || configuration.modelType == "gpt2" else {
      throw Refusal(
        .unsupported, file: configuration.path, subject: "model_type",
        "'\(configuration.modelType ?? "")' is not supported", advice: "supported are gpt2 and gpt2_lnfree")
    }
    var tensors = try NamedTensors(of: checkpoint, options: options)
    let layout = Layout.gpt2
    let dimensions = try Dimensions.measured(tensors, layout: layout, configuration: configuration)
    var builder = NetworkBuilder(
      dimensions: dimensions.sizes, blockCount: dimensions.blockCount, configuration: configuration)
    try builder.read(&tensors, layout: layout, normsAreOptional: isNormFree, options: options)
    try tensors.requireAllUsed()

    let dialect: Dialect =
      if isNormFree {
        .normFree
      } else if configuration.epsilon >= Dialect.smallestLargeEpsilon {
        .largeEpsilon(configuration.epsilon)
      } else {
        .ordinary
      }
    var literal: Network?
    if case .largeEpsilon(let epsilon) = dialect {
      literal = builder.network(deviation: .computed(epsilon: epsilon))
      let fixed = Parameter.constant(epsilon.squareRoot(), shape: [dimensions.sizes.dModel])
      network = builder.network(deviation: .fixed(fixed))
    } else {
      network = builder.network(deviation: .computed(epsilon: configuration.epsilon))
    }
    literalNetwork = literal
    self.checkpoint = checkpoint
    self.directory = directory
    self.configuration = configuration
    self.layout = layout
    self.dialect = dialect
    dropped = tensors.dropped
    warnings = checkpoint.warnings + builder.warnings
  }
}
