import ArgumentParser
import Foundation
import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks
import NormFoldVerify

/// The shapes of the four published GPT-2.
enum Size: String, CaseIterable, ExpressibleByArgument {
  case small, medium, large, xl

  var shape: (depth: Int, width: Int, heads: Int) {
    switch self {
    case .small: (12, 768, 12)
    case .medium: (24, 1_024, 16)
    case .large: (36, 1_280, 20)
    case .xl: (48, 1_600, 25)
    }
  }
}

/// Writes a GPT-2 in the published form (epsilon 1e12): random weights of the sizes that GPT-2 is initialised with, and
/// norms fixed at the deviations that this very network has with its norms computed, so that activations stay as
/// large as in a trained network.
struct MakeCheckpoint: ParsableCommand {
  static let configuration = CommandConfiguration(commandName: "checkpoint")

  @Argument var size: Size
  @Argument var directory: String
  @Option(help: "Blocks, if not as many as the published model has.") var depth: Int?

  private static let vocabularySize = 50_257
  private static let contextLength = 1_024

  func run() throws {
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    let ones = try deviations(of: write(gains: nil, epsilon: 1e-5))
    _ = try write(gains: ones.map { 1e6 / $0 }, epsilon: 1e12)
  }

  /// The deviation at each norm: that of the stream behind the block before it.
  private func deviations(of network: Network) throws -> [Double] {
    let probe = Probe(name: "", tokens: (0..<64).map { $0 * 769 % Self.vocabularySize })
    var execution = Execution(network, on: FastBackend<Float>(probes: [probe]))
    func deviation(atDepth depth: Int) -> Double {
      let values = execution.stream(atDepth: depth).array.map(Double.init)
      let mean = values.reduce(0, +) / Double(values.count)
      return (values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(values.count)).squareRoot()
    }
    var result: [Double] = []
    try execution.run(stage: 0)
    for block in 0..<network.blockCount {
      let before = deviation(atDepth: block)
      try execution.run(stage: block + 1)
      result += [before, (before + deviation(atDepth: block + 1)) / 2]
    }
    return result + [deviation(atDepth: network.blockCount)]
  }

  /// - Parameter gains: what the gain of each norm is multiplied by.
  private func write(gains: [Double]?, epsilon: Double) throws -> Network {
    let (published, width, heads) = size.shape
    let blocks = depth ?? published
    let configuration: [String: Any] = [
      "activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "n_layer": blocks,
      "n_embd": width, "n_head": heads, "n_positions": Self.contextLength, "n_ctx": Self.contextLength,
      "vocab_size": Self.vocabularySize, "bos_token_id": Self.vocabularySize - 1,
      "eos_token_id": Self.vocabularySize - 1, "tie_word_embeddings": true,
    ]
    var text = String(
      decoding: try JSONSerialization.data(withJSONObject: configuration, options: .sortedKeys), as: UTF8.self)
    // transformers insists on a number with a point or an exponent.
    text = text.dropLast() + ",\"layer_norm_epsilon\":\(epsilon == 1e12 ? "1e12" : "1e-5")}"
    try Data(text.utf8).write(to: URL(filePath: directory + "/config.json"))
    let path = directory + "/model.safetensors"
    try? FileManager.default.removeItem(atPath: path)
    let shapes = Self.shapes(blocks: blocks, width: width)
    let writer = try TensorWriter(
      safetensors: path, tensors: shapes.map { TensorInfo(name: $0.name, type: .f32, shape: $0.shape) },
      metadata: ["format": "pt"])
    var normals = Normals(state: 1)
    let byName = Dictionary(uniqueKeysWithValues: shapes.map { ($0.name, $0) })
    for info in writer.order {
      guard let shape = byName[info.name] else { continue }
      let factor = shape.norm.flatMap { norm in gains.map { Float($0[norm]) } } ?? 1
      var remaining = info.elementCount
      while remaining > 0 {
        let count = min(remaining, 1 << 20)
        let values = (0..<count).map { _ in (shape.mean + shape.deviation * normals.next()) * factor }
        try values.withUnsafeBytes { try writer.append($0) }
        remaining -= count
      }
    }
    try writer.finish()
    return try Model(opening: directory).network
  }

