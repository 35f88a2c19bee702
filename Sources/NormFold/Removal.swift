import FoundationEssentials
import Glibc
import Logging
import NormFoldArithmetic
import NormFoldFormats
import NormFoldMeasurement
import NormFoldNetworks
import NormFoldProcesses
import NormFoldTargets
import NormFoldTraining

/// Takes the norms out of a network by fine-tuning: one after another is fixed at a deviation that was measured while it was
/// still computed, and the training goes on until the network has got used to it (arXiv 2409.13710, 2507.02559). At the end
/// the norms are folded, and the result is verified and written like any conversion.
///
///     var removal = Removal(source: "gpt2", destination: "lnfree", targets: ["transformers"])
///     removal.text = .text(files: ["book.txt"])
///     removal.recipe = try Recipe(named: "gpt2-small-aux")
///     let report = try removal.run { print($0.step, $0.loss, $0.fixed) }
///     print(report.conversion.published)
public struct Removal: Sendable, Encodable {
  private enum CodingKeys: CodingKey {
    case source, destination, targets, text, recipe, precision, integers, removesNorms, sites, resumes, savesEvery, log
    case validationLog, recomputesBlocks, sharesOptimizer, replacesDestination, readingOptions, probeOptions, workers
  }

  /// A directory or file, as the user named it.
  public var source: String
  /// The directory that is to appear.
  public var destination: String
  /// Names of targets, as of ``Conversion/targets``.
  public var targets: [String]
  public var text = TextSource.ids([])
  public var recipe = Recipe()
  /// The precision of the parameters, their gradients and the optimiser's moments.
  public var precision = Precision.single
  /// The integers that linear maps, embeddings and norms are computed in, forward and back; nil for floating point. Parameters,
  /// moments and everything else stay in ``precision``.
  public var integers: IntegerArithmetic?
  /// Is false for the control run: the same fine-tuning with every norm left alone and without the auxiliary loss.
  public var removesNorms = true
  /// The kinds of norms that are fixed, as recipes spell them (`ln_2`); empty for all that the recipe's schedule has. The
  /// others stay, as in half a removal.
  public var sites: [String] = []
  /// Is true if an unfinished run at ``checkpoint`` goes on. Where there is none, the run starts from the beginning.
  public var resumes = false
  /// Steps from one checkpoint to the next; the last step has one in any case.
  public var savesEvery = 100
  /// The file that gets one JSON object for each step; nil for none.
  public var log: String?
  /// The file that gets one JSON object for each measurement on text that is held out; nil for none.
  public var validationLog: String?
  /// Is true if only the residual stream between blocks is kept for the way back, and every block runs twice.
  public var recomputesBlocks = false
  /// Is true if each of several processes keeps its share of the optimiser's moments only. The result is the same.
  public var sharesOptimizer = false
  /// Asked after each step: if true, the run is saved and ends with a refusal of the category `interrupted`.
  public var stops: @Sendable () -> Bool = { false }
  public var replacesDestination = false
  public var readingOptions = ReadingOptions()
  public var probeOptions = ProbeOptions()
  public var workers = Workers.all
  /// Those that train together, each of which has been given the same settings.
  package var processes: any ProcessGroup = SingleProcess()

  public init(source: String, destination: String, targets: [String]) {
    self.source = source
    self.destination = destination
    self.targets = targets
  }

  /// The path of the training checkpoint in which the run is saved, in the form of FakeLayerNorm. The checkpoint stays
  /// there after the run.
  public var checkpoint: String { Self.trimmed(destination) + ".removal" }

  private static func trimmed(_ path: String) -> String {
    var path = Substring(path)
    while path.utf8.count > 1, path.utf8.last == UInt8(ascii: "/") { path.removeLast() }
    return String(path)
  }

  /// The recipe that is followed: without a schedule and the auxiliary loss for a control run.
  func followedRecipe() throws(Refusal) -> Recipe {
    var recipe = recipe
    if !removesNorms { (recipe.schedule, recipe.auxiliaryWeight) = (nil, 0) }
    if !sites.isEmpty { try recipe.keepSwitches(of: sites) }
    return recipe
  }

