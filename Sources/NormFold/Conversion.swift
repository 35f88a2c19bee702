import FoundationEssentials
import Glibc
import Logging
import NormFoldArithmetic
import NormFoldFolding
import NormFoldFormats
import NormFoldNetworks
import NormFoldTargets
import NormFoldVerify

/// One conversion from end to end: read, fold, write beside the destination, verify there, and only then rename into
/// place.
///
///     var conversion = Conversion(source: "gpt2-lnfree", destination: "out", targets: ["llama.cpp"])
///     conversion.type = .q8_0
///     conversion.readingOptions.tokenizer = .directory("gpt2")
///     let report = try conversion.run()
///     print(report.published, report.failures)
public struct Conversion: Sendable, Encodable {
  private enum CodingKeys: CodingKey {
    case source, destination, targets, type, replacesDestination, allowsPartial, verifies, requiredNorms, normForm,
      rules
    case allowsApproximateActivation, className, readingOptions, probeOptions, workers, integers, otherIntegers,
      maximumShardByteCount
    case digest, onnxForm, onnxLength
  }

  /// A directory or file, as the user named it.
  public var source: String
  /// The directory that is to appear.
  public var destination: String
  /// Names of targets, out of ``knownTargets``. With more than one, each gets a directory of its name inside the destination.
  public var targets: [String]
  /// The type that matrices are stored in.
  public var type = ElementType.f32
  /// Is true if an existing destination may be replaced once everything holds.
  public var replacesDestination = false
  /// Is true if norms that are still computed may stay.
  public var allowsPartial = false
  /// Is true if the output is opened again and held against the source before it appears at the destination.
  public var verifies = true
  /// The paths of norms that must be folded, as a plan prints them: where one of them cannot be, the conversion is refused
  /// with its name.
  public var requiredNorms: [String] = []
  /// The form that norms get whose deviation is still computed; nil to refuse or, where they may stay, to leave them.
  public var normForm: NormForm?
  /// The rules that are applied to the weights besides folding norms.
  public var rules: [FoldingRule] = []
  /// Is true if a runtime without the network's activation may compute a close one instead.
  public var allowsApproximateActivation = false
  /// The class to write for, where a target has several that hold the network; nil for the first of them.
  public var className: String?

  /// The kind of graph that is written for onnxruntime.
  public var onnxForm = ONNXForm.cached
  /// The number of tokens that a graph of fixed length takes; nil for the model's context.
  public var onnxLength: Int?
  /// The number of bytes of tensors that a file for transformers holds before another one is begun, with an index
  /// beside them.
  public var maximumShardByteCount = 5_000_000_000
  public var readingOptions = ReadingOptions()
  public var probeOptions = ProbeOptions()
  public var workers = Workers.all
  /// The algorithm of the digests by which the files of the source and of the output are described.
  public var digest = DigestAlgorithm.tree
  /// Integers that the source and what was made of it are computed in besides, to see what these do to them.
  public var integers: IntegerArithmetic?
  /// Other integers beside those: what the width does.
  public var otherIntegers: [IntegerArithmetic] = []
  /// Folds the norms: tests break the result to see that the verification notices.
  package var fold: @Sendable (Network, FoldingPlan.Options) throws(Refusal) -> FoldingPlan = {
    (network, options) throws(Refusal) in try FoldingPlan(folding: network, options: options)
  }
  /// Asks a target for its output: tests break the answer.
  package var output: @Sendable (any Target, Network, TargetSource, TargetOptions) throws(Refusal) -> TargetOutput = {
    (target, network, source, options) throws(Refusal) in
    try target.output(of: network, from: source, options: options)
  }

  /// The names of all targets.
  public static let knownTargets = Targets.all.map(\.name)

  public init(source: String, destination: String, targets: [String]) {
    self.source = source
    self.destination = destination
    self.targets = targets
  }

  /// Returns the number of tasks that a checkpoint has norms for; nil for a checkpoint that has the usual norms.
  ///
  /// - Throws: what opening it throws.
  public static func taskCount(of source: String) throws(Refusal) -> Int? {
    try CheckpointLocation(path: source).open().taskCount
  }

  private struct Prepared {
    let target: any Target
    let plan: FoldingPlan
    let output: TargetOutput
    let directory: String
  }

