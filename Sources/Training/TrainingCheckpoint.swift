import FoundationEssentials
import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks
import NormFoldProcesses

/// A directory that holds a run between two steps: the network in the form of submarat/removing-layer-norm, whose
/// FakeLayerNorms have their deviations and switches in buffers beside them; the optimiser's moments; and what the run has
/// been told and has recorded. It appears whole or not at all.
package struct TrainingCheckpoint: Sendable {
  /// The identity of the run that a state belongs to: another run must not go on from it.
  package struct Identity: Sendable, Equatable {
    package let recipe: Recipe
    package let tokens: UInt64
    package let precision: Precision
    /// The name of the integers that it is computed in; nil for floating point.
    package let arithmetic: String?

    package init(recipe: Recipe, tokens: UInt64, precision: Precision, arithmetic: String? = nil) {
      (self.recipe, self.tokens, self.precision, self.arithmetic) = (recipe, tokens, precision, arithmetic)
    }
  }

  private static let weightsName = "model.safetensors"
  private static let stateName = "training.safetensors"
  private static let runName = "training.json"

  package let path: String

  package init(at path: String) { self.path = path }

  package var exists: Bool { FileManager.default.fileExists(atPath: path + "/" + Self.runName) }

  // MARK: Writing

  /// Replaces what is there, in one step for whoever looks on. All processes take part; number 0 writes.
  ///
  /// - Parameters:
  ///   - model: what the run started from.
  ///   - others: files to lie beside it: those of the tokenizer.
  ///   - marksNorms: whether the norms get the buffers that say what is fixed.
  package func write<Scalar: ArithmeticScalar>(
    _ run: TrainingRun<Scalar>, of model: Model, _ identity: Identity, history: TrainingHistory,
    beside others: [(name: String, bytes: [UInt8])], marksNorms: Bool
  ) throws(Refusal) {
    let staged = try run.processes.together { () throws(Refusal) -> StagedOutput? in
      guard run.processes.rank == 0 else { return nil }
      let place = try Destination(directory: path, replacing: true)
      _ = StagedOutput.removeStale(beside: place)
      let staged = try StagedOutput(for: place)
      try staged.requireSpace(run.parameters.count * 3 * MemoryLayout<Scalar>.stride)
      try writeWeights(run, of: model, to: staged.path + "/" + Self.weightsName, marksNorms: marksNorms)
      return staged
    }
    try writeState(run, to: staged.map { $0.path + "/" + Self.stateName })
    try run.processes.together { () throws(Refusal) in
      guard let staged else { return }
      try writeRest(run, of: model, identity, history: history, beside: others, in: staged)
      _ = try staged.publish()
    }
  }

  private func writeRest<Scalar: ArithmeticScalar>(
    _ run: TrainingRun<Scalar>, of model: Model, _ identity: Identity, history: TrainingHistory,
    beside others: [(name: String, bytes: [UInt8])], in staged: StagedOutput
  ) throws(Refusal) {
    let state: [JSONValue.Member] = [
      .init(key: "step", value: .number(run.step)),
      .init(key: "precision", value: .string(identity.precision.rawValue)),
      .init(key: "arithmetic", value: identity.arithmetic.map { .string($0) } ?? .null),
      .init(key: "tokens", value: .string(String(identity.tokens, radix: 16))),
      .init(key: "recipe", value: identity.recipe.json),
      .init(key: "deviations", value: DeviationSample.json(run.deviations)),
    ]
    let content = JSONValue.object(state + history.json)
    var files = [(Self.runName, Array(content.text.utf8))]
    files.append(("config.json", Array(configuration(of: model, as: Scalar.self).text.utf8)))
    for (name, bytes) in files + others {
      let file = try OutputFile(creating: staged.path + "/" + name)
      try file.write(bytes)
      try file.finish()
    }
  }

  /// The config of the source, with the type that the weights have now.
  private func configuration<Scalar: ArithmeticScalar>(of model: Model, as scalar: Scalar.Type) -> JSONValue {
    let type = JSONValue.string(Scalar.elementType == .f64 ? "float64" : "float32")
    return .object(
      (model.configuration?.members ?? []).map {
        ["torch_dtype", "dtype"].contains($0.key) ? .init(key: $0.key, value: type) : $0
      })
  }

  private func writeWeights<Scalar: ArithmeticScalar>(
    _ run: TrainingRun<Scalar>, of model: Model, to path: String, marksNorms: Bool
  ) throws(Refusal) {
    let (layout, sizes, type) = (model.layout, model.hyperparameters, Scalar.elementType)
    var tensors: [(info: TensorInfo, value: Parameter)] = []
    let network = run.parameters.network
    for (slot, value) in layout.tensors(of: network, sizes: sizes) where !(slot.isOmittedWhereTied && network.isTied) {
      let shape = layout.storedShape(of: slot, in: sizes)
      tensors.append((TensorInfo(name: layout.fullName(of: slot), type: type, shape: shape), value))
    }
    if marksNorms {
      for (_, norm) in network.norms {
        func add(_ suffix: String, _ type: ElementType, _ shape: [Int], _ value: Double) {
          tensors.append(
            (
              TensorInfo(name: "\(norm.name).\(suffix)", type: type, shape: shape),
              .constant(value, shape: shape.isEmpty ? [1] : shape)
            ))
        }
        let deviation = run.deviations[norm.name] ?? 1
        let flags = run.flags(of: norm.name)
        add("average_std_buffer", type, norm.gain.shape, deviation)
        add("bos_std_buffer", type, norm.gain.shape, deviation)
        add("is_fake", .bool, [], flags.isFixed ? 1 : 0)
        add("attn_v_is_fake", .bool, [], flags.isValueFixed ? 1 : 0)
        add("bos_special_treatment", .bool, [], 0)
      }
    }
    let values = Dictionary(uniqueKeysWithValues: tensors.map { ($0.info.name, $0.value) })
    let writer = try TensorWriter(safetensors: path, tensors: tensors.map(\.info), metadata: ["format": "pt"])
    for info in writer.order {
      guard let value = values[info.name] else { preconditionFailure("the writer asks for \(info.name)") }
      if info.type == .bool {
        try writer.append([value.constantValue == 1 ? 1 : 0])
      } else {
        try Self.append(value, as: Scalar.self, to: writer)
      }
    }
    try writer.finish()
  }

  private static func append<Scalar: ArithmeticScalar>(
    _ value: Parameter, as scalar: Scalar.Type, to writer: TensorWriter
  ) throws(Refusal) {
    try unsafe ParameterReader(value).forEachBlock { (_, block) throws(Refusal) in
      let line = unsafe [Scalar](unsafeUninitializedCapacity: block.count) { buffer, count in
        for index in 0..<block.count { unsafe buffer[index] = unsafe Scalar(block[index]) }
        count = block.count
      }
      try append(line, to: writer)
    }
  }

  private static func append<Scalar>(_ numbers: [Scalar], to writer: TensorWriter) throws(Refusal) {
    let result: Result<Void, Refusal> = unsafe numbers.withUnsafeBytes { bytes in
      do throws(Refusal) { return unsafe .success(try writer.append(bytes)) } catch { return .failure(error) }
    }
    try result.get()
  }

  private static let moments = ["first", "second"]

  /// Writes the moments, which other processes hold a share of.
  ///
  /// - Parameter path: nil in processes that only send theirs.
  private func writeState<Scalar: ArithmeticScalar>(_ run: TrainingRun<Scalar>, to path: String?) throws(Refusal) {
    let entries = run.parameters.entries
    var infos: [TensorInfo] = []
    for moment in Self.moments {
      infos += entries.map { TensorInfo(name: "\(moment).\($0.name)", type: Scalar.elementType, shape: $0.shape) }
    }
    let ranges = Dictionary(uniqueKeysWithValues: entries.map { ($0.name, $0.range) })
    // As the writer orders tensors of one type.
    let tensors = infos.sorted { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }
    let writer = try run.processes.together { () throws(Refusal) in
      try path.map { (path) throws(Refusal) in try TensorWriter(safetensors: path, tensors: tensors) }
    }
    precondition(writer.map { $0.order.map(\.name) == tensors.map(\.name) } ?? true, "the writer has another order")
    // A process that cannot write goes on to receive what the others send, and says so at the end.
    var failure: Refusal?
    for info in tensors {
      let isFirst = info.name.hasPrefix(Self.moments[0] + ".")
      let name = String(info.name.dropFirst((isFirst ? Self.moments[0] : Self.moments[1]).count + 1))
      guard let range = ranges[name] else { preconditionFailure("there is no parameter \(info.name)") }
      unsafe try run.forEachMoment(in: range, isFirst: isFirst) { numbers in
        guard let writer, failure == nil else { return }
        do throws(Refusal) { try unsafe writer.append(UnsafeRawBufferPointer(numbers)) } catch { failure = error }
      }
    }
    try run.processes.together { () throws(Refusal) in
      if let failure { throw failure }
      try writer?.finish()
    }
  }

  // MARK: Reading

  /// Makes a run go on from what is stored.
  ///
  /// - Returns: what the run has recorded.
  /// - Throws: `.usage` where it belongs to a run that was told something else; `.malformed` where it is not whole.
  package func restore<Scalar: ArithmeticScalar>(
    _ run: TrainingRun<Scalar>, _ identity: Identity
  ) throws(Refusal) -> TrainingHistory {
    let file = path + "/" + Self.runName
    let json = try MappedFile(path: file).parse { (bytes) throws(Refusal) in try JSONValue(parsing: bytes, file: file) }
    guard let step = json["step"]?.count, let stored = json["recipe"], let tokens = json["tokens"]?.string,
      let precision = json["precision"]?.string, let deviations = json["deviations"]
    else {
      throw Refusal(.malformed, file: file, "is no state of a removal", advice: "remove '\(path)' and start again")
    }
    func other(_ subject: String, _ problem: String) -> Refusal {
      Refusal(
        .usage, file: file, subject: subject, problem,
        advice: "give what the run was started with, or remove '\(path)' and start again")
    }
    let recipe = try Recipe(stored, file: file)
    if recipe != identity.recipe { throw other("recipe", "the run that is to go on had another recipe") }
    if tokens != String(identity.tokens, radix: 16) {
      throw other("tokens", "the run that is to go on read other tokens")
    }
    if precision != identity.precision.rawValue {
      throw other("precision", "the run that is to go on computed in \(precision) precision")
    }
    // Runs that were saved before there were integers have no such key.
    if json["arithmetic"]?.string != identity.arithmetic {
      throw other(
        "arithmetic", "the run that is to go on computed in \(json["arithmetic"]?.string ?? "floating point")")
    }
    let history = try TrainingHistory(json, file: file)
    guard step <= recipe.steps, history.records.count == step else {
      throw Refusal(
        .malformed, file: file, "records \(history.records.count) steps of \(step)", advice: "start again")
    }
    let means = try DeviationSample.deviations(deviations, file: file)
    let model = try Model(opening: path)
    try run.parameters.copyValues(of: model.network, file: path)
    let state = path + "/" + Self.stateName
    let checkpoint = try Checkpoint(safetensors: state)
    let own = run.parameters.momentRange
    for (moment, target) in zip(Self.moments, [run.parameters.firstMoments, run.parameters.secondMoments]) {
      for entry in run.parameters.entries where entry.range.overlaps(own) {
        guard let tensor = checkpoint["\(moment).\(entry.name)"], tensor.shape == entry.shape,
          tensor.info.type == Scalar.elementType
        else {
          throw Refusal(
            .malformed, file: state, subject: "\(moment).\(entry.name)", "is missing or of another shape",
            advice: "remove '\(path)' and start again")
        }
        for (index, value) in zip(entry.range, tensor.decoded(as: Scalar.self)) where own.contains(index) {
          unsafe target.start[index - own.lowerBound] = value
        }
      }
    }
    try checkpoint.requireIntact()
    run.restore(step: step, deviations: means)
    return history
  }
}