  private struct Shape {
    let name: String
    let shape: [Int]
    var mean: Float = 0
    var deviation: Float
    /// For a gain: its number in the order of computation.
    var norm: Int?
  }

  private static func shapes(blocks: Int, width: Int) -> [Shape] {
    let branch = 0.02 / Float(2 * blocks).squareRoot()
    func block(_ number: Int) -> [Shape] {
      let prefix = "transformer.h.\(number)."
      return [
        Shape(name: prefix + "ln_1.weight", shape: [width], mean: 1, deviation: 0.2, norm: 2 * number),
        Shape(name: prefix + "ln_1.bias", shape: [width], deviation: 0.1),
        Shape(name: prefix + "attn.c_attn.weight", shape: [width, 3 * width], deviation: 0.02),
        Shape(name: prefix + "attn.c_attn.bias", shape: [3 * width], deviation: 0.02),
        Shape(name: prefix + "attn.c_proj.weight", shape: [width, width], deviation: branch),
        Shape(name: prefix + "attn.c_proj.bias", shape: [width], deviation: 0.02),
        Shape(name: prefix + "ln_2.weight", shape: [width], mean: 1, deviation: 0.2, norm: 2 * number + 1),
        Shape(name: prefix + "ln_2.bias", shape: [width], deviation: 0.1),
        Shape(name: prefix + "mlp.c_fc.weight", shape: [width, 4 * width], deviation: 0.02),
        Shape(name: prefix + "mlp.c_fc.bias", shape: [4 * width], deviation: 0.02),
        Shape(name: prefix + "mlp.c_proj.weight", shape: [4 * width, width], deviation: branch),
        Shape(name: prefix + "mlp.c_proj.bias", shape: [width], deviation: 0.02),
      ]
    }
    return [
      Shape(name: "transformer.wte.weight", shape: [vocabularySize, width], deviation: 0.14),
      Shape(name: "transformer.wpe.weight", shape: [contextLength, width], deviation: 0.08),
      Shape(name: "transformer.ln_f.weight", shape: [width], mean: 1, deviation: 0.2, norm: 2 * blocks),
      Shape(name: "transformer.ln_f.bias", shape: [width], deviation: 0.1),
    ] + (0..<blocks).flatMap(block)
  }
}

/// Numbers with the normal distribution, drawn from a table of its quantiles: a billion of them in a few seconds.
private struct Normals {
  private var state: UInt64
  private let table: [Float]

  init(state: UInt64) {
    self.state = state
    // Pairs of quantiles by Box and Muller's formula, from a grid of radii and angles.
    table = (0..<65_536).map { index in
      let radius = (-2 * log((Double(index / 256) + 0.5) / 256)).squareRoot()
      return Float(radius * cos(2 * .pi * (Double(index % 256) + 0.5) / 256))
    }
  }

  mutating func next() -> Float {
    state ^= state << 13
    state ^= state >> 7
    state ^= state << 17
    return table[Int(state & 0xFFFF)]
  }
}

/// Writes a file whose header has many tensors.
struct MakeHeader: ParsableCommand {
  static let configuration = CommandConfiguration(commandName: "header")

  @Argument var path: String
  @Option var tensors = 10_000
  @Option var rounds = 21

  func run() throws {
    try? FileManager.default.removeItem(atPath: path)
    let infos = (0..<tensors).map {
      TensorInfo(name: "transformer.h.\($0).attn.c_attn.weight", type: .f32, shape: [2, 2])
    }
    let writer = try TensorWriter(safetensors: path, tensors: infos)
    for _ in infos { try writer.append([UInt8](repeating: 0, count: 16)) }
    try writer.finish()
    let times = try (0..<rounds).map { _ in
      try seconds { _ = try CheckpointLocation(path: path).open() }
    }
    print("open a header of \(tensors) tensors\t\(times.median * 1e3)\tms")
  }
}
