import ArgumentParser
import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks
import NormFoldVerify

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
      let probe = Probe(name: "", tokens: (0..<count).map { $0 * 769 % network.vocabularySize })
      let products = Products(of: network, tokenCount: count)
      var pass: [Double] = []
      var alone: [Double] = []
      for round in 0...rounds {
        let whole = try seconds {
          try workers.forEach(threads) { (_) throws(Refusal) in
            let logits = try network.logits(on: FastBackend<Float>(probes: [probe]))
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

/// The products of a pass, with the weights where they lie in the file, and attention in its blocks.
private struct Products: Sendable {
  private struct Product {
    let rows, columns, inner: Int
    /// nil for a product of two activations.
    let weight: StoredView?
    let strideB: Int
    let isTransposed: Bool
    let count: Int
  }

  private let all: [Product]
  private let largest: (a: Int, b: Int, c: Int)

  init(of network: Network, tokenCount: Int) {
    var all: [Product] = []
    func add(_ parameter: Parameter) {
      guard let view = parameter.storedView else { preconditionFailure("\(parameter) is computed") }
      all.append(
        Product(
          rows: tokenCount, columns: parameter.columnCount, inner: parameter.rowCount, weight: view,
          strideB: view.leadingDimension, isTransposed: view.isTransposed, count: 1))
    }
    for (path, map) in network.linearMaps where path != network.output { add(map.weight) }
    for (path, attention) in network.attentions {
      let width = network.width(of: path)
      let headWidth = width / attention.headCount
      for start in stride(from: 0, to: tokenCount, by: 64) {
        let rows = min(64, tokenCount - start)
        for (columns, inner, isTransposed) in [(start + rows, headWidth, true), (headWidth, start + rows, false)] {
          all.append(
            Product(
              rows: rows, columns: columns, inner: inner, weight: nil, strideB: width, isTransposed: isTransposed,
              count: attention.headCount))
        }
      }
    }
    guard let unembedding = network.unembedding else { preconditionFailure("the output is no linear map") }
    for start in stride(from: 0, to: network.vocabularySize, by: 2_048) {
      let range = start..<min(start + 2_048, network.vocabularySize)
      add(unembedding.weight.sliced(axis: 1, range))
    }
    self.all = all
    largest = (
      all.map { $0.rows * $0.inner }.max() ?? 0,
      all.filter { $0.weight == nil }.map { ($0.isTransposed ? $0.columns : $0.inner) * $0.strideB }.max() ?? 0,
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
            guard let view = product.weight else {
              for _ in 0..<product.count { multiply(product, a, b, c) }
              continue
            }
            view.tensor.withBytes { bytes in
              bytes.withUnsafeBytes { bytes in
                guard let start = bytes.baseAddress else { return }
                multiply(product, a, start.assumingMemoryBound(to: Float.self) + view.elementOffset, c)
              }
            }
          }
        }
      }
    }
  }

  private func multiply(
    _ product: Product, _ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>, _ c: UnsafeMutablePointer<Float>
  ) {
    Float.multiply(
      rows: product.rows, columns: product.columns, inner: product.inner, a, strideA: product.inner, b,
      strideB: product.strideB, isTransposed: product.isTransposed, factor: 1, beta: 0, into: c,
      strideC: product.columns)
  }
}