  /// Runs the conversion.
  ///
  /// - Parameters:
  ///   - logger: is told what is noticed on the way; by default nobody is.
  ///   - progress: is called from any thread.
  /// - Returns: the report. Where a claim does not hold, nothing was published, and the report says which.
  /// - Throws: a refusal for everything that keeps a verdict from being reached.
  public func run(
    logger: Logger = Logger(label: "NormFold") { _ in SwiftLogNoOpLogHandler() },
    progress: ConversionProgress.Handler = { _ in }
  ) throws(Refusal) -> ConversionReport {
    let start = ContinuousClock.now
    let chosen = try chosenTargets()
    try refuseFileName()
    let place = try Destination(directory: destination, replacing: replacesDestination)
    for name in StagedOutput.removeStale(beside: place) {
      logger.notice("removed \(name), which a conversion that was killed had left behind")
    }
    var options = readingOptions
    // A compressed input is expanded where there is room for the output anyway.
    options.temporaryDirectory = options.temporaryDirectory ?? place.existingParent
    let model = try Model(opening: source, options: options).shortened(to: onnxLength)
    try place.refuse(overlapping: Set(model.checkpoint.files.map(\.identity)))
    return try model.checkpoint.whileIntact { () throws(Refusal) in
      try convert(model, to: place, chosen: chosen, start: start, logger: logger, progress: progress)
    }
  }

  private func convert(
    _ model: Model, to place: Destination, chosen: [any Target], start: ContinuousClock.Instant, logger: Logger,
    progress: ConversionProgress.Handler
  ) throws(Refusal) -> ConversionReport {
    logger.info("\(source): \(model.dialect.displayName), \(model.network.norms.count) norms")

    // A text that cannot be read is no reason to write first.
    let probes = verifies ? try probeOptions.probes(for: model, at: source) : ProbeSet(precise: [])
    let staged = try StagedOutput(for: place)
    var prepared: [Prepared] = []
    let targetSource = try TargetSource(model)
    for arithmetic in integers.map({ [$0] + otherIntegers }) ?? [] { try arithmetic.requireForm(of: model.network) }
    for target in chosen {
      let (plan, output) = try planned(target, of: model, from: targetSource)
      let directory = chosen.count == 1 ? staged.path : staged.path + "/" + target.name
      prepared.append(Prepared(target: target, plan: plan, output: output, directory: directory))
    }
    try staged.requireSpace(prepared.reduce(0) { $0 + $1.output.byteCount })

    let checks = model.checkpoint.integrityChecks
    try workers.forEach(checks.count) { (index) throws(Refusal) in try checks[index].verify() }
    let (sourceFiles, pieces, syncing) = try write(prepared, of: model, progress: progress)
    let items = prepared
    let (checked, files) = try workers.both { () throws(Refusal) -> (Verification, tensorCounts: [Int])? in
      guard verifies else { return nil }
      var tensorCounts: [Int] = []
      for (item, pieces) in zip(items, pieces) {
        tensorCounts.append(try verifyFile(item, pieces: pieces))
      }
      return (try verify(items, against: model, on: probes, progress: progress), tensorCounts)
    } _: { () throws(Refusal) in
      var files: [[ConversionReport.Output.File]] = []
      for item in items {
        files.append(
          try ConversionReport.SourceFile.all(try self.files(of: item), by: digest, workers: workers).map {
            ConversionReport.Output.File($0, in: item.directory)
          })
      }
      return files
    }
    for files in syncing { try files.wait() }
    var drifts: [IntegerDrift] = []
    for arithmetic in integers.map({ [$0] + otherIntegers }) ?? [] {
      drifts.append(try integerDrift(in: arithmetic, of: model, folded: prepared[0].plan.folded))
    }
    try model.checkpoint.requireIntact()
    var result = ConversionReport(
      tool: Tool.nameAndVersion, source: source, sourceFiles: sourceFiles, dialect: model.dialect.displayName,
      changesFunction: model.changesFunction, sites: Inspection.Site.all(of: model.network),
      outputs: prepared.indices.map {
        report(
          on: prepared[$0], source: targetSource, files: files[$0], verifiedTensorCount: checked?.tensorCounts[$0],
          isAlone: chosen.count == 1)
      },
      verification: checked?.0, integers: drifts.first, otherIntegers: Array(drifts.dropFirst()),
      warnings: model.warnings, published: false, seconds: 0)
    if let verification = result.verification {
      result.warnings += verification.targets.compactMap {
        $0.judgement.noteOnRounding(of: $0.target, largestLogit: verification.largestLogit)
      }
    }
    if result.holds {
      for (index, item) in prepared.enumerated() {
        let card = ModelCard(
          of: result.outputs[index], in: result, sourceName: HubCache.name(ofModelIn: model.directory))
        result.outputs[index].files.append(try write(card, into: item.directory))
      }
      result.warnings += try staged.publish().map { Message($0) }
      result.published = true
    }
    result.seconds = (ContinuousClock.now - start) / .seconds(1)
    return result
  }

