import Foundation
import Logging
import NormFold
import NormFoldFolding
import NormFoldFormats
import TestSupport

/// A conversion of a random checkpoint: target, type, rules and form of norms drawn at random.
package struct RandomConversion {
  package let source: RandomCheckpoint
  package let target: String
  package let type: ElementType
  package let rules: [FoldingRule]
  package let normForm: NormForm?

  package var summary: String {
    ([source.summary, "--for \(target)", "--type \(type.displayName)"] + rules.map { "--\($0.rawValue)" }
      + (normForm.map { ["--to-norm \($0.rawValue)"] } ?? [])).joined(separator: " ")
  }

  /// - Parameter families: those to draw from.
  package init(seed: UInt64, families: [RandomCheckpoint.Family] = RandomCheckpoint.Family.allCases) {
    var generator = SeededGenerator(seed: seed &* 0x9E37_79B9 &+ 17)
    func pick<Value>(_ values: [Value]) -> Value { values[Int(generator.next() % UInt64(values.count))] }
    source = RandomCheckpoint(pick(families), seed: seed)
    let isGPT2 = source.family == .gpt2 || source.family == .gpt2Fixed
    // What no target can hold is refused before a weight is read, and drawn rarely.
    var targets = ["transformers", "onnxruntime", "onnxruntime", "llama.cpp"]
    if isGPT2 { targets += ["gpt2", "transformer-lens"] }
    target = pick(targets)
    switch target {
    case "onnxruntime": type = pick([.f32, .f16])
    case "llama.cpp": type = pick([.f32, .f16, .bf16, .q8_0, .q4_0, .q5_1])
    default: type = pick([.f32, .bf16, .f16])
    }
    var forms: [NormForm] = [.unit]
    if target == "onnxruntime", source.family != .llama { forms += [.rms, .crms] }
    normForm = source.hasComputedNorms ? pick(forms) : nil
    var rules: [FoldingRule] = []
    if pick([true, false, false]) { rules.append(.foldValueBiases) }
    if pick([true, false, false]), !source.hasComputedNorms { rules.append(.centerWritingWeights) }
    if pick([true, false, false, false]) { rules.append(.centerUnembedding) }
    self.rules = rules
  }

  /// - Returns: nil where the program refuses, because the target cannot hold such a network.
  package func run(in directory: String) throws -> ConversionReport? {
    try source.write(to: directory + "/source")
    var conversion = Conversion(source: directory + "/source", destination: directory + "/out", targets: [target])
    conversion.type = type
    conversion.rules = rules
    conversion.normForm = normForm
    conversion.workers = Workers(count: 1)
    do throws(Refusal) {
      return try conversion.run(logger: Logger(label: "proof") { _ in SwiftLogNoOpLogHandler() })
    } catch {
      guard error.isAboutWhatFits else { throw error }
      return nil
    }
  }

  /// Whether the output is equal to the source up to a constant per position only.
  package var isUpToShift: Bool { rules.contains(.centerUnembedding) }

  package func verify(_ candidate: String, against reference: String) throws -> VerificationRun.Report {
    var run = VerificationRun(reference: reference, candidate: candidate)
    run.isUpToShift = isUpToShift
    run.workers = Workers(count: 1)
    return try run.run()
  }
}

extension Refusal {
  /// Whether the request was refused for what the target, the rule or the type cannot do.
  fileprivate var isAboutWhatFits: Bool { [.unsupported, .usage, .notFoldable, .nonFinite].contains(category) }
}
