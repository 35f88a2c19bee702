import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks
import Numerics
import Synchronization

/// Runs several networks through the same probes in step and compares each with the first.
package struct Comparison: Sendable {
  /// A network or a program that takes part, and how it is run.
  package struct Candidate: Sendable {
    enum Kind {
      /// Matrices and embeddings are rounded to `rounding` before use.
      case network(Network, Precision, rounding: Storage?)
      case integers(Network, IntegerArithmetic)
      case program(any LogitProgram)
    }

    package let name: String
    /// Is true if the candidate is the reference again, run in the precision of other candidates: tokens on which it
    /// overflows are not judged.
    package var isReference = false
    /// The place of the one probe that it is run on; nil for all.
    package var onlyProbe: Int?
    let kind: Kind

    /// - Parameter rounding: rounds matrices and embeddings to these types before use.
    package init(name: String, network: Network, precision: Precision, rounding: Storage? = nil) {
      self.name = name
      kind = .network(network, precision, rounding: rounding)
    }

    /// - Precondition: the arithmetic has a form of the network.
    package init(name: String, network: Network, integers: IntegerArithmetic) {
      self.name = name
      kind = .integers(network, integers)
    }

    package init(name: String, program: any LogitProgram) {
      self.name = name
      kind = .program(program)
    }

    package var outputWidth: Int {
      switch kind {
      case .network(let network, _, _), .integers(let network, _): network.outputWidth
      case .program(let program): program.outputWidth
      }
    }

    /// The task, which says what the output is; nil for a program and for a network in integers, where nothing says so.
    package var task: Task? { if case .network(let network, _, _) = kind { network.task } else { nil } }

    /// Is true if the candidate is a network in single precision.
    var isSingle: Bool { if case .network(_, .single, _) = kind { true } else { false } }

    /// The number of positions that it can be run on; nil where nothing says.
    package var contextLength: Int? {
      switch kind {
      case .network(let network, _, _), .integers(let network, _): network.contextLength
      case .program: nil
      }
    }

    /// - Parameter otherNorms: the norms of tokens that have others than the network.
    package func run(on probes: [Probe], otherNorms: [NormsOfRows] = [], workers: Workers) -> any NetworkRun {
      switch kind {
      case .network(let network, .single, let rounding):
        ScalarRun<Float>(network, probes: probes, rounding: rounding, otherNorms: otherNorms, workers: workers)
      case .network(let network, .double, let rounding):
        ScalarRun<Double>(network, probes: probes, rounding: rounding, otherNorms: otherNorms, workers: workers)
      case .integers(let network, let arithmetic): arithmetic.run(network, probes: probes, precision: .double)
      case .program(let program): ProgramRun(program, probes: probes, workers: workers)
      }
    }
  }

  /// Candidates to be held against a reference on some probes.
  package struct Request: Sendable {
    package var candidates: [Candidate]
    package var reference: Candidate
    package var probes: [Probe]

    package init(of candidates: [Candidate], with reference: Candidate, on probes: [Probe]) {
      self.candidates = candidates
      self.reference = reference
      self.probes = probes
    }
  }

  /// A token on which the reference itself gives NaN or infinity.
  package struct Overflow: Sendable, CustomStringConvertible {
    package let probe: String
    package let position: Int

    package var description: String { "\(probe), position \(position)" }
  }

  /// By candidate, in the order given, without the reference.
  package let outcomes: [NetworkDifference]
  /// The tokens on which the reference overflows in a precision that it was run in. They are named and not judged.
  package let overflows: [Overflow]
  /// The numbers that did not fit into the integers that a candidate was computed in, counted by operation; by
  /// candidate.
  package let integerOverflows: [[IntegerOverflow]]
  /// The largest |logit| of the reference.
  package let largestLogit: Double

  /// Entries of the vocabulary whose logits one task computes.
  private static let vocabularyBlock = 2_048
  /// Logits that are in memory at a time, in bytes, unless those of one block are more.
  private static let logitByteCount = 64 << 20

  /// - Parameters:
  ///   - reference: what the others are held against.
  ///   - progress: called with the number of steps done and to do, from any thread.
  /// - Throws: what the networks throw; `.unsupported` where two networks cannot be compared.
  package init(
    of candidates: [Candidate], with reference: Candidate, on probes: [Probe], workers: Workers = .all,
    progress: @Sendable (_ done: Int, _ total: Int) -> Void = { _, _ in }
  ) throws(Refusal) {
    let request = Request(of: candidates, with: reference, on: probes)
    self = try Self.results(of: [request], workers: workers, progress: progress)[0]
  }

  private init(_ state: RequestState, of runs: [any NetworkRun]) {
    let tokens = state.tokens
    outcomes = zip(tokens.differences, state.residuals).map { NetworkDifference(logits: $0, residuals: $1) }
    integerOverflows = state.slices.dropFirst().map { (runs[$0.run] as? any IntegerNetworkRun)?.overflows ?? [] }
    overflows = tokens.overflows
    largestLogit = tokens.largestLogit
  }

  /// Several comparisons in one go: what they have in common is computed once.
  package static func results(
    of requests: [Request], workers: Workers = .all,
    progress: @Sendable (_ done: Int, _ total: Int) -> Void = { _, _ in }
  ) throws(Refusal) -> [Comparison] {
    precondition(Set(requests.map(\.reference.outputWidth)).count <= 1, "networks of several vocabularies")
    for request in requests { try request.requireComparable() }
    var shared = SharedRuns()
    let states = Mutex(requests.map { RequestState($0, in: &shared) })
    let runs = shared.networkRuns(workers: workers)
    let depth = runs.map(\.blockCount).max() ?? 0
    let vocabularySize = requests.map(\.reference.outputWidth).max() ?? 0
    let vocabularySteps = (vocabularySize + Self.vocabularyBlock - 1) / Self.vocabularyBlock
    let total = depth + 2 + vocabularySteps

    // The slow ones first, so that none is begun when the others are done.
    let order = runs.indices.sorted { runs[$0].cost > runs[$1].cost }
    let (programs, networks) = (order.filter { runs[$0].isProgram }, order.filter { !runs[$0].isProgram })
    // Programs beside the networks, which go block by block: little is kept of a block when all have passed it.
    try workers.forEach(programs.count + 1) { (task) throws(Refusal) in
      if task < programs.count { return try runs[programs[task]].finish() }
      for stage in 0...depth + 1 {
        try workers.forEach(networks.count) { (index) throws(Refusal) in
          let run = runs[networks[index]]
          switch stage {
          case 0: try run.embed()
          case depth + 1: try run.finish()
          default: if stage <= run.blockCount { try run.run(block: stage - 1) }
          }
        }
        if stage <= depth {
          let streams = runs.map(\.residual)
          states.withLock { states in
            for index in states.indices {
              states[index].compareResiduals(streams, of: runs, depth: stage, workers: workers)
            }
          }
        }
        progress(stage + 1, total)
      }
    }

    let ranges = stride(from: 0, to: vocabularySize, by: Self.vocabularyBlock).map {
      $0..<min($0 + Self.vocabularyBlock, vocabularySize)
    }
    // Several blocks at a time give many threads something to do.
    let rowCount = requests.reduce(0) { $0 + $1.probes[...].tokenCount * ($1.candidates.count + 1) }
    let blockByteCount = max(1, rowCount * Self.vocabularyBlock * MemoryLayout<Double>.size)
    let together = max(1, min(workers.count / 8, Self.logitByteCount / blockByteCount))
    for first in stride(from: 0, to: ranges.count, by: together) {
      let part = ranges[first..<min(first + together, ranges.count)]
      let logits = Mutex(part.map { _ in [MatrixRows?](repeating: nil, count: runs.count) })
      workers.forEach(part.count * order.count) { task in
        let (block, run) = (task / order.count, order[task % order.count])
        let found = runs[run].logits(of: part[first + block])
        logits.withLock { $0[block][run] = found }
      }
      let blocks = logits.withLock { zip($0, part).map { (logits: $0.compactMap(\.self), range: $1) } }
      states.withLock { states in
        for index in states.indices { states[index].tokens.add(blocks, workers: workers) }
      }
      progress(depth + 2 + first + part.count, total)
    }
    return states.withLock { $0.map { Comparison($0, of: runs) } }
  }
}

