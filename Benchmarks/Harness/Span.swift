import ArgumentParser
import Foundation
import NormFold
import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks
import NormFoldTraining

/// Says what a machine with more cores would make of a command: every task of a run on one thread is recorded, with those
/// that it could have run beside, and given to 1 to 128 cores by list scheduling. What cores share, caches and memory, is
/// not modelled; with `--check`, real runs on 1 and 2 threads are held against what is predicted for them.
struct Span: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "span", subcommands: [OfConversion.self, OfEvaluation.self, OfTraining.self])

  struct Options: ParsableArguments {
    @Option(help: "The number of threads that work is cut for.") var cut = 64
    @Flag(help: "Run it on 1 and 2 threads, too.") var check = false
    @Option var rounds = 3
    @Flag(help: "Print what the longest chain is made of.") var chain = false
  }

  struct OfConversion: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "convert")

    @Argument var checkpoint: String
    @Option(name: .customLong("for")) var target = "transformers"
    @Flag(inversion: .prefixedNo) var verify = true
    @OptionGroup var options: Options

    func run() throws {
      let output = "span-output"
      try options.report { _ in
        try? FileManager.default.removeItem(atPath: output)
      } _: { workers in
        var conversion = Conversion(source: checkpoint, destination: output, targets: [target])
        conversion.verifies = verify
        conversion.readingOptions.tokenizer = .absent
        conversion.workers = workers
        _ = try conversion.run()
      }
    }
  }

  struct OfEvaluation: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "eval")

    @Argument var checkpoint: String
    @Option(help: "Sequences.") var sequences = 16
    @Option(help: "Tokens of each.") var length = 1_024
    @OptionGroup var options: Options

    func run() throws {
      let tokens = (0..<sequences * length).map { $0 * 769 % 50_000 }
      try options.report { _ in
      } _: { workers in
        var input = MeasurementInput(model: checkpoint, text: .ids(tokens))
        input.chunking.contextLength = length
        input.workers = workers
        _ = try Evaluation(input).run()
      }
    }
  }
}

extension Span {
  /// One step of training on one micro-batch, every norm computed.
  struct OfTraining: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "train")

    @Argument(help: "A GPT-2 whose norms are computed.") var checkpoint: String
    @Option(help: "Sequences of the micro-batch.") var sequences = 8
    @Option(help: "Tokens of each.") var length = 1_024
    @OptionGroup var options: Options

    func run() throws {
      let training = try RandomTraining(of: checkpoint, sequences: sequences, length: length)
      // What a run does once, before its first step, is none of the step. It finds the memory of the step before it.
      let memory = KeptMemory()
      defer { withExtendedLifetime(memory) {} }
      var next: TrainingRun<Float>?
      try options.report { workers in
        next = nil
        next = try training.run(workers)
      } _: { _ in
        _ = try next?.advance()
      }
    }
  }
}

extension Span.Options {
  private static func chain(of steps: [TaskRecorder.Step]) -> Double {
    steps.reduce(0) { $0 + chain(of: $1) }
  }

  private static func chain(of step: TaskRecorder.Step) -> Double {
    switch step {
    case .work(let seconds): seconds
    case .tasks(let tasks): tasks.map(chain(of:)).max() ?? 0
    }
  }

  /// Prints the steps of the longest chain that take more than a hundredth of it, those of the longest task of each below it.
  private static func printChain(of steps: [TaskRecorder.Step], depth: Int = 0, least: Double? = nil) {
    let least = least ?? chain(of: steps) / 1000
    for (number, step) in steps.enumerated() where chain(of: step) >= least {
      let margin = String(repeating: "  ", count: depth)
      switch step {
      case .work(let seconds): print("\(margin)step \(number): work of \(seconds) s")
      case .tasks(let tasks):
        print("\(margin)step \(number): \(tasks.count) tasks, the longest of \(chain(of: step)) s")
        let longest = tasks.max { chain(of: $0) < chain(of: $1) } ?? []
        if longest.count > 1 { printChain(of: longest, depth: depth + 1, least: least) }
      }
    }
  }