  private var conversion: Conversion {
    var conversion = Conversion(source: checkpoint, destination: destination, targets: targets)
    conversion.replacesDestination = replacesDestination
    // A schedule that leaves a kind out is half a removal.
    let kindCount = removesNorms ? recipe.schedule?.starts.count ?? 0 : 0
    conversion.allowsPartial = !sites.isEmpty || kindCount < Schedule.Kind.allCases.count
    conversion.probeOptions = probeOptions
    conversion.workers = workers
    return conversion
  }

  /// Runs the removal, and converts its result.
  ///
  /// - Parameters:
  ///   - logger: is told what is noticed on the way; by default nobody is.
  ///   - step: is called after each step.
  ///   - progress: is called from any thread while the result is converted.
  /// - Throws: a refusal for everything that keeps the run from its end. What was saved before stays.
  public func run(
    logger: Logger = Logger(label: "NormFold") { _ in SwiftLogNoOpLogHandler() },
    step: (TrainingRecord) -> Void = { _ in }, progress: ConversionProgress.Handler = { _ in }
  ) throws(Refusal) -> RemovalReport {
    guard let report = try runTogether(logger: logger, step: step, progress: progress) else {
      preconditionFailure("process 0 has no report")
    }
    return report
  }

  /// Runs the removal as one of ``processes``.
  ///
  /// - Returns: nil in all processes but number 0, which converts the result and reports.
  package func runTogether(
    logger: Logger, step: (TrainingRecord) -> Void, progress: ConversionProgress.Handler
  ) throws(Refusal) -> RemovalReport? {
    let start = ContinuousClock.now
    guard removesNorms == false || recipe.schedule?.starts.isEmpty == false else {
      throw Refusal(
        .usage, subject: "\(.recipe)", "has no schedule, so that no norm would be removed",
        advice: "give it one, or ask for the control run")
    }
    guard recipe.sequencesPerStep > 0, savesEvery > 0 else {
      throw Refusal(.usage, subject: "\(.recipe)", "expected one sequence a step or more")
    }
    let stored = TrainingCheckpoint(at: checkpoint)
    let model = try processes.together { () throws(Refusal) in try openedSource(before: stored) }
    let (history, deviations): (TrainingHistory, [String: Double])
    switch precision {
    case .single: (history, deviations) = try train(model, as: Float.self, in: stored, logger: logger, step: step)
    case .double: (history, deviations) = try train(model, as: Double.self, in: stored, logger: logger, step: step)
    }
    let seconds = (ContinuousClock.now - start) / .seconds(1)
    guard processes.rank == 0 else {
      try processes.wait()
      return nil
    }
    let converted: Result<ConversionReport, Refusal>
    do throws(Refusal) {
      converted = .success(try conversion.run(logger: logger, progress: progress))
    } catch {
      converted = .failure(error)
    }
    try processes.wait()
    return RemovalReport(
      tool: Tool.nameAndVersion, source: source, checkpoint: checkpoint, removesNorms: removesNorms, integers: integers,
      parameterCount: model.network.parameterCount, tokenCount: history.records.count * recipe.tokensPerStep,
      records: history.records, validations: history.validations, deviationSamples: history.samples,
      deviations: deviations, trainingSeconds: seconds,
      conversion: try converted.get())
  }

  /// Opens the source, and finds out all that can be known before the work.
  private func openedSource(before stored: TrainingCheckpoint) throws(Refusal) -> Model {
    _ = try conversion.chosenTargets()
    _ = try Destination(directory: destination, replacing: replacesDestination)
    let model = try Model(opening: source, options: readingOptions)
    try refuse(model)
    if FileIdentity(ofItemAt: checkpoint) != nil, !(resumes && stored.exists) {
      throw Refusal(
        .output, file: checkpoint, stored.exists ? "is an earlier run" : "exists already",
        advice: stored.exists
          ? "let it go on with \(.resumes), or remove it" : "choose another destination, or remove it")
    }
    try Destination(directory: checkpoint, replacing: true).refuse(
      overlapping: Set(model.checkpoint.files.map(\.identity)))
    return model
  }