/// A request, and what is known of its result so far.
private struct RequestState {
  /// The reference first.
  let slices: [SharedRuns.RunSlice]
  var tokens: TokenStatistics
  /// The differences of the residual streams, by candidate.
  var residuals: [[ResidualDifference]]

  init(_ request: Comparison.Request, in shared: inout SharedRuns) {
    slices = ([request.reference] + request.candidates).map { shared.reserve($0, on: request.probes) }
    tokens = TokenStatistics(request, slices: slices)
    residuals = request.candidates.map { _ in [] }
  }

  /// Compares residual streams at one depth. Only networks of one depth have streams that correspond.
  ///
  /// - Parameter streams: by run, where it has one.
  mutating func compareResiduals(_ streams: [MatrixRows?], of runs: [any NetworkRun], depth: Int, workers: Workers) {
    let (own, rows) = (slices[0].run, slices[0].rows)
    guard let reference = streams[own], depth <= runs[own].blockCount else { return }
    let magnitude = Self.largest(of: rows, workers) { reference.largestMagnitude(rows: $0) }
    for (index, slice) in slices.dropFirst().enumerated() {
      guard runs[slice.run].blockCount == runs[own].blockCount, let candidate = streams[slice.run],
        candidate.columnCount == reference.columnCount
      else { continue }
      let first = rows.lowerBound + slice.tokens.lowerBound
      let shift = slice.rows.lowerBound - first
      let largest = Self.largest(of: first..<first + slice.tokens.count, workers) { part in
        reference.largestDifference(
          rows: part, from: candidate, rows: part.lowerBound + shift..<part.upperBound + shift)
      }
      residuals[index].append(
        ResidualDifference(depth: depth, largest: largest, relative: magnitude > 0 ? largest / magnitude : 0))
    }
  }

