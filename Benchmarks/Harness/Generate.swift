import ArgumentParser
import CNormFoldKernels
import NormFoldArithmetic
import NormFoldFormats
import NormFoldMeasurement
import NormFoldNetworks

/// Tokens of one sequence, one behind the other, in single precision, against reading the weights once for each of them,
/// which none can be generated without: by turns, from the page cache.
struct Generate: ParsableCommand {
  @Argument(help: "A checkpoint in F32.") var checkpoint: String
  @Option(help: "Tokens of a round.") var tokens = 32
  @Option var rounds = 9
  @Option var threads = Workers.all.count

  func run() throws {
    let network = try Model(opening: checkpoint).network
    let workers = Workers(count: threads)
    let weights = Weights(of: network)
    var pass = CachedPass<Float>(network, capacity: 16 + tokens * (rounds + 1), workers: workers)
    _ = try pass.logits(after: Array(100..<116))
    var next = 0
    var generated: [Double] = []
    var read: [Double] = []
    for round in 0...rounds {
      let whole = try seconds {
        for _ in 0..<tokens {
          next = try pass.logits(after: [next]).indexOfLargest
        }
      }
      // The faster of two ways to read.
      let alone = Weights.Way.allCases.map { way in
        seconds { for _ in 0..<4 { weights.read(way, workers: workers) } } / 4
      }.min()
      if round > 0, let alone {
        generated.append(whole / Double(tokens))
        read.append(alone)
      }
    }
    print("generated\t\(1 / generated.median)\ttokens/s")
    print("weights read, \(weights.byteCount / 1_000_000) MB\t\(1 / read.median)\ttimes/s")
    print("reading the weights over generating a token\t\(zip(read, generated).map { $0 / $1 }.median)\tratio")
  }
}

extension [Double] {
  fileprivate var indexOfLargest: Int { indices.max { self[$0] < self[$1] } ?? 0 }
}

/// The weights that every token is multiplied by, where they lie in the file.
private struct Weights: Sendable {
  enum Way: CaseIterable { case looking, multiplying }

  private struct Part: Sendable {
    let tensor: Tensor
    let bytes: Range<Int>
  }

  private let parts: [Part]
  let byteCount: Int
  private let row: [Float]

  init(of network: Network) {
    var parts: [Part] = []
    var seen: Set<String> = []
    let maps =
      network.linearMaps.filter { $0.path != network.output }.map(\.map) + (network.unembedding.map { [$0] } ?? [])
    for map in maps {
      guard let view = map.weight.storedView else { preconditionFailure("\(map.weight) is computed") }
      guard seen.insert(view.tensor.info.name).inserted else { continue }
      let count = view.tensor.withBytes { $0.byteCount }
      parts += stride(from: 0, to: count, by: 1 << 20).map {
        Part(tensor: view.tensor, bytes: $0..<min($0 + 1 << 20, count))
      }
    }
    self.parts = parts
    byteCount = parts.reduce(0) { $0 + $1.bytes.count }
    row = [Float](repeating: 0.5, count: 1 << 12)
  }

  func read(_ way: Way, workers: Workers) {
    workers.forEach(parts.count) { number in
      let part = parts[number]
      part.tensor.withBytes { bytes in
        bytes.withUnsafeBytes { bytes in
          guard let start = bytes.baseAddress else { return }
          let count = part.bytes.count / 4
          let numbers = start + part.bytes.lowerBound
          switch way {
          case .looking:
            precondition(normfold_are_finite_32(numbers, count, 0x7f80_0000))
          case .multiplying:
            let rows = count / row.count
            withUnsafeTemporaryAllocation(of: Float.self, capacity: max(1, rows)) { sums in
              sums.initialize(repeating: 0)
              normfold_row_product(
                rows, row.count, row, numbers.assumingMemoryBound(to: Float.self), row.count, true, sums.baseAddress)
            }
          }
        }
      }
    }
  }
}