  private func refuse(_ model: Model) throws(Refusal) {
    guard model.configuration != nil else {
      throw Refusal(
        .unsupported, file: source, "has no config.json, which a training checkpoint needs",
        advice: "start from the checkpoint in the form of transformers")
    }
  }

  private func train<Scalar: ArithmeticScalar>(
    _ model: Model, as scalar: Scalar.Type, in stored: TrainingCheckpoint, logger: Logger,
    step: (TrainingRecord) -> Void
  ) throws(Refusal) -> (history: TrainingHistory, deviations: [String: Double]) {
    let recipe = try followedRecipe()
    let (tokens, run, beside) = try processes.together { () throws(Refusal) in
      let tokens = try trainingTokens(for: model)
      let run = try TrainingRun<Scalar>(
        model.network, namesAfter: model.layout.prefix, recipe: recipe, tokens: tokens, workers: workers,
        recomputesBlocks: recomputesBlocks, processes: processes, sharesMoments: sharesOptimizer, integers: integers)
      try model.checkpoint.requireIntact()
      return (tokens, run, try TargetSource(model).tokenizerFiles())
    }
    let identity = TrainingCheckpoint.Identity(
      recipe: recipe, tokens: tokens.fingerprint, precision: precision, arithmetic: integers?.name)
    var history = TrainingHistory()
    if try processes.any(stored.exists) {
      history = try processes.together { () throws(Refusal) in try stored.restore(run, identity) }
      logger.notice("going on at step \(run.step) of \(recipe.steps)")
    }
    try run.requireSameParameters()
    if recipe.microBatches % processes.count != 0 {
      logger.notice(
        "\(recipe.microBatches) micro-batches are no multiple of \(processes.count) processes: some wait in every step")
    }
    let needed = recipe.steps * recipe.sequencesPerStep
    let available = tokens.count / recipe.context
    if needed > available {
      let times = (10 * Double(needed) / Double(available)).rounded() / 10
      logger.notice(
        "\(tokens.source) has \(available) sequences, and the run reads \(needed): each is read \(times) times")
    }
    let (log, validationLog) = try processes.together { () throws(Refusal) -> (TrainingLog?, TrainingLog?) in
      guard processes.rank == 0 else { return (nil, nil) }
      return (
        try TrainingLog(at: self.log, beginningWith: history.records.map(\.line)),
        try TrainingLog(at: self.validationLog, beginningWith: history.validations.map(\.line))
      )
    }
    func validate() throws(Refusal) {
      guard let loss = try run.heldOutLoss() else { return }
      let validation = history.append(loss: loss, behind: run.step)
      try processes.together { () throws(Refusal) in try validationLog?.append(validation.line) }
      logger.notice("held-out loss behind \(run.step) steps: \(Quantity.fixed(loss, digits: 4))")
    }
    if run.step == 0 { try validate() }
    var watch = LossWatch(recipe.abort, history.records)
    while run.step < recipe.steps {
      let record = try run.advance()
      history.append(record, deviations: run.deviations, of: recipe.steps)
      try processes.together { () throws(Refusal) in try log?.append(record.line) }
      step(record)
      try watch.look(at: record, lastSwitch: run.lastSwitch)
      let isLast = run.step == recipe.steps
      if let validation = recipe.validation, isLast || run.step % validation.every == 0 { try validate() }
      let isStopped = try processes.any(stops())
      if run.step % savesEvery == 0 || isLast || isStopped {
        try run.requireSameParameters()
        try processes.together { () throws(Refusal) in try tokens.requireIntact() }
        try stored.write(run, of: model, identity, history: history, beside: beside, marksNorms: removesNorms)
      }
      if isStopped, !isLast {
        throw Refusal(
          .interrupted, file: checkpoint, "was saved after step \(run.step) of \(recipe.steps), as was asked for",
          advice: "let it go on with \(.resumes)")
      }
    }
    return (history, run.deviations)
  }

  private func trainingTokens(for model: Model) throws(Refusal) -> TrainingTokens {
    if case .tokens(let path) = text, path.hasSuffix(".bin") { return try TrainingTokens(file: path) }
    return TrainingTokens(
      try text.tokens(limit: nil, for: model, at: source), source: text.files.joined(separator: ", "))
  }
}

