import ArgumentParser
import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks
import NormFoldVerify

/// The forward pass in single precision against its matrix products alone, both on two sequences at a time, one to a
/// thread, as a verification runs its two networks. All logits are computed. A pass finds the memory of the one before it, as the
/// products do, and as passes of one command do.
struct Forward: ParsableCommand {
  @Argument var checkpoint: String
  @Option(parsing: .upToNextOption) var tokens = [256, 1_024]
  @Option var rounds = 5
  @Option var threads = 2

  func run() throws {
    let network = try Model(opening: checkpoint).network
    let workers = Workers(count: threads)
    let memory = KeptMemory()
    defer { withExtendedLifetime(memory) {} }
    for count in tokens {
      let probe = Probe(name: "", tokens: (0..<count).map { $0 * 769 % network.vocabularySize })
      let products = Products(of: network, tokenCount: count)
      let operands = (0..<threads).map { _ in Products.Operands(for: products) }
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
        let bare = seconds { workers.forEach(threads) { products.run(on: operands[$0]) } }
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

/// The products of a pass, or of a step of training, with the weights where they lie in the file, and attention in its blocks.
struct Products: Sendable {
  private struct Product {
    let rows, columns, inner: Int
    /// nil for a product of two activations.
    let weight: StoredView?
    let strideB: Int
    let isTransposed: Bool
    var isATransposed = false
    let count: Int
  }

  private let all: [Product]
  private let largest: (a: Int, b: Int, c: Int)

  /// - Parameter isTraining: whether the way back is in it.
  init(of network: Network, tokenCount: Int, isTraining: Bool = false) {
    var all: [Product] = []
    func add(_ parameter: Parameter) {
      guard let view = parameter.storedView else { preconditionFailure("\(parameter) is computed") }
      let (inputs, outputs) = (parameter.rowCount, parameter.columnCount)
      all.append(
        Product(
          rows: tokenCount, columns: outputs, inner: inputs, weight: view, strideB: view.leadingDimension,
          isTransposed: view.isTransposed, count: 1))
      guard isTraining else { return }
      all.append(
        Product(
          rows: tokenCount, columns: inputs, inner: outputs, weight: view, strideB: view.leadingDimension,
          isTransposed: !view.isTransposed, count: 1))
      let (rows, columns) = view.isTransposed ? (outputs, inputs) : (inputs, outputs)
      all.append(
        Product(
          rows: rows, columns: columns, inner: tokenCount, weight: nil, strideB: columns, isTransposed: false,
          isATransposed: true, count: 1))
    }
    for (path, map) in network.linearMaps where path != network.output { add(map.weight) }
    for (path, attention) in network.attentions {
      let width = network.width(of: path)
      let headWidth = width / attention.headCount
      for start in stride(from: 0, to: tokenCount, by: 64) {
        let rows = min(64, tokenCount - start)
        // Scores and what they mix; on the way back the scores again, their derivatives, and those by the queries.
        let forward = [(start + rows, headWidth, true), (headWidth, start + rows, false)]
        let backward = [
          (start + rows, headWidth, true), (start + rows, headWidth, true), (headWidth, start + rows, false),
        ]
        for (columns, inner, isTransposed) in forward + (isTraining ? backward : []) {
          all.append(
            Product(
              rows: rows, columns: columns, inner: inner, weight: nil, strideB: width, isTransposed: isTransposed,
              count: attention.headCount))
        }
        guard isTraining else { continue }
        // Those by the keys and by the values.
        all.append(
          Product(
            rows: start + rows, columns: headWidth, inner: rows, weight: nil, strideB: width, isTransposed: false,
            isATransposed: true, count: 2 * attention.headCount))
      }
    }
    guard let unembedding = network.unembedding else { preconditionFailure("the output is no linear map") }
    let part = isTraining ? network.vocabularySize : 2_048
    for start in stride(from: 0, to: network.vocabularySize, by: part) {
      add(unembedding.weight.sliced(axis: 1, start..<min(start + part, network.vocabularySize)))
    }
    self.all = all
    largest = (
      all.map { $0.rows * $0.inner }.max() ?? 0,
      all.filter { $0.weight == nil }.map { ($0.isTransposed ? $0.columns : $0.inner) * $0.strideB }.max() ?? 0,
      all.map { $0.rows * $0.columns }.max() ?? 0
    )
  }

  /// Numbers to multiply, and room for results, which a run of the products does not ask the kernel for.
  final class Operands: @unchecked Sendable {
    fileprivate let a, b, c: UnsafeMutablePointer<Float>

    init(for products: Products) {
      func filled(_ count: Int, with value: Float) -> UnsafeMutablePointer<Float> {
        let numbers = UnsafeMutablePointer<Float>.allocate(capacity: max(1, count))
        numbers.initialize(repeating: value, count: count)
        return numbers
      }
      a = filled(products.largest.a, with: 0.5)
      b = filled(products.largest.b, with: 0.25)
      c = filled(products.largest.c, with: 0)
    }

    deinit {
      for numbers in [a, b, c] { numbers.deallocate() }
    }
  }

  func run(on operands: Operands) {
    let (a, b, c) = (operands.a, operands.b, operands.c)
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

  private func multiply(
    _ product: Product, _ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>, _ c: UnsafeMutablePointer<Float>
  ) {
    if product.isATransposed {
      return Float.multiplyTransposed(
        rows: product.rows, columns: product.columns, inner: product.inner, a, strideA: product.rows, b,
        strideB: product.strideB, beta: 1, into: c, strideC: product.columns)
    }
    Float.multiply(
      rows: product.rows, columns: product.columns, inner: product.inner, a, strideA: product.inner, b,
      strideB: product.strideB, isTransposed: product.isTransposed, factor: 1, beta: 0, into: c,
      strideC: product.columns)
  }
}
