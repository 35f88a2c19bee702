import Formats

extension Model {
  /// Opens a checkpoint and finds out what it is.
  ///
  /// - Parameter path: a directory as Hugging Face lays it out, or one file with its `config.json` beside it where the
  ///   form has one; any single file may be compressed by zstd.
  /// - Throws: `.malformed`, `.unsupported` with everything that does not fit, listed at once; `.usage` for options
  ///   that contradict the checkpoint.
  package init(opening path: String, options: ReadingOptions = .init()) throws(Refusal) {
    let location = try CheckpointLocation(path: path)
    let checkpoint = try location.open(temporaryDirectory: options.temporaryDirectory)
    if let nanoGPT = try Configuration(nanoGPT: checkpoint) {
      try self.init(
        checkpoint, location, nanoGPT, layout: .nanoGPT, options: options)
    } else if checkpoint.container == .gguf {
      let configuration = try Configuration(gguf: checkpoint)
      try self.init(
        checkpoint, location, configuration, layout: configuration.architecture.gguf, options: options)
    } else {
      let configuration = try Configuration(path: location.configurationPath)
      let known = Architecture.all.map(\.modelType) + [Self.foldedModelType]
      guard configuration.modelType.map(known.contains) ?? true else {
        throw .unsupportedArchitecture(
          configuration.modelType ?? "", file: configuration.path, subject: "model_type")
      }
      let layout: Layout =
        configuration.isTransformerLens
        ? .transformerLens : configuration.normFree?.layout ?? configuration.architecture.huggingFace
      try self.init(checkpoint, location, configuration, layout: layout, options: options)
    }
  }

  /// The `model_type` of what we write for transformers.
  package static let foldedModelType = "gpt2_folded"

  private init(
    _ checkpoint: Checkpoint, _ location: CheckpointLocation, _ configuration: Configuration, layout: Layout,
    options: ReadingOptions
  ) throws(Refusal) {
    var tensors = try NamedTensors(of: checkpoint, prefix: layout.prefix, options: options)
    let isFolded = configuration.modelType == Self.foldedModelType || configuration.isTransformerLens
    if layout.name == Layout.llama.name { try tensors.refuseNormsBehindBranches() }
    let name = "h.0.attn.qk_attn.weight"
    if configuration.normFree == nil, tensors.names.contains(name) {
      throw Refusal(
        .malformed, file: configuration.path, subject: "norm_type",
        "is missing, and only it says whether the blocks of a network with '\(name)' have norms",
        advice: "set it to ln or free, as in the training run")
    }
    if layout.blockCount(in: tensors.names) > 0 {
      try NetworkBuilder.requireAll(
        of: layout, in: tensors, configuration: configuration, normsAreOptional: isFolded)
    }
    let dimensions = try MeasuredDimensions(of: tensors, layout: layout, configuration: configuration)
    var builder = NetworkBuilder(
      dimensions: dimensions.sizes, blockCount: dimensions.blockCount, configuration: configuration)
    let hasFakeNorms = configuration.architecture == .gpt2 && FakeLayerNorm.isPresent(in: tensors)
    try builder.read(&tensors, layout: layout, options: options)
    if let slopes = configuration.leakySlopes { try builder.setSlopes(slopes, said: "leaky_relu_slopes") }
    if let slopes = try configuration.normFree?.takeSlopes(from: &tensors, blockCount: dimensions.blockCount) {
      try builder.setSlopes(slopes, said: "n_layer")
    }

    var literal: Network?
    var meant: Network
    var notes: [String] = []
    let ordinary = Norm.Deviation.computed(epsilon: configuration.epsilon)
    if hasFakeNorms {
      try Self.refuseSideFile(options, because: "the checkpoint holds its own deviations")
      let norms = try builder.fakeLayerNorms(taking: &tensors, epsilon: configuration.epsilon, options: options)
      meant = builder.network { site, place in norms[place]?.deviation(at: site) ?? ordinary }
      dialect = .fakeLayerNorm(withAdapters: builder.hasAdapters)
      if options.assumesEndOfTextDisabled {
        notes.append("assumed, as told: the end-of-text token is treated like any other")
      }
    } else if configuration.epsilon >= Dialect.smallestLargeEpsilon {
      try Self.refuseSideFile(options, because: "the checkpoint's epsilon fixes its deviations already")
      literal = builder.network { _, _ in ordinary }
      let fixed = Parameter.constant(configuration.epsilon.squareRoot(), shape: [dimensions.sizes.dModel])
      meant = builder.network { _, _ in .fixed(fixed) }
      dialect = .largeEpsilon(configuration.epsilon)
    } else if isFolded {
      try Self.refuseSideFile(
        options, because: "the norms that the checkpoint keeps are bare, and meant to be computed")
      meant = try builder.foldedNetwork()
      dialect = .folded(keptNormCount: Set(meant.norms.map(\.norm.name)).count)
    } else if let path = options.deviations {
      let file = try DeviationFile(path: path)
      let deviations = try builder.deviations(
        from: file, step: layout.name == Layout.nanoGPT.name ? Self.removalStep(of: checkpoint, options: options) : nil)
      // nanoGPT's own file was trained with these deviations; any other had computed norms until now.
      if layout.name != Layout.nanoGPT.name { literal = builder.network { _, _ in ordinary } }
      meant = builder.network { site, _ in deviations[site] ?? ordinary }
      dialect = .sideFile(path)
      notes += builder.notesOnSideFile(deviations, checkpoint: checkpoint, layout: layout, options: options)
    } else {
      meant = builder.network { _, _ in ordinary }
      dialect = configuration.normFree?.hasBlockNorms == false ? .normFree : .ordinary
    }
    let branchScales = try BranchScales(taking: &tensors, blockCount: dimensions.blockCount)
    meant = branchScales.applied(to: meant)
    literal = literal.map(branchScales.applied)
    if let scaling = options.normScaling {
      meant = meant.scalingNorms(by: scaling)
      literal = literal?.scalingNorms(by: scaling)
      notes.append(
        "taken as told (--norm-scaling \(scaling.rawValue)): both norms of layer l are divided by √l; nothing in the "
          + "checkpoint says so")
    }
    try tensors.requireAllUsed()
    notes += tensors.unmatched(options.ignoredTensors).map {
      "--ignore \($0): no tensor of \(checkpoint.path) is called so"
    }
    self.checkpoint = checkpoint
    self.configuration = configuration
    self.layout = layout
    network = meant
    literalNetwork = literal
    directory = location.directory
    tokenizer = options.tokenizer
    dropped = tensors.dropped
    warnings = location.warnings + checkpoint.warnings + notes
  }

