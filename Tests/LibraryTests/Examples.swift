import NormFold

// The examples of the documentation comments, so that they compile, with what they leave open as parameters. The test
// `everyPublicTypeHasAnExample` holds both against each other.

func calibrationExample(input: MeasurementInput) throws(Refusal) {
  var calibration = Calibration(input)
  calibration.estimator = .pooled
  print(try calibration.run().deviationFile)
}

func calibrationReportExample(report: CalibrationReport) {
  for site in report.sites { print(site.norm, site.usual.value, site.first.value) }
}

func checkpointListingExample(listing: CheckpointListing) {
  for tensor in listing.tensors { print(tensor.name, tensor.type, tensor.shape) }
}

func chunkingExample(input: inout MeasurementInput) {
  input.chunking.contextLength = 512
  input.chunking.stride = 256
}

func digestAlgorithmExample(conversion: inout Conversion) {
  conversion.digest = .sha256
}

func onnxFormExample(conversion: inout Conversion) {
  conversion.onnxForm = .plainEmbeddings
  conversion.onnxLength = 128
}

func integerArithmeticExample(evaluation: inout Evaluation) throws(Refusal) {
  evaluation.integers = try IntegerArithmetic(parsing: "int:8,12")
}

func integerDriftExample(report: VerificationRun.Report) {
  if let drift = report.integers {
    for network in drift.networks { print(network.name, network.difference.logits.meanDivergence) }
  }
}

func integerEvaluationExample(report: EvaluationReport) {
  if let integers = report.integers { print(integers.divergence.mean, integers.top1Agreement) }
}

func otherIntegersExample(report: EvaluationReport) {
  for other in report.otherIntegers { print(other.arithmetic.name, other.meanLoss, other.divergence.mean) }
}

func integerLabelsExample(report: LabelReport) {
  if let integers = report.integers { print(integers.divergence, integers.labelAgreement) }
}

func integerVectorsExample(report: SentenceReport) {
  if let integers = report.integers { print(integers.meanCosine, integers.nearestAgreement) }
}

func integerOverflowExample(integers: IntegerEvaluation) {
  for overflow in integers.overflows { print(overflow.path, overflow.count) }
}

func conversionExample() throws(Refusal) {
  var conversion = Conversion(source: "gpt2-lnfree", destination: "out", targets: ["llama.cpp"])
  conversion.type = .q8_0
  conversion.readingOptions.tokenizer = .directory("gpt2")
  let report = try conversion.run()
  print(report.published, report.failures)
}

func conversionPlanExample() throws(Refusal) {
  var conversion = Conversion(source: "gpt2-lnfree", destination: "out", targets: ["gpt2"])
  conversion.requiredNorms = ["blocks.0.mlp.norm"]
  print(try ConversionPlan(of: conversion))
}

func conversionProgressExample(conversion: Conversion) throws(Refusal) {
  let report = try conversion.run { print("\($0.stage.rawValue) \($0.subject): \($0.done) of \($0.total) \($0.unit)") }
  print(report.published)
}

func conversionReportExample(report: ConversionReport) {
  for output in report.outputs { print(output.directory, output.foldedNormCount, output.kept.map(\.path)) }
  print(report.published, report.failures)
}

func diagnosisExample(input: MeasurementInput) throws(Refusal) {
  let report = try Diagnosis(input).run()
  print(report.attention.sinkRate, report.residual.meanNorm.last ?? [])
}

func diagnosisReportExample(report: DiagnosisReport) {
  for (block, entropies) in report.attention.entropy.enumerated() { print(block, entropies) }
}

func elementTypeExample(conversion: inout Conversion) {
  conversion.type = .bf16
}

func evaluationExample(input: MeasurementInput) throws(Refusal) {
  var evaluation = Evaluation(input)
  evaluation.other = "out"
  let report = try evaluation.run()
  print(report.loss.perplexity, report.comparison?.meanDivergence ?? 0)
}

func labelEvaluationExample() throws(Refusal) {
  var evaluation = LabelEvaluation(model: "bert-sst2", labels: "test.tsv")
  evaluation.precision = .double
  let report = try evaluation.run()
  print(report.accuracy, report.loss)
}

func labelReportExample(report: LabelReport) {
  for label in report.byLabel { print(label.name, label.correctCount, "of", label.count) }
}

func sentenceVectorsExample() throws(Refusal) {
  let report = try SentenceVectors(model: "paraphrase-minilm-l3", sentences: "lines.txt").run()
  for text in report.texts { print(text.line, text.nearest ?? 0, text.cosine ?? 0) }
}

