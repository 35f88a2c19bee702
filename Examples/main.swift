// Converts a checkpoint for transformers, prints what will be written, and what was proved of it:
//
//     swift run normfold-example gpt2-lnfree out
import NormFold

let arguments = CommandLine.arguments
guard arguments.count == 3 else { fatalError("usage: normfold-example SOURCE DESTINATION") }
prepareProcess()

var conversion = Conversion(source: arguments[1], destination: arguments[2], targets: ["transformers"])
conversion.type = .f32
conversion.probeOptions.probeLength = 16
print(try ConversionPlan(of: conversion))

let report = try conversion.run { progress in
  if progress.done == progress.total { print("\(progress.stage.rawValue) \(progress.subject): done") }
}
for verdict in report.verdicts {
  for measure in verdict.measures {
    let relation = measure.isLowerLimit ? "≥" : "≤"
    print("\(measure.kind): \(measure.value) \(relation) \(measure.limit) \(measure.unit)")
  }
  let logits = verdict.claims.judgement.single.logits
  print("worst: \(logits.worst.probe), position \(logits.worst.position), token \(logits.worst.token)")
  print("\(verdict.output.target) in \(verdict.output.directory): \(verdict.holds ? "proved" : "not the same")")
}
