import NormFoldFormats

extension Model {
  /// Opens a checkpoint and finds out what it is.
  ///
  /// - Parameter path: a directory as Hugging Face lays it out, or one file with its `config.json` beside it where the
  ///   form has one; any single file may be compressed by zstd.
  /// - Throws: `.malformed`, `.unsupported` with everything that does not fit, listed at once; `.usage` for options
  ///   that contradict the checkpoint.
  package init(opening path: String, options: ReadingOptions = .init(), isUntuned: Bool = false) throws(Refusal) {
    let location = try CheckpointLocation(path: path)
    var adapters: [Adapter] = []
    for path in options.adapters { adapters.append(try Adapter(opening: path)) }
    let own = try options.layout.map { (path) throws(Refusal) in try LayoutFile(path: path) }
    let checkpoint = try location.open(
      temporaryDirectory: options.temporaryDirectory, stateDictAt: own?.stateDict ?? []
    ).beside(adapters.map(\.checkpoint))
    var content = CheckpointContent(checkpoint, at: location)
    try content.setClass(of: adapters)
    if options.modality != nil { content.set("multiway", .bool(false)) }
    let (architecture, form): (Architecture, StorageForm)
    if let own {
      (architecture, form) = (own.architecture, own.storageForm)
    } else {
      (architecture, form) = try Architecture.recognise(content)
    }
    var sizes = try form.read(content)
    let layout = options.missingNorms == nil ? form.layout(sizes) : form.layout(sizes).withOptionalNorms

    try ForeignTensors.refuse(in: checkpoint)
    var tensors = try NamedTensors(of: checkpoint, layout: layout, options: options)
    for adapter in adapters {
      try tensors.merge(adapter, layout: layout, temporaryDirectory: options.temporaryDirectory)
    }
    let task = try tensors.selectTask(options.task, isUntuned: isUntuned)
    if task != nil { sizes.own["task_norms"] = .bool(true) }
    try form.reading.check(tensors, sizes)
    if sizes.isTied { tensors.fillTiedEmbedding(of: layout) }
    try layout.requireRoom(in: tensors)
    if layout.blockCount(in: tensors.names) > 0 {
      try ParameterTable.requireAll(of: layout, in: tensors, hyperparameters: sizes)
    }
    try sizes.measure(tensors, layout: layout, architecture: architecture)
    let hasFakeNorms = FakeLayerNorm.isPresent(in: tensors)
    var parameters = try ParameterTable(
      taking: &tensors, layout: layout, hyperparameters: sizes, options: options)
    try form.reading.complete(&tensors, &sizes)
    for (name, value) in form.reading.parameters(sizes) where parameters[name] == nil { parameters[name] = value }
    sizes.permutesHeadScales = options.permutesHeadScales
    var reading = DialectReading(
      checkpoint: checkpoint, hyperparameters: sizes, layout: layout, options: options, tensors: tensors,
      parameters: parameters, hasFakeNorms: hasFakeNorms)
    if options.missingNorms != nil { try reading.requireMissingNorms() }
    let dialect = try Dialect.detect(&reading)
    (tensors, parameters) = (reading.tensors, reading.parameters)

    var builder = NetworkBuilder(
      hyperparameters: sizes, normKind: sizes.normKind ?? architecture.normKind, parameters: { parameters[$0] },
      normName: { parameters.normName(at: $0) }, task: architecture.task)
    architecture.forward(sizes, &builder)
    guard builder.missing.isEmpty else {
      preconditionFailure("\(layout.name) has no place for \(builder.missing.joined(separator: ", "))")
    }
    let stored = builder.network
    try stored.requireFiniteNorms()
    var meant = try dialect.interpret(stored)
    var literal = dialect.isMeantOtherwise ? stored : nil
    var notes =
      adapters.flatMap { $0.notes(besides: path) } + (task.map { [$0] } ?? []) + dialect.notes
      + parameters.notes(layout: layout).map { Message($0) }
    if sizes.hasDynamicAngles {
      notes.append(
        "rotary positions of type 'dynamic' are plain ones up to \(sizes.contextLength) tokens, which is what is computed and "
          + "written; for longer texts the class would change them")
    }
    if options.missingNorms != nil {
      notes.append(
        "norms without tensors are taken for identities, as told (\(.missingNorms, "identity")): they do not centre either"
      )
    }
    if let scaling = options.normScaling {
      meant = meant.scalingNorms(by: scaling)
      literal = literal?.scalingNorms(by: scaling)
      notes.append(
        "taken as told (\(.normScaling, scaling)): both norms of layer l are divided by √l; nothing in the "
          + "checkpoint says so")
    }
    notes += try parameters.notesOnHeadScales(options, file: checkpoint.path)
    if let lost = meant.noteOnLostEpsilon { notes.append(Message(lost.problem) + "; " + lost.advice) }
    try tensors.requireAllUsed(layout: layout)
    notes += tensors.unmatched(options.ignoredTensors).map {
      "\(.ignoredTensors, $0): no tensor of \(checkpoint.path) is called so"
    }
    self.checkpoint = checkpoint
    self.architecture = architecture
    self.hyperparameters = sizes
    configuration = checkpoint.container == .gguf ? nil : content.presentConfiguration
    self.layout = layout
    self.dialect = dialect
    network = meant
    literalNetwork = literal
    directory = location.directory
    tokenizer = try options.tokenizer.located()
    dropped = tensors.dropped
    wrappers = tensors.wrappers
    warnings = (location.warnings + checkpoint.warnings).map { Message($0) } + notes
  }
}

extension Network {
  /// - Throws: `.nonFinite` for a gain or bias of a norm that is no number: they are few, and everything that is said of a
  ///   norm depends on them.
  fileprivate func requireFiniteNorms() throws(Refusal) {
    for (_, norm) in norms {
      for tensor in norm.gain.storedTensors + (norm.bias?.storedTensors ?? []) {
        if let refusal = tensor.nonFiniteRefusal() { throw refusal }
      }
    }
  }
}