  private static func refuseSideFile(_ options: ReadingOptions, because reason: String) throws(Refusal) {
    guard options.deviations != nil else { return }
    throw Refusal(.usage, subject: "--deviations", reason, advice: "leave it out")
  }

  /// The step of the removal schedule: what the user says, else what the checkpoint counted.
  private static func removalStep(of checkpoint: Checkpoint, options: ReadingOptions) -> Int? {
    options.removalStep ?? checkpoint.metadata["iter_num"]?.integer
  }
}

extension NetworkBuilder {
  /// The buffers of every norm.
  func fakeLayerNorms(
    taking tensors: inout NamedTensors, epsilon: Double, options: ReadingOptions
  ) throws(Refusal) -> [Role.NormPlace: FakeLayerNorm] {
    var norms: [Role.NormPlace: FakeLayerNorm] = [:]
    for place in normPlaces {
      guard let name = bareNormName(at: place) else { continue }
      norms[place] = try FakeLayerNorm(
        taking: name, from: &tensors, dimensions: dimensions, epsilon: epsilon, options: options)
    }
    return norms
  }

  /// The deviation of every site that has a norm by a file: by the schedule at `step`, or plainly for all where there is none.
  func deviations(from file: DeviationFile, step: Int?) throws(Refusal) -> [NormSite: Norm.Deviation] {
    var deviations: [NormSite: Norm.Deviation] = [:]
    for site in normPlaces.filter({ bareNormName(at: $0) != nil }).flatMap(\.sites) {
      if let step {
        deviations[site] = try RemovalSchedule(step: step).deviation(
          at: site, from: file, dimensions: dimensions, blockCount: blockCount, epsilon: configuration.epsilon)
      } else {
        deviations[site] = .fixed(
          .constant(try file.usual(at: site, blockCount: blockCount), shape: [dimensions.dModel]))
      }
    }
    return deviations
  }

  func notesOnSideFile(
    _ deviations: [NormSite: Norm.Deviation], checkpoint: Checkpoint, layout: Layout, options: ReadingOptions
  ) -> [String] {
    guard layout.name == Layout.nanoGPT.name else {
      return ["the deviations of \(options.deviations ?? "") replace computed norms: this changes the function"]
    }
    var notes: [String] = []
    if let step = options.removalStep ?? checkpoint.metadata["iter_num"]?.integer {
      notes.append(
        "which norms are fixed follows from gpt2_noLN's removal schedule at step \(step)"
          + (options.removalStep == nil ? " (iter_num); --removal-step overrides it" : ", as told"))
    }
    if configuration.biases != .everywhere {
      notes.append("the norms have no bias: gpt2_noLN's own code would neither centre nor divide there, this does both")
    }
    return notes
  }

  /// A network of ours: the norms that are kept have neither gain nor bias, and are named in the config.
  ///
  /// - Throws: `.malformed` where the config names a norm that there is no place for.
  func foldedNetwork() throws(Refusal) -> Network {
    var network = network { _, _ in .computed(epsilon: configuration.epsilon) }
    for (name, path) in configuration.keptNorms {
      guard let place = normPlaces.first(where: { Layout.gpt2.normName(at: $0) == name }) else {
        throw Refusal(.malformed, file: configuration.path, subject: "kept_norms.\(name)", "there is no such norm")
      }
      for site in place.sites {
        switch (site, path) {
        case (.attentionQueryKey, .values), (.attentionValue, .queriesAndKeys): continue
        default:
          network[site] = Norm(
            name: name, kind: configuration.normKind, gain: .constant(1, shape: [dimensions.dModel]), bias: nil,
            deviation: .computed(epsilon: configuration.epsilon))
        }
      }
    }
    return network
  }
}