func sentenceReportExample(report: SentenceReport) {
  for text in report.texts { print(text.text, text.vector) }
}

func taskSelectionExample() throws(Refusal) {
  let selection = TaskSelection(model: "continual/model.pth", images: ["cat.ppm"])
  for image in try selection.run().images { print(image.name, image.task, image.similarities) }
}

func taskSelectionReportExample(report: TaskSelectionReport) {
  for image in report.images { print(image.name, image.task, image.similarities) }
}

func wordEvaluationExample() throws(Refusal) {
  var evaluation = WordEvaluation(model: "eye-tracking/model.pth", table: "words.csv")
  evaluation.precision = .double
  for target in try evaluation.run().targets { print(target.name, target.meanAbsoluteError, target.determination) }
}

func wordReportExample(report: WordReport) {
  for target in report.targets { print(target.name, target.meanAbsoluteError, target.determination) }
}

func evaluationReportExample(report: EvaluationReport) {
  print(report.loss.mean, report.comparison?.lossDifference ?? 0, report.droppedTokenCount)
}

func foldedNetworkExample() throws(Refusal) {
  var options = FoldedNetwork.Options()
  options.requiredNorms = ["blocks.0.mlp.norm"]
  options.rules = [.foldValueBiases]
  let network = try FoldedNetwork(of: "gpt2-lnfree", options: options)
  print(network.steps.map(\.summary), network.kept.map(\.reason))
  let weights = try network.values(of: "blocks.0.mlp.input.weight")
  let logits = try network.logits(of: [1, 2, 3])
  print(weights.count, logits.count)
}

func foldingRuleExample(conversion: inout Conversion) {
  conversion.rules = [.foldValueBiases, .centerWritingWeights]
}

func generationExample() throws(Refusal) {
  var generation = Generation(model: "out", prompt: .text("Once upon a time"))
  generation.tokenCount = 40
  print(try generation.run().text ?? "")
}

func inspectionExample() throws(Refusal) {
  let inspection = try Inspection(of: "gpt2-lnfree")
  for site in inspection.sites where !site.isFoldable { print(site.name, site.deviation) }
}

func inspectionResultExample() throws(Refusal) {
  switch try InspectionResult(of: "model.gguf") {
  case .network(let inspection): print(inspection.dialect)
  case .listing(let listing): print(listing.architecture, listing.tensorCount)
  }
}

func judgementExample(report: VerificationRun.Report) {
  let judgement = report.judgement
  print(judgement.holds, judgement.single.logits.largest, judgement.limits.logits)
}

func limitsExample(report: VerificationRun.Report) {
  let limits = report.judgement.limits
  print(limits.logits, limits.divergence, limits.agreement)
}

func logitDifferenceExample(difference: NetworkDifference) {
  let logits = difference.logits
  print(logits.largest, logits.meanDivergence, logits.top1Agreement, logits.worst.position)
}

func lossStatisticsExample(report: EvaluationReport) {
  let loss = report.loss
  print(loss.mean, loss.standardError, loss.central95.upper, loss.byPosition.count)
}

func magnitudeHistogramExample(difference: LogitDifference) {
  for (exponent, count) in zip(MagnitudeHistogram.exponents, difference.magnitudes.counts) where count > 0 {
    print("2^\(exponent): \(count)")
  }
}

func programOverflowExample(report: VerificationRun.Report) {
  if let overflow = report.judgement.overflow {
    print("\(overflow.place) reaches \(overflow.value), and \(overflow.type) ends at \(overflow.largest)")
  }
}

func measureExample(report: ConversionReport) {
  for measure in report.verdicts.flatMap(\.measures) {
    print("\(measure.name): \(measure.value) of at most \(measure.limit), in \(measure.unit)")
  }
}

func measurementInputExample() throws(Refusal) {
  var input = MeasurementInput(model: "gpt2", text: .text(files: ["book.txt"]))
  input.chunking.contextLength = 256
  input.tokenLimit = 20_000
  print(try Evaluation(input).run().loss.mean)
}

func messageExample(context: Int) {
  let advice: Message = "give \(.probeLength) \(context) or less"
  print(advice)  // give probeLength 32 or less
}

func networkDifferenceExample(report: VerificationRun.Report) {
  let difference = report.judgement.single
  print(difference.logits.largest, difference.residuals.map(\.relative))
}

func normFormExample(conversion: inout Conversion) {
  conversion.normForm = .rms
}

func normScalingExample(options: inout ReadingOptions) {
  options.normScaling = .lns
}

