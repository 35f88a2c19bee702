import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks
import Testing
import TestSupport

@testable import NormFoldTraining

/// Pullbacks against PyTorch's autograd (`fixtures/generate/removal.py`).
@Suite struct PullbackTests {
  private let reference: Reference

  init() throws { reference = try Reference() }

  @Test(
    "Norms: computed and fixed, with and without the mean",
    arguments: [
      ("layer_norm", Norm.Kind.layer), ("fixed_norm", .layer), ("rms_norm", .rms), ("fixed_rms", .rms),
    ])
  func norms(name: String, kind: Norm.Kind) throws {
    let isFixed = name.hasPrefix("fixed")
    let norm = Norm(
      name: name, kind: kind, gain: reference.parameter("\(name).in.gain"),
      bias: kind == .layer ? reference.parameter("\(name).in.bias") : nil,
      deviation: isFixed
        ? .fixed(reference.parameter("\(name).in.sigma")) : .computed(epsilon: kind == .layer ? 1e-5 : 1e-6))
    let result = try Pullback.norm(
      reference.matrix("\(name).up"), of: reference.matrix("\(name).in.x"), by: norm, workers: .all)
    expect(result.derivative.array, "\(name).grad.x")
    expect(result.gain, "\(name).grad.gain")
    if kind == .layer { expect(result.bias, "\(name).grad.bias") }
  }

  @Test(
    "Activations, on a grid that reaches both ends",
    arguments: [
      ("gelu_tanh", Activation.geluTanh), ("gelu_erf", .geluErf), ("silu", .silu), ("relu", .relu),
      ("leaky_relu", .leakyReLU(negativeSlope: 0.01)),
    ])
  func activations(name: String, activation: Activation) {
    let result = Pullback.activation(
      reference.matrix("\(name).up"), of: reference.matrix("\(name).in.x"), by: activation, workers: .all)
    expect(result.array, "\(name).grad.x")
  }

  @Test("Attention whose heads share keys and values, over more rows than are computed together")
  func attention() {
    let own = Attention(headCount: 4, keyValueHeadCount: 2, scale: 1 / 6.0.squareRoot())
    let result = Pullback.attention(
      reference.matrix("attention.up"), query: reference.matrix("attention.in.query"),
      key: reference.matrix("attention.in.key"), value: reference.matrix("attention.in.value"),
      output: reference.matrix("attention.out"), by: own, workers: .all)
    expect(result.query.array, "attention.grad.query")
    expect(result.key.array, "attention.grad.key")
    expect(result.value.array, "attention.grad.value")
  }

  @Test("AdamW takes PyTorch's steps")
  func optimizer() throws {
    try steps(as: Double.self, "f64", tolerance: 1e-14)
    try steps(as: Float.self, "f32", tolerance: 2e-7)
  }

  private func steps<Scalar: ArithmeticScalar>(
    as scalar: Scalar.Type, _ type: String, tolerance: Double
  ) throws {
    // A table that decays and a gain that does not.
    var network = Network(contextLength: 4)
    let table = reference.parameter("adamw.\(type).0.parameter.0")
    let gain = reference.parameter("adamw.\(type).0.parameter.1")
    network.append(.embed(table, by: .token), at: "embedding.tokens")
    network.append(
      .norm(Norm(name: "", kind: .rms, gain: gain, bias: nil, deviation: .computed(epsilon: 1))),
      to: "embedding.tokens", at: "final.norm")
    let parameters = TrainedParameters<Scalar>(of: network, workers: Workers(count: 1))
    let optimizer = AdamW(betas: (0.9, 0.95), epsilon: 1e-8, weightDecay: 0.1)
    for step in 1...6 {
      for (index, entry) in parameters.entries.enumerated() {
        for (place, value) in reference.values("adamw.\(type).\(step).gradient.\(index)").enumerated() {
          parameters.gradients.values[entry.offset + place] = Scalar(value)
        }
      }
      let norm = AdamW.norm(ofGradientsOf: parameters, workers: Workers(count: 1))
      #expect(abs(norm - reference.values("adamw.\(type).\(step).norm")[0]) <= tolerance * norm)
      optimizer.step(
        parameters, number: step, rate: 1e-3 * Double(step) / 6, clipping: min(1, 1 / (norm + 1e-6)),
        workers: Workers(count: 2))
      for (index, entry) in parameters.entries.enumerated() {
        let expected = reference.values("adamw.\(type).\(step).parameter.\(index)")
        for (place, value) in expected.enumerated() {
          #expect(abs(Double(parameters.allValues[entry.offset + place]) - value) <= tolerance, "\(type) \(step)")
        }
      }
    }
  }

  private func expect(_ found: [Double], _ name: String, sourceLocation: SourceLocation = #_sourceLocation) {
    let expected = reference.values(name)
    #expect(found.count == expected.count, sourceLocation: sourceLocation)
    let difference = zip(found, expected).reduce(0) { max($0, abs($1.0 - $1.1)) }
    #expect(difference <= 1e-12, "\(name)", sourceLocation: sourceLocation)
  }
}

/// `fixtures/removal/reference.safetensors`.
struct Reference {
  let checkpoint: Checkpoint

  init() throws { checkpoint = try Checkpoint(safetensors: Fixtures.path("removal/reference.safetensors")) }

  func tensor(_ name: String) -> Tensor {
    guard let tensor = checkpoint[name] else { fatalError("the reference has no \(name)") }
    return tensor
  }

  func values(_ name: String) -> [Double] { tensor(name).decoded(as: Double.self) }

  func parameter(_ name: String) -> Parameter { .stored(tensor(name)) }

  func matrix(_ name: String) -> Matrix<Double> {
    let shape = tensor(name).shape
    let result = Matrix<Double>(rows: shape[0], columns: shape[1])
    for (index, value) in values(name).enumerated() { result.values[index] = value }
    return result
  }
}
