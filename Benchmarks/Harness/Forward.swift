import ArgumentParser
import Formats
import Networks
import Verify

/// The forward pass in single precision against its matrix products alone, both on two sequences at a time, one to a
/// thread, as a verification runs its two networks. All logits are computed.
struct Forward: ParsableCommand {
  @Argument var checkpoint: String
  @Option(parsing: .upToNextOption) var tokens = [256, 1_024]
  @Option var rounds = 5
  @Option var threads = 2

  func run() throws {
    let network = try Model(opening: checkpoint).network
    let workers = Workers(count: threads)
    for count in tokens {
      let probe = Probe(name: "", tokens: (0..<count).map { $0 * 769 % network.dimensions.vocabularySize })
      let products = Products(of: network, tokenCount: count)
      var pass: [Double] = []
      var alone: [Double] = []
      for round in 0...rounds {
        let whole = try seconds {
          try workers.forEach(threads) { (_) throws(Refusal) in
            var operations = CPUOperations<Float>(probes: [probe])
            let logits = try network.forward(with: &operations)
            for start in stride(from: 0, to: logits.vocabularySize, by: 2_048) {
              _ = logits.logits(of: start..<min(start + 2_048, logits.vocabularySize))
            }
          }
        }
        let bare = seconds { workers.forEach(threads) { _ in products.run() } }
        if round > 0 {
          pass.append(whole)
          alone.append(bare)
        }
      }
      let ratios = zip(alone, pass).map { $0 / $1 }
      print("forward, \(count) tokens\t\(Double(threads * count) / pass.median)\ttokens/s")
      print("its matrix products alone, \(count) tokens\t\(Double(threads * count) / alone.median)\ttokens/s")
      print("products alone over the pass, \(count) tokens\t\(ratios.median)\tratio")
    }
  }
}

/// The products of a pass, on matrices of the same shapes: weights as they lie in the file, attention in its blocks.
private struct Products: Sendable {
  private struct Product {
    let rows, columns, inner, strideB: Int
    let isTransposed: Bool
    let count: Int
  }

  private let all: [Product]
  private let largest: (a: Int, b: Int, c: Int)

  init(of network: Network, tokenCount: Int) {
    let sizes = network.dimensions
    var all: [Product] = []
    func weight(_ map: LinearMap, count: Int = 1) {
      let isTransposed = map.weight.storedView?.isTransposed ?? false
      all.append(
        Product(
          rows: tokenCount, columns: map.weight.columnCount, inner: map.weight.rowCount,
          strideB: map.weight.storedView?.leadingDimension ?? map.weight.columnCount, isTransposed: isTransposed,
          count: count))
    }
    for block in network.blocks {
      for map in [block.attention.query, block.attention.key, block.attention.value, block.attention.output] {
        weight(map)
      }
      weight(block.mlp.input)
      weight(block.mlp.output)
      for start in stride(from: 0, to: tokenCount, by: 64) {
        let rows = min(64, tokenCount - start)
        all.append(
          Product(
            rows: rows, columns: start + rows, inner: sizes.dHead, strideB: sizes.dModel, isTransposed: true,
            count: sizes.headCount))
        all.append(
          Product(
            rows: rows, columns: sizes.dHead, inner: start + rows, strideB: sizes.dModel, isTransposed: false,
            count: sizes.headCount))
      }
    }
    for start in stride(from: 0, to: sizes.vocabularySize, by: 2_048) {
      let width = min(2_048, sizes.vocabularySize - start)
      weight(
        LinearMap(weight: network.unembedding.weight.sliced(axis: 1, start..<start + width), bias: nil))
    }
    self.all = all
    largest = (
      all.map { $0.rows * $0.inner }.max() ?? 0,
      all.map { ($0.isTransposed ? $0.columns : $0.inner) * $0.strideB }.max() ?? 0,
      all.map { $0.rows * $0.columns }.max() ?? 0
    )
  }

  func run() {
    let a = [Float](repeating: 0.5, count: largest.a)
    let b = [Float](repeating: 0.25, count: largest.b)
    var c = [Float](repeating: 0, count: largest.c)
    a.withUnsafeBufferPointer { a in
      b.withUnsafeBufferPointer { b in
        c.withUnsafeMutableBufferPointer { c in
          guard let a = a.baseAddress, let b = b.baseAddress, let c = c.baseAddress else { return }
          for product in all {
            for _ in 0..<product.count {
              Float.multiply(
                rows: product.rows, columns: product.columns, inner: product.inner, a, strideA: product.inner, b,
                strideB: product.strideB, isTransposed: product.isTransposed, factor: 1, beta: 0, into: c,
                strideC: product.columns)
            }
          }
        }
      }
    }
  }
}