  func report(_ prepare: (Workers) throws -> Void, _ body: (Workers) throws -> Void) throws {
    try prepare(.all)
    prepareProcessForArithmetic()
    // The file comes into memory.
    try body(.all)
    let recorder = TaskRecorder()
    let recorded = Workers(count: cut, recordedBy: recorder)
    try prepare(recorded)
    recorder.restart()
    try body(recorded)
    let steps = recorder.finish()
    if chain { Self.printChain(of: steps) }
    let graph = TaskGraph(steps)
    print("work\t\(graph.work)\ts")
    print("longest chain\t\(graph.longestChain)\ts")
    print("parallelism\t\(graph.work / graph.longestChain)\tratio")
    print("tasks\t\(graph.taskCount)\tcount")
    for count in [1, 2, 4, 8, 16, 32, 64, 128] {
      print("predicted on \(count) cores\t\(graph.duration(onCores: count))\ts")
    }
    guard check else { return }
    for count in [1, 2] {
      var times: [Double] = []
      var predictions: [Double] = []
      for _ in 0..<rounds {
        let recorder = TaskRecorder()
        let recorded = Workers(count: count, recordedBy: recorder)
        try prepare(recorded)
        recorder.restart()
        try body(recorded)
        predictions.append(TaskGraph(recorder.finish()).duration(onCores: count))
        let workers = Workers(count: count)
        try prepare(workers)
        times.append(try seconds { try body(workers) })
      }
      print("measured on \(count) threads\t\(times.median)\ts")
      print("measured over predicted, \(count) threads\t\(times.median / predictions.median)\tratio")
    }
  }
}

/// Tasks, the order in which they depend on each other, and how long each takes.
struct TaskGraph {
  /// Some work, and then the tasks that it begins, all of which end before what comes next.
  private struct Piece {
    var seconds: Double
    var children: [Int]
    /// The task that it belongs to.
    let task: Int
  }

  private struct Task {
    let parent: Int?
    var pieces: [Piece] = []
  }

  private var tasks: [Task] = []
  private(set) var longestChain = 0.0
  var work: Double { tasks.reduce(0) { $0 + $1.pieces.reduce(0) { $0 + $1.seconds } } }
  var taskCount: Int { tasks.count }

  init(_ steps: [TaskRecorder.Step]) { longestChain = add(steps, parent: nil).chain }

  private mutating func add(_ steps: [TaskRecorder.Step], parent: Int?) -> (task: Int, chain: Double) {
    let number = tasks.count
    tasks.append(Task(parent: parent))
    var chain = 0.0
    var piece = Piece(seconds: 0, children: [], task: number)
    for step in steps {
      switch step {
      case .work(let seconds):
        piece.seconds += seconds
        chain += seconds
      case .tasks(let children):
        let added = children.map { add($0, parent: number) }
        piece.children = added.map(\.task)
        chain += added.map(\.chain).max() ?? 0
        tasks[number].pieces.append(piece)
        piece = Piece(seconds: 0, children: [], task: number)
      }
    }
    tasks[number].pieces.append(piece)
    return (number, chain)
  }

  /// Seconds until all is done: a core that is free takes the task that has been ready for longest.
  func duration(onCores count: Int) -> Double {
    var ready = [0][...]
    // By task: the piece that comes next, and how many of its children are under way.
    var next = [Int](repeating: 0, count: tasks.count)
    var waiting = [Int](repeating: 0, count: tasks.count)
    var running = Heap()
    var now = 0.0
    var free = count
    while true {
      while free > 0, let task = ready.popFirst() {
        free -= 1
        running.insert((now + tasks[task].pieces[next[task]].seconds, task))
      }
      guard let (end, task) = running.popFirst() else { return now }
      now = end
      free += 1
      let children = tasks[task].pieces[next[task]].children
      next[task] += 1
      if !children.isEmpty {
        waiting[task] = children.count
        ready.append(contentsOf: children)
      } else if let parent = tasks[task].parent {
        // The last piece of a task begins no others.
        waiting[parent] -= 1
        if waiting[parent] == 0 { ready.append(parent) }
      }
    }
  }
}

/// The task that ends first comes first.
private struct Heap {
  private var items: [(end: Double, task: Int)] = []

  mutating func insert(_ item: (end: Double, task: Int)) {
    items.append(item)
    var place = items.count - 1
    while place > 0, items[place].end < items[(place - 1) / 2].end {
      items.swapAt(place, (place - 1) / 2)
      place = (place - 1) / 2
    }
  }

  mutating func popFirst() -> (end: Double, task: Int)? {
    guard let first = items.first else { return nil }
    let last = items.removeLast()
    if items.isEmpty { return first }
    items[0] = last
    var place = 0
    while true {
      var smallest = place
      for child in [2 * place + 1, 2 * place + 2] where child < items.count && items[child].end < items[smallest].end {
        smallest = child
      }
      if smallest == place { return first }
      items.swapAt(place, smallest)
      place = smallest
    }
  }
}
