import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks
import NormFoldProcesses
import Synchronization

/// A checkpoint and the text that it is measured on.
///
///     var input = MeasurementInput(model: "gpt2", text: .text(files: ["book.txt"]))
///     input.chunking.contextLength = 256
///     input.tokenLimit = 20_000
///     print(try Evaluation(input).run().loss.mean)
public struct MeasurementInput: Sendable, Encodable {
  /// A directory or file, as the user named it.
  public var model: String
  public var text: TextSource
  public var chunking = Chunking.Options()
  /// The number of tokens of the text to take; nil for all.
  public var tokenLimit: Int?
  public var precision = Precision.single
  public var readingOptions = ReadingOptions()
  public var workers = Workers.all

  public init(model: String, text: TextSource) {
    self.model = model
    self.text = text
  }

  /// Called with the number of tokens done and to do, from any thread.
  public typealias Progress = @Sendable (_ done: Int, _ total: Int) -> Void
}

/// The same, opened and cut.
struct MeasuredText {
  let model: Model
  let chunking: Chunking
  let chunks: [Chunk]
  let droppedCount: Int

  /// - Parameter contextLength: of other networks that the chunks have to fit, too.
  init(_ input: MeasurementInput, fitting contextLength: Int = .max) throws(Refusal) {
    model = try Model(continuing: input.model, options: input.readingOptions)
    try model.checkpoint.checkIntegrity()
    chunking = try Chunking(input.chunking, longest: min(model.network.contextLength, contextLength))
    (chunks, droppedCount) = try chunking.chunks(
      of: input.text.tokens(limit: input.tokenLimit, for: model, at: input.model),
      endOfText: model.endOfText)
  }

  var tokenCount: Int { chunks.reduce(0) { $0 + $1.tokens.count } }

  /// The number of tokens that go through each weight together, four contexts of GPT-2: enough for matrix products to
  /// run at full speed.
  private static let tokensPerGroup = 4_096

  /// Says how many of its steps a group has done.
  typealias Advance = (_ step: Int, _ stepCount: Int) -> Void

  /// Runs `body` on groups of chunks, one group on each thread at a time.
  ///
  /// - Returns: the results in the order of the groups.
  func concurrentlyByGroup<Result: Sendable>(
    workers: Workers, progress: @escaping MeasurementInput.Progress,
    _ body: @Sendable ([Chunk], Workers, Advance) throws(Refusal) -> Result
  ) throws(Refusal) -> [Result] {
    try results(of: groups(forThreads: workers.count), workers: workers, progress: progress, body)
  }

  /// Runs `body` on groups of chunks likewise, each of several processes on some of the groups.
  ///
  /// - Parameter progress: of this process.
  /// - Returns: the results of all processes, in the order of the groups.
  func concurrentlyByGroup<Result: MeasuredGroup>(
    in processes: any ProcessGroup, workers: Workers, progress: @escaping MeasurementInput.Progress,
    _ body: @Sendable ([Chunk], Workers, Advance) throws(Refusal) -> Result
  ) throws(Refusal) -> [Result] {
    // All of them cut the text alike.
    let threadCount = Int(try processes.sums(of: [Double(workers.count)])[0])
    let groups = groups(forThreads: threadCount)
    let share = processes.share(of: groups.count, rank: processes.rank)
    let own = try processes.together { () throws(Refusal) in
      try results(of: Array(groups[share]), workers: workers.cut(for: threadCount), progress: progress, body)
    }
    guard processes.count > 1 else { return own }
    // The numbers of each result come behind their number.
    let numbers = own.flatMap { result in
      let numbers = result.numbers
      return [Double(numbers.count)] + numbers
    }
    return try processes.gather(numbers).flatMap { numbers in
      var results: [Result] = []
      var reader = NumberReader(numbers[...])
      while !reader.isAtEnd { results.append(Result(numbers: reader.array(of: reader.int()))) }
      return results
    }
  }

  /// The chunks in groups of as many as go through the network together. A short text is shared out, too.
  private func groups(forThreads threadCount: Int) -> [[Chunk]] {
    let share = (chunks.count + threadCount - 1) / threadCount
    let count = max(1, min(share, Self.tokensPerGroup / chunking.contextLength))
    return stride(from: 0, to: chunks.count, by: count).map { Array(chunks[$0..<min($0 + count, chunks.count)]) }
  }

  private func results<Result: Sendable>(
    of groups: [[Chunk]], workers: Workers, progress: @escaping MeasurementInput.Progress,
    _ body: @Sendable ([Chunk], Workers, Advance) throws(Refusal) -> Result
  ) throws(Refusal) -> [Result] {
    // Each group finds the memory of the one before it.
    let memory = KeptMemory()
    defer { withExtendedLifetime(memory) {} }
    let sizes = groups.map { $0.reduce(0) { $0 + $1.tokens.count } }
    let total = sizes.reduce(0, +)
    let state = Mutex(
      (results: [Result?](repeating: nil, count: groups.count), done: [Int](repeating: 0, count: groups.count)))
    try workers.forEach(groups.count) { (index) throws(Refusal) in
      let result = try body(groups[index], workers) { step, stepCount in
        let done = state.withLock { state in
          state.done[index] = sizes[index] * step / stepCount
          return state.done.reduce(0, +)
        }
        progress(done, total)
      }
      state.withLock { $0.results[index] = result }
    }
    return state.withLock { $0.results.compactMap(\.self) }
  }
}

extension Model {
  /// Opens a network that continues texts.
  ///
  /// - Throws: what opening throws; `.unsupported` for a network that gives something else.
  init(continuing path: String, options: ReadingOptions) throws(Refusal) {
    try self.init(opening: path, options: options)
    guard network.task != .generation else { return }
    throw Refusal(
      .unsupported, file: path,
      "\(architecture.className) gives \(network.task.outputName), and no logits of the next token",
      advice: "give a model that continues texts")
  }
}

extension Chunk {
  var probe: Probe { Probe(name: "text", tokens: tokens) }
}

/// The properties that measurements of networks that continue no text have in common.
package protocol ModelMeasurement {
  var precision: Precision { get set }
  var readingOptions: ReadingOptions { get set }
  var workers: Workers { get set }
}
