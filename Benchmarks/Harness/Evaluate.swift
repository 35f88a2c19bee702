import ArgumentParser
import NormFoldArithmetic
import NormFoldFormats
import NormFoldMeasurement
import NormFoldNetworks

/// `eval` against the forward pass alone: all logits of the same sequences, in the same groups, in memory that is there already, by
/// turns.
struct Evaluate: ParsableCommand {
  static let configuration = CommandConfiguration(commandName: "eval")

  @Argument var checkpoint: String
  @Option var sequences = 4
  @Option(help: "Tokens of each.") var length = 1_024
  @Option var rounds = 5
  @Option var threads = Workers.all.count

  func run() throws {
    let network = try Model(opening: checkpoint).network
    let workers = Workers(count: threads)
    let tokens = (0..<sequences * length).map { $0 * 769 % network.vocabularySize }
    let probes = stride(from: 0, to: tokens.count, by: length).map {
      Probe(name: "", tokens: Array(tokens[$0..<$0 + length]))
    }
    let groupSize = max(1, min((sequences + threads - 1) / threads, 4_096 / length))
    let groups = stride(from: 0, to: sequences, by: groupSize).map {
      Array(probes[$0..<min($0 + groupSize, sequences)])
    }
    let memory = KeptMemory()
    defer { withExtendedLifetime(memory) {} }
    var input = MeasurementInput(model: checkpoint, text: .ids(tokens))
    input.chunking.contextLength = length
    input.workers = workers
    var measured: [Double] = []
    var alone: [Double] = []
    for round in 0...rounds {
      let whole = try seconds { _ = try Evaluation(input).run() }
      let bare = try seconds {
        try workers.forEach(groups.count) { (number) throws(Refusal) in
          let logits = try network.logits(on: FastBackend<Float>(probes: groups[number], workers: workers))
          for start in stride(from: 0, to: logits.vocabularySize, by: 1_024) {
            _ = logits.logits(of: start..<min(start + 1_024, logits.vocabularySize))
          }
        }
      }
      if round > 0 {
        measured.append(whole)
        alone.append(bare)
      }
    }
    print("eval, \(sequences) x \(length) tokens\t\(Double(tokens.count) / measured.median)\ttokens/s")
    print("forward pass alone\t\(Double(tokens.count) / alone.median)\ttokens/s")
    print("forward pass alone over eval\t\(zip(alone, measured).map { $0 / $1 }.median)\tratio")
  }
}