  /// Writes everything, and says in each file what the source was, whose digest is computed meanwhile.
  ///
  /// - Returns: the source's files, by output the pieces of its tensors, and what waits for the device.
  private func write(
    _ prepared: [Prepared], of model: Model, progress: ConversionProgress.Handler
  ) throws(Refusal) -> ([ConversionReport.SourceFile], pieces: [[String: [TensorPiece]]], syncing: [Syncing]) {
    let placeholder = model.checkpoint.files.map { _ in digest.placeholder }.joined(separator: " ")
    let (written, sourceFiles) = try workers.both {
      () throws(Refusal) -> [(writer: TensorWriter, pieces: [String: [TensorPiece]])] in
      var written: [(writer: TensorWriter, pieces: [String: [TensorPiece]])] = []
      for item in prepared {
        if prepared.count > 1 { try createDirectory(item.directory) }
        let writer = try item.output.writer(
          item.directory + "/" + item.output.fileName, provenance(of: model, plan: item.plan, digests: placeholder))
        written.append((writer, try write(item, to: writer, progress: progress)))
      }
      return written
    } _: { () throws(Refusal) in
      try ConversionReport.SourceFile.all(model.checkpoint.files, by: digest, workers: workers)
    }
    var syncing: [Syncing] = []
    for (item, file) in zip(prepared, written) {
      try file.writer.amend(placeholder, by: sourceFiles.map(\.digest).joined(separator: " "))
      syncing.append(try file.writer.complete())
      try writeSideFiles(of: item)
    }
    return (sourceFiles, written.map(\.pieces), syncing)
  }

  private func write(_ card: ModelCard, into directory: String) throws(Refusal) -> ConversionReport.Output.File {
    let bytes = Array(card.text.utf8)
    let file = try OutputFile(creating: directory + "/" + ModelCard.fileName)
    try file.write(bytes)
    try file.finish()
    let written = try MappedFile(path: directory + "/" + ModelCard.fileName)
    return .init(try .init(written, by: digest, workers: workers), in: directory)
  }

  /// Returns what one target gets: the fold, and what is written of it. No number is computed.
  func planned(
    _ target: any Target, of model: Model, from source: TargetSource
  ) throws(Refusal) -> (FoldingPlan, TargetOutput) {
    let options = TargetOptions(
      type: type, allowsApproximateActivation: allowsApproximateActivation, className: className,
      maximumShardByteCount: maximumShardByteCount, onnxForm: onnxForm)
    let plan = try fold(
      model.network,
      .init(
        keptNorms: target.keptNorms(of: source, options: options),
        tiedNorms: target.tiedNorms(of: source, options: options),
        requiredNorms: model.network.requireNorms(at: requiredNorms), allowsPartial: allowsPartial, rules: rules,
        normForm: normForm, networkName: model.architecture.name))
    return (plan, try output(target, plan.folded, source, options))
  }

  /// - Throws: `.usage` for a destination that is named like a file, where a directory would appear: other converters write
  /// the file.
  private func refuseFileName() throws(Refusal) {
    let ends = [".gguf", ".safetensors", ".onnx", ".bin", ".pt", ".pth"]
    guard let end = ends.first(where: destination.hasSuffix) else { return }
    throw Refusal(
      .usage, file: destination,
      "is named like a file, and a directory would appear, with the weights and what belongs to them",
      advice: "name a directory, as in '\(destination.dropLast(end.count))'")
  }

  private func verify(
    _ prepared: [Prepared], against model: Model, on probes: ProbeSet, progress: ConversionProgress.Handler
  ) throws(Refusal) -> Verification {
    var written: [Judgement.Candidate] = []
    for item in prepared {
      written.append(
        .init(
          name: item.target.name, exact: item.plan.folded, model: try item.target.written(in: item.directory),
          type: type, approximation: item.output.approximation, isUpToShift: item.plan.shiftsLogits))
    }
    return try Verification(
      source: model.network, literal: model.literalNetwork, written: written, probes: probes, workers: workers
    ) { done, total in
      progress(ConversionProgress(stage: .verifying, subject: "logits", done: done, total: total, unit: "steps"))
    }
  }