  /// Rows that one task looks at.
  private static let rowsPerTask = 16

  /// The largest of the numbers, none below 0, that `body` finds in parts of the rows.
  private static func largest(
    of rows: Range<Int>, _ workers: Workers, _ body: @Sendable (Range<Int>) -> Double
  ) -> Double {
    let largest = Mutex(0.0)
    workers.forEachPart(of: rows.count, size: rowsPerTask) { part in
      let found = body(rows.lowerBound + part.lowerBound..<rows.lowerBound + part.upperBound)
      largest.withLock { $0 = max($0, found) }
    }
    return largest.withLock(\.self)
  }
}

extension Comparison.Request {
  /// - Throws: `.unsupported` where two networks cannot be compared.
  fileprivate func requireComparable() throws(Refusal) {
    let task = reference.task ?? .generation
    for candidate in candidates {
      if let other = candidate.task, other != task {
        throw Refusal(
          .unsupported, "\(candidate.name) computes \(other.outputName), \(reference.name) \(task.outputName)",
          advice: "only networks with the same head can be compared")
      }
      guard candidate.outputWidth != reference.outputWidth else { continue }
      let noun = task == .generation ? "a vocabulary" : "\(task.outputName) with a width"
      throw Refusal(
        .unsupported,
        "\(candidate.name) has \(noun) of \(candidate.outputWidth), \(reference.name) of \(reference.outputWidth)",
        advice: task == .generation
          ? "only networks with the same vocabulary can be compared"
          : "only networks whose outputs are equally wide can be compared")
    }
    let end = probes.flatMap(\.positions).reduce(0) { max($0, $1 + 1) }
    for candidate in [reference] + candidates {
      guard let context = candidate.contextLength, context < end else { continue }
      throw Refusal(
        .unsupported, "\(candidate.name) has a context of \(context) tokens, the probes have \(end) positions",
        advice: "give \(.probeLength) \(context) or less")
    }
  }
}
