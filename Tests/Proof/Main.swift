import ArgumentParser
import Foundation
import ProofSupport

/// Converts random networks and plants errors in what was written: no honest one may be refused, no error may pass.
@main struct ProofCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "normfold-proof",
    abstract: "Converts random networks and plants errors: none of the first may be refused, none of the second pass.")

  @Option(help: "Other seeds give other networks.")
  var seed: UInt64 = 1

  @Option(help: "How many random networks are converted.")
  var conversions = 10_000

  @Option(help: "Errors are planted in every so many of them; 0 for none.")
  var period = 50

  @Option(help: "The number of the first of them.")
  var first = 0

  @Option(help: "Only this family of networks.")
  var family: RandomCheckpoint.Family?

  @Option(help: "A directory that gets the files of what failed.")
  var keep: String?

  func run() throws {
    var proof = Proof(
      seed: seed, first: first, conversionCount: conversions, plantingPeriod: period,
      families: family.map { [$0] } ?? RandomCheckpoint.Family.allCases)
    proof.keptAt = keep
    let total = conversions
    let tally = try proof.run { done in
      if done % max(1, total / 20) == 0 { FileHandle.standardError.write(Data("\(done) of \(total)\n".utf8)) }
    }
    print("honest conversions: \(tally.honest), not possible for the target: \(tally.impossible)")
    let copies = HonestCopy.allCases.map { "\(tally.copies[$0] ?? 0) \($0.rawValue)" }
    print("copies that say the same: \(copies.joined(separator: ", "))")
    print("  refused: \(tally.refused.count)")
    for line in tally.refused.prefix(20) { print("    \(line)") }
    print("  not compared in whole: \(tally.incomplete.count)")
    for line in tally.incomplete.prefix(20) { print("    \(line)") }
    print("  closest part: \(tally.largestPartRatio) of its bound")
    let ratios = tally.runRatios.sorted()
    if let largest = ratios.last {
      print("  single precision over the source's own: median \(ratios[ratios.count / 2]), largest \(largest)")
      print("  above 2, 4, 8, 16: \([2.0, 4, 8, 16].map { limit in ratios.count { $0 > limit } })")
    }
    print("planted errors: \(tally.plantedCount)")
    for error in PlantedError.allCases { print("  \(error.rawValue): \(tally.planted[error] ?? 0)") }
    print("  passed: \(tally.passed.count)")
    for line in tally.passed.prefix(40) { print("    \(line)") }
    if !tally.refused.isEmpty || !tally.passed.isEmpty { throw ExitCode(1) }
  }
}

extension RandomCheckpoint.Family: ExpressibleByArgument {}