  /// The source, the folded network, and that one with a centred stream where it is not: folding changes the ranges of
  /// weights, and so what integers cost.
  private func integerDrift(
    in arithmetic: IntegerArithmetic, of model: Model, folded: Network
  ) throws(Refusal) -> IntegerDrift {
    var networks = [("source", model.network), ("folded", folded)]
    if !rules.contains(.centerWritingWeights), let centred = try? folded.applying(.centerWritingWeights) {
      networks.append(("folded and centred", centred))
    }
    return try IntegerDrift(
      of: networks, in: arithmetic, on: try probeOptions.probes(for: model, at: source).precise, workers: workers)
  }

  /// Returns what made the output, for its metadata.
  private func provenance(
    of model: Model, plan: FoldingPlan, digests: String
  ) -> [String: String] {
    var metadata = [
      "normfold.version": Tool.version,
      "normfold.source": model.checkpoint.files.map { URL(filePath: $0.path).lastPathComponent }.joined(separator: " "),
      "normfold.source.digest": digests,
      "normfold.dialect": model.dialect.displayName,
      "normfold.folded": plan.steps.map(\.norm).joined(separator: " "),
    ]
    if let form = plan.normForm { metadata["normfold.to-norm"] = form.rawValue }
    if !plan.rules.isEmpty { metadata["normfold.rules"] = plan.rules.map(\.rawValue).joined(separator: " ") }
    return metadata
  }

  /// Not what it is in: where that is gone, a signal has removed it, and it must not come back.
  private func createDirectory(_ path: String) throws(Refusal) {
    guard unsafe mkdir(path, 0o777) == 0 else {
      throw Refusal(.output, file: path, "cannot be created: \(String(errno: errno))")
    }
  }

  private func write(
    _ item: Prepared, to writer: TensorWriter, progress: ConversionProgress.Handler
  ) throws(Refusal) -> [String: [TensorPiece]] {
    let total = item.output.byteCount
    return try TensorStream(item.output, file: item.output.fileName, workers: workers).write(
      to: writer, takesFingerprints: verifies
    ) { done in
      progress(ConversionProgress(stage: .writing, subject: item.target.name, done: done, total: total, unit: "bytes"))
    }
  }

  private func writeSideFiles(of item: Prepared) throws(Refusal) {
    for side in item.output.sideFiles {
      if let slash = side.name.lastIndex(of: "/") { try createDirectory(item.directory + "/" + side.name[..<slash]) }
      let file = try OutputFile(creating: item.directory + "/" + side.name)
      try file.write(side.bytes)
      try file.finish()
    }
  }

  /// Returns everything that was written, whoever wrote it, the tensors first.
  private func files(of item: Prepared) throws(Refusal) -> [MappedFile] {
    let names: [String]
    do {
      names = try FileManager.default.subpathsOfDirectory(atPath: item.directory)
    } catch {
      throw Refusal(.output, file: item.directory, "cannot be listed")
    }
    let tensors = item.output.tensorFileNames
    let folders = Set(
      item.output.sideFiles.compactMap { side in side.name.lastIndex(of: "/").map { side.name[..<$0] } })
    let sides = names.filter { !tensors.contains($0) && !folders.contains($0[...]) }.sorted()
    var files: [MappedFile] = []
    for name in tensors + sides { files.append(try MappedFile(path: item.directory + "/" + name)) }
    return files
  }

  /// Claim 2: the file, opened again by the reader, holds every tensor that was meant, bit for bit, and no other.
  /// - Returns: how many.
  private func verifyFile(_ item: Prepared, pieces: [String: [TensorPiece]]) throws(Refusal) -> Int {
    @Sendable func mismatch(_ name: String) -> Refusal {
      Refusal(
        .mismatch, file: item.output.fileName, subject: name,
        "the file that was just written does not hold what was meant",
        advice: "another program changed it, or the disk fails; nothing was published")
    }
    let tensors = Dictionary(try item.output.readTensors(item.directory).map { ($0.name, $0) }) { first, _ in first }
    var checks: [(tensor: Tensor, piece: TensorPiece)] = []
    for parameter in item.output.parameters {
      let info = parameter.info
      guard let tensor = tensors[info.name], tensor.info == info, let pieces = pieces[info.name],
        pieces.reduce(0, { $0 + $1.bytes.count }) == info.byteCount
      else { throw mismatch(info.name) }
      checks += pieces.map { (tensor, $0) }
    }
    let all = checks
    try workers.forEach(all.count) { (index) throws(Refusal) in
      let (tensor, piece) = all[index]
      guard Fingerprint(of: tensor, part: piece.bytes) == piece.fingerprint else { throw mismatch(tensor.info.name) }
    }
    guard tensors.count == item.output.parameters.count else {
      throw Refusal(
        .mismatch, file: item.output.fileName,
        "holds \(tensors.count) tensors, expected \(item.output.parameters.count)")
    }
    return tensors.count
  }