extension Recipe {
  /// A recipe by the name under which it was published, or from a file.
  ///
  /// - Throws: a refusal where there is neither, or the file is no recipe.
  public init(named name: String) throws(Refusal) {
    if let recipe = Recipe.published(named: name) {
      self = recipe
      return
    }
    guard FileManager.default.fileExists(atPath: name) else {
      throw Refusal(
        .usage, subject: "\(.recipe)", "expected a name or a file, found neither a recipe nor a file '\(name)'",
        advice: "known are \(Recipe.published.map(\.name).joined(separator: ", "))")
    }
    try self.init(file: name)
  }
}

/// Ends a run whose loss does not come back.
private struct LossWatch {
  private let rule: Recipe.Abort?
  private var mean: Double?
  private var lostSteps = 0

  init(_ rule: Recipe.Abort?, _ records: [TrainingRecord]) {
    self.rule = rule
    for record in records { count(record) }
  }

  private mutating func count(_ record: TrainingRecord) {
    guard let rule else { return }
    guard let mean else {
      mean = record.loss
      return
    }
    if record.loss > mean + rule.above {
      lostSteps += 1
    } else {
      // Steps that are lost do not raise what they are held against.
      lostSteps = 0
      self.mean = 0.95 * mean + 0.05 * record.loss
    }
  }

  mutating func look(at record: TrainingRecord, lastSwitch: String?) throws(Refusal) {
    count(record)
    guard let rule, lostSteps >= rule.steps, let mean else { return }
    throw Refusal(
      .nonFinite, subject: "step \(record.step)",
      "the loss, \(Quantity.fixed(record.loss, digits: 3)), has been more than \(rule.above) above its mean of "
        + "\(Quantity.fixed(mean, digits: 3)) for \(rule.steps) steps",
      advice: Message(lastSwitch.map { "the last norm that was fixed is \($0); " } ?? "")
        + "start from an earlier checkpoint with a lower rate or larger gaps")
  }
}

/// A file with one JSON object for each step, or each measurement.
private final class TrainingLog {
  private let path: String
  private let descriptor: Int32

  /// - Parameter path: nil for no file.
  /// - Throws: `.output` where it cannot be written, or another file is there.
  init?(at path: String?, beginningWith lines: [String]) throws(Refusal) {
    guard let path else { return nil }
    self.path = path
    if let found = try? MappedFile(path: path), found.byteCount > 0 {
      let start = "{\"step\":"
      let isLog = found.withBytes { bytes in
        bytes.byteCount >= start.utf8.count && bytes.text(in: 0..<start.utf8.count) == start
      }
      guard isLog else {
        throw Refusal(
          .output, file: path, "expected a log to replace, found another file", advice: "choose another name")
      }
    }
    descriptor = unsafe open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o666)
    guard descriptor >= 0 else {
      throw Refusal(
        .output, file: path, "cannot be written: \(String(errno: errno))", advice: "choose another place")
    }
    for line in lines { try append(line) }
  }

  deinit { if descriptor >= 0 { close(descriptor) } }

  func append(_ line: String) throws(Refusal) {
    var remaining = ArraySlice((line + "\n").utf8)
    while !remaining.isEmpty {
      let count = unsafe remaining.withUnsafeBytes { unsafe Glibc.write(descriptor, $0.baseAddress, $0.count) }
      if count >= 0 {
        remaining = remaining.dropFirst(count)
      } else if errno != EINTR {
        throw Refusal(
          .output, file: path, "cannot be written: \(String(errno: errno))", advice: "free some space")
      }
    }
  }
}

extension Network {
  /// The count of the numbers that are trained.
  var parameterCount: Int {
    var count = 0
    for node in nodes {
      switch node.operation {
      case .embed(let table, _): count += table.elementCount
      case .linear(let map):
        if node.path != output || !isTied { count += map.weight.elementCount }
        count += map.bias?.elementCount ?? 0
      case .norm(let norm): count += norm.gain.elementCount + (norm.bias?.elementCount ?? 0)
      case .patches, .features, .rotate, .attend, .activate, .scale, .scaleFeatures, .add, .multiply, .select: continue
      }
    }
    return count
  }
}
