import ArgumentParser
import NormFoldArithmetic

/// What `Benchmarks/run` calls for the figures that need our own code: checkpoints to measure with, and kernels.
@main struct Benchmarks: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "normfold-benchmarks",
    subcommands: [
      MakeCheckpoint.self, MakeHeader.self, Forward.self, Generate.self, Evaluate.self, Codecs.self, Span.self,
      Step.self, IntegerProducts.self,
    ])

  static func main() {
    restartWhereOpenBLASIsTooOld()
    main(nil)
  }
}

/// Seconds that `body` takes.
func seconds(_ body: () throws -> Void) rethrows -> Double {
  let start = ContinuousClock.now
  try body()
  let duration = ContinuousClock.now - start
  return Double(duration.components.seconds) + Double(duration.components.attoseconds) * 1e-18
}

extension [Double] {
  var median: Double { isEmpty ? .nan : sorted()[count / 2] }
}