  private func report(
    on item: Prepared, source: TargetSource, files: [ConversionReport.Output.File], verifiedTensorCount: Int?,
    isAlone: Bool
  ) -> ConversionReport.Output {
    let bare = item.plan.folded.withoutNorms()
    return ConversionReport.Output(
      target: item.target.name, directory: isAlone ? destination : destination + "/" + item.target.name,
      files: files, byteCount: item.output.byteCount,
      tensorCount: item.output.parameters.count, type: type.displayName,
      foldedNormCount: item.plan.steps.count { $0.isWhole }, keptNormCount: item.plan.kept.count,
      gainedNormCount: Set(item.plan.folded.norms.filter { !$0.norm.isBare }.map(\.norm.name)).count,
      steps: item.plan.steps.map(ConversionPlan.Step.init), kept: item.plan.kept.map(ConversionPlan.Kept.init),
      hasNearIdentities: item.target.leavesNorms(bare, from: source), rules: item.plan.rules,
      normForm: item.plan.normForm,
      isNormFree: !item.target.leavesNorms(item.plan.folded, from: source),
      hasComputedNorms: item.plan.folded.norms.contains { !$0.norm.isFixed },
      notes: item.plan.notesOnScales + item.plan.rules.map { "\($0.rawValue): \($0.summary)" }
        + item.plan.notesOnKept + (item.plan.normForm.map { ["to-norm \($0.rawValue): \($0.summary)"] } ?? [])
        + item.output.notes,
      verifiedTensorCount: verifiedTensorCount)
  }
}

extension Norm {
  /// Is true if nothing but the division is left.
  fileprivate var isBare: Bool { gain.constantValue == 1 && bias == nil }
}

extension FoldingPlan {
  /// The notes on which norms keep gain and bias because of what reads them: one note for the same norm of all blocks.
  fileprivate var notesOnKept: [Message] {
    struct Group {
      let norm: Kept
      var count = 1
    }
    var groups: [(key: String, group: Group)] = []
    for norm in kept {
      switch norm.reason {
      case .reader, .output, .tie: break
      case .isComputed, .target: continue
      }
      let key = norm.norm.withoutBlock(norm.path.block)
      if let index = groups.firstIndex(where: { $0.key == key }) {
        groups[index].group.count += 1
      } else {
        groups.append((key, Group(norm: norm)))
      }
    }
    return groups.map { key, group in
      let (norm, count) = (group.norm, group.count)
      let own = folded[norm: norm.path]
      let stays =
        own?.bias != nil ? "keeps its gain and bias" : own?.gain.constantValue == 1 ? "stays" : "keeps its gain"
      guard count > 1 else { return "\(norm.norm) \(stays): \(norm.reason)" }
      let reason = norm.reason.description.withoutBlock(norm.path.block)
      return "\(key) \(stays) in \(count) blocks: \(reason)"
    }
  }

  /// The notes on what became of the scales of norms and branches.
  fileprivate var notesOnScales: [Message] {
    [
      scaledNorms.isEmpty ? nil : "the scales of \(scaledNorms.count) norms are in their gains now: γ' = γ · s",
      scaledMaps.isEmpty
        ? nil : "the scales of \(scaledMaps.count) branches are in their output maps now: W' = s · W",
    ].compactMap { $0 }
  }
}

extension String {
  /// A name with a star for the number of its block: `model.layers.*.self_attn.q_norm`.
  fileprivate func withoutBlock(_ block: Int?) -> String {
    guard let block else { return self }
    return split(separator: ".", omittingEmptySubsequences: false).map { $0 == String(block) ? "*" : $0 }
      .joined(separator: ".")
  }
}