func outputVerdictExample(report: ConversionReport) {
  for verdict in report.verdicts where !verdict.holds {
    print(verdict.output.target, verdict.measures.filter { $0.holds == false }.map(\.name))
  }
}

func precisionExample(input: inout MeasurementInput) {
  input.precision = .double
}

func probeOptionsExample(conversion: inout Conversion) {
  conversion.probeOptions.seed = 7
  conversion.probeOptions.text = .text(files: ["book.txt"])
}

func layoutDraftExample() throws(Refusal) {
  let draft = try LayoutDraft(of: "my-gpt.pt")
  print(draft.text)
  print(draft.openValues)  // ["heads", "activation", "epsilon", "attentionScale"]
}

func readingOptionsExample() throws(Refusal) {
  var options = ReadingOptions()
  options.deviations = "deviations.json"
  options.ignoredTensors = ["*.attn.bias"]
  let inspection = try Inspection(of: "gpt2", options: options)
  print(inspection.dialect)
}

func refusalExample() {
  do throws(Refusal) {
    print(try Inspection(of: "model.safetensors").dialect)
  } catch {
    print(error.category, error.file ?? "", error.problem, error.advice)
  }
}

func residualDifferenceExample(difference: NetworkDifference) {
  for residual in difference.residuals { print("depth \(residual.depth): \(residual.relative)") }
}

func samplingExample(generation: inout Generation) {
  generation.sampling.temperature = 0.8
  generation.sampling.topP = 0.95
  generation.sampling.seed = 7
}

func settingExample(refusal: Refusal) {
  let names = SettingNames { setting, _ in "the field '\(setting.rawValue)'" }
  print(refusal.text(naming: names))
}

func settingNamesExample(refusal: Refusal) {
  let names = SettingNames { setting, value in
    value.map { "\(setting.rawValue): \($0)" } ?? setting.rawValue
  }
  print(refusal.text(naming: names))
}

func textSourceExample() throws(Refusal) {
  let input = MeasurementInput(model: "gpt2", text: .tokens(file: "book.bin"))
  print(try Evaluation(input).run().loss.mean)
}

func toolExample() {
  print(Tool.nameAndVersion)
}

func verificationExample(report: ConversionReport) {
  if let verification = report.verification {
    print(verification.holds, verification.tokenCount, verification.targets.map(\.algebraHolds))
  }
}

func verificationRunExample() throws(Refusal) {
  let report = try VerificationRun(reference: "gpt2-lnfree", candidate: "out").run()
  print(report.holds, report.judgement.single.logits.largest)
}

func workersExample(conversion: inout Conversion) {
  conversion.workers = Workers(count: 2)
}

func recipeExample() throws(Refusal) {
  var recipe = try Recipe(named: "gpt2-small-aux")
  recipe.steps = 100
  print(recipe.tokensPerStep, recipe.rate(atStep: 50))
}

func removalExample() throws(Refusal) {
  var removal = Removal(source: "gpt2", destination: "lnfree", targets: ["transformers"])
  removal.text = .text(files: ["book.txt"])
  removal.recipe = try Recipe(named: "gpt2-small-aux")
  let report = try removal.run { print($0.step, $0.loss, $0.fixed) }
  print(report.conversion.published)
}

func removalPlanExample(removal: Removal) throws(Refusal) {
  let plan = try RemovalPlan(of: removal)
  print(plan.tokenCount, plan.operationCount, plan.byteCount, plan.hours(cores: 64))
}

func removalReportExample(report: RemovalReport) {
  print(report.records.last?.loss ?? .nan, report.conversion.failures)
}

func trainingValidationExample(report: RemovalReport) {
  for validation in report.validations { print(validation.step, validation.loss) }
}

func deviationSampleExample(report: RemovalReport) {
  for sample in report.deviationSamples { print(sample.step, sample.deviations["transformer.ln_f"] ?? 0) }
}

func scheduleExample(recipe: inout Recipe) {
  recipe.schedule = Schedule([.mlp: .init(step: 20, gap: 2), .last: .init(step: 104)])
}

func trainingRecordExample(report: RemovalReport) {
  for record in report.records where !record.fixed.isEmpty { print(record.step, record.fixed, record.loss) }
}

func transferExample() throws(Refusal) {
  let transfer = Transfer(source: "pythia", template: "retnet-random", destination: "out", map: "pythia-retnet")
  for tensor in try transfer.run().tensors { print(tensor.name, tensor.origin, tensor.originalName) }
}

func transferReportExample(report: TransferReport) {
  print(report.tensors.count { $0.origin == .source }, report.unusedTensors)
}
