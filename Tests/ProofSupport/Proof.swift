import Foundation
import NormFold
import NormFoldFormats
import NormFoldNetworks
import NormFoldTargets
import NormFoldVerify
import Synchronization
import TestSupport

/// What becomes of honest conversions and of planted errors.
package struct Proof: Sendable {
  package struct Tally: Sendable {
    /// Honest conversions, and those that could not be made: the target cannot hold such a network.
    package var honest = 0
    package var impossible = 0
    /// Honest files that were refused, by what refused them.
    package var refused: [String] = []
    /// Parts that were not compared.
    package var incomplete: [String] = []
    /// Planted errors by kind, and those that passed as equal.
    package var planted: [PlantedError: Int] = [:]
    package var passed: [String] = []
    /// Files that say the same in another way, by how; those that are refused are in ``refused``.
    package var copies: [HonestCopy: Int] = [:]
    /// The largest ratios to their limits that honest networks reached: of parts, and of the run in single precision.
    package var largestPartRatio = 0.0
    package var runRatios: [Double] = []

    package mutating func merge(_ other: Tally) {
      honest += other.honest
      impossible += other.impossible
      refused += other.refused
      incomplete += other.incomplete
      planted.merge(other.planted, uniquingKeysWith: +)
      passed += other.passed
      copies.merge(other.copies, uniquingKeysWith: +)
      largestPartRatio = max(largestPartRatio, other.largestPartRatio)
      runRatios += other.runRatios
    }

    package var plantedCount: Int { planted.values.reduce(0, +) }
  }

  package var seed: UInt64
  /// The number of the first conversion: each has a number, from which it follows with the seed.
  package var first: Int
  /// How many conversions are made.
  package var conversionCount: Int
  /// How many errors of each kind are planted in each of them, at most one; one conversion in so many gets them.
  package var plantingPeriod: Int
  package var families: [RandomCheckpoint.Family]
  /// A directory for the files of what failed; nil where they are not kept.
  package var keptAt: String?

  package init(
    seed: UInt64, first: Int = 0, conversionCount: Int, plantingPeriod: Int,
    families: [RandomCheckpoint.Family] = RandomCheckpoint.Family.allCases
  ) {
    self.seed = seed
    self.first = first
    self.conversionCount = conversionCount
    self.plantingPeriod = plantingPeriod
    self.families = families
  }

  package func run(workers: Workers = .all, progress: @Sendable (Int) -> Void = { _ in }) throws -> Tally {
    let total = Mutex(Tally())
    let failure = Mutex<(any Error)?>(nil)
    let done = Atomic(0)
    workers.forEach(conversionCount) { number in
      do {
        let tally = try tally(of: first + number)
        total.withLock { $0.merge(tally) }
      } catch {
        failure.withLock { $0 = error }
      }
      progress(done.add(1, ordering: .relaxed).newValue)
    }
    if let error = failure.withLock({ $0 }) { throw error }
    return total.withLock { $0 }
  }

  private func tally(of number: Int) throws -> Tally {
    let place = try TemporaryDirectory()
    let conversion = RandomConversion(seed: seed &* 1_000_003 &+ UInt64(number), families: families)
    var tally = Tally()
    guard let report = try conversion.run(in: place.path) else {
      tally.impossible += 1
      return tally
    }
    if !report.holds, conversion.target == "onnxruntime", conversion.type == .f16,
      report.verification?.targets.allSatisfy(\.partsHold) == true
    {
      let source = try Model(opening: place / "source")
      let probes = ProbeSet.standard(for: source.network, endOfText: source.endOfText).precise
      if try source.network.leavesHalves(on: probes) {
        tally.impossible += 1
        return tally
      }
    }
    tally.honest += 1
    let name = "\(seed)/\(number): \(conversion.summary)"
    guard report.holds else {
      keep(place, of: number, as: "refused")
      tally.refused.append("convert \(name): \(report.failures.joined(separator: " "))")
      return tally
    }
    let found: VerificationRun.Report
    do {
      found = try conversion.verify(place / "out", against: place / "source")
    } catch let refusal as Refusal {
      tally.refused.append("verify \(name): \(refusal)")
      return tally
    }
    if !found.holds {
      let parts = found.judgement.parts?.failureSentences() ?? []
      tally.refused.append("verify \(name): \(parts.joined(separator: " "))")
    }
    let claims = [found.judgement.parts, report.verification?.targets.first?.judgement.parts].compactMap(\.self)
    tally.incomplete += claims.filter { !$0.isComplete }.map { "\(name): \($0.notCompared.joined(separator: "; "))" }
    if claims.count < 2 { tally.incomplete.append("\(name): no parts") }
    for claim in claims { tally.largestPartRatio = max(tally.largestPartRatio, claim.worst?.ratio ?? 0) }
    let (single, noise) = (found.judgement.single.logits, found.judgement.noise.logits)
    if noise.largest > 0 { tally.runRatios.append(single.largest / noise.largest) }
    try judgeCopies(of: place, conversion, name, number, &tally)
    guard plantingPeriod > 0, number % plantingPeriod == 0 else { return tally }
    for error in PlantedError.allCases {
      let copy = place / "planted"
      try? FileManager.default.removeItem(atPath: copy)
      try FileManager.default.copyItem(atPath: place / "out", toPath: copy)
      guard let network = try network(at: copy, like: place / "source") else { continue }
      var written = WrittenNetwork(
        network, in: copy, referenceType: conversion.source.type, isUpToShift: conversion.isUpToShift,
        seed: seed &+ UInt64(number))
      guard let planted = try written.plant(error) else { continue }
      tally.planted[error, default: 0] += 1
      if try passes(copy, conversion, reference: place / "source") {
        keep(place, of: number, as: error.rawValue)
        tally.passed.append("\(error.rawValue) at \(planted) of \(name)")
      }
    }
    return tally
  }

  private func keep(_ place: TemporaryDirectory, of number: Int, as name: String) {
    guard let keptAt else { return }
    try? FileManager.default.createDirectory(atPath: keptAt, withIntermediateDirectories: true)
    try? FileManager.default.copyItem(atPath: place.path, toPath: "\(keptAt)/\(seed)-\(number)-\(name)")
  }

  /// Copies of an output that say the same in another way are equal to the source, too: one kind for each conversion.
  private func judgeCopies(
    of place: TemporaryDirectory, _ conversion: RandomConversion, _ name: String, _ number: Int, _ tally: inout Tally
  ) throws {
    let kind = HonestCopy.allCases[number % HonestCopy.allCases.count]
    let copy = place / "copy"
    // A tied source is written untied where its last norm folds.
    let original = kind == .headUntied ? place / "source" : place / "out"
    try FileManager.default.copyItem(atPath: original, toPath: copy)
    guard let network = try network(at: copy, like: place / "source"),
      try WrittenNetwork(network, in: copy, referenceType: conversion.source.type, seed: 0).rewrite(as: kind)
    else { return }
    tally.copies[kind, default: 0] += 1
    do {
      let found = try conversion.verify(copy, against: place / "source")
      if found.holds { return }
      keep(place, of: number, as: kind.rawValue)
      let parts = found.judgement.parts?.failureSentences() ?? []
      tally.refused.append("verify \(kind.rawValue) of \(name): \(parts.joined(separator: " "))")
    } catch let refusal as Refusal {
      tally.refused.append("verify \(kind.rawValue) of \(name): \(refusal)")
    }
  }

  /// A file that is refused before a verdict does not pass.
  private func passes(_ candidate: String, _ conversion: RandomConversion, reference: String) throws -> Bool {
    do { return try conversion.verify(candidate, against: reference).holds } catch is Refusal { return false }
  }

  private func network(at path: String, like reference: String) throws -> Network? {
    guard ONNXProgram.isThere(at: path) else { return try Model(opening: path).network }
    let source = try Model(opening: reference)
    return try ONNXProgram(opening: path).network(like: source.network, endOfText: source.endOfText)
  }
}
