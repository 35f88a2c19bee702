import Formats
import Networks

extension ONNXOperations {
  package mutating func normalise(_ x: Activations, by norm: Norm) throws(Refusal) -> Activations {
    let gain = norm.gain
    if case .computed(let epsilon) = norm.deviation {
      return switch norm.kind {
      case .layer: layerNorm(x, norm, epsilon)
      case .rms: rootMeanSquareNorm(x, norm, epsilon)
      case .crms: compressedNorm(x, norm, epsilon)
      }
    }
    let centred: String
    switch norm.kind {
    case .rms, .crms: centred = x
    case .layer: centred = add("Sub", x, mean(of: x, as: norm.name + ".mean"), as: norm.name + ".centred")
    }
    let scaled: String
    switch norm.deviation {
    case .computed: preconditionFailure("written above")
    case .fixed(let deviation):
      // A vector, so that the product is all that is left of the division.
      scaled = add(
        "Mul", centred, external(gain.divided(by: deviation), norm.name + ".weight"), as: norm.name + ".scaled")
    case .perPosition(let deviations):
      let chosen = add(
        "Gather", external(deviations, norm.name + ".deviation"), "position_ids", as: norm.name + ".deviation.chosen")
      let column = add("Unsqueeze", chosen, constant([2], "axis.2"), as: norm.name + ".deviation.column")  // [B, S, 1]
      let divided = add("Div", centred, column, as: norm.name + ".divided")
      scaled = add("Mul", divided, external(gain, norm.name + ".weight"), as: norm.name + ".scaled")
    case .perToken(let usual, let endOfTextDeviation):
      guard let endOfText else {
        throw Refusal(
          .unsupported, subject: norm.name,
          "has another deviation for the end-of-text token, and no such token is known",
          advice: "say which it is in config.json: eos_token_id")
      }
      let isEnd = add("Equal", "input_ids", constant(endOfText, "end_of_text"), as: norm.name + ".is_end")
      let column = add("Unsqueeze", isEnd, constant([2], "axis.2"), as: norm.name + ".is_end.column")  // [B, S, 1]
      let factors = add(
        "Where", column, external(gain.divided(by: endOfTextDeviation), norm.name + ".weight.end_of_text"),
        external(gain.divided(by: usual), norm.name + ".weight"), as: norm.name + ".weight.chosen")  // [B, S, D]
      scaled = add("Mul", centred, factors, as: norm.name + ".scaled")
    }
    return shifted(scaled, by: norm)
  }

  private mutating func layerNorm(_ x: String, _ norm: Norm, _ epsilon: Double) -> String {
    var inputs = [x, external(norm.gain, norm.name + ".weight")]
    if let bias = norm.bias { inputs.append(external(bias, norm.name + ".bias")) }
    let output = unused(norm.name)
    append("LayerNormalization", inputs, [output], ["axis": .integer(-1), "epsilon": .number(Float(epsilon))])
    return output
  }

  /// x / √(mean of squares + ε) ⊙ γ: the operator set has no RMSNormalization yet, and onnxruntime computes these nodes in
  /// one pass, a gain of ones included.
  private mutating func rootMeanSquareNorm(_ x: String, _ norm: Norm, _ epsilon: Double) -> String {
    let wide = widened(x, norm)
    let squares = add("Pow", wide, single(2, "two"), as: norm.name + ".squares")
    let padded = add(
      "Add", mean(of: squares, as: norm.name + ".mean_square"), single(epsilon, norm.name + ".epsilon"),
      as: norm.name + ".variance")
    let divided = add("Div", wide, add("Sqrt", padded, as: norm.name + ".deviation"), as: norm.name + ".divided")
    let scaled = add(
      "Mul", narrowed(divided, norm), external(norm.gain, norm.name + ".weight"), as: norm.name + ".scaled")
    return shifted(scaled, by: norm)
  }

  /// z / √((Σz² + (Σz)²) / d + ε) ⊙ γ for z [d − 1].
  private mutating func compressedNorm(_ z: String, _ norm: Norm, _ epsilon: Double) -> String {
    let wide = widened(z, norm)
    let sum = reduced("ReduceSum", wide, as: norm.name + ".sum")
    let squares = add(
      "Add", reduced("ReduceSumSquare", wide, as: norm.name + ".sum_square"),
      add("Mul", sum, sum, as: norm.name + ".last_square"), as: norm.name + ".squares")
    let share = single(1 / Double(network.dimensions.dModel + 1), "width.reciprocal")
    let padded = add(
      "Add", add("Mul", squares, share, as: norm.name + ".mean_square"), single(epsilon, norm.name + ".epsilon"),
      as: norm.name + ".variance")
    let divided = add("Div", wide, add("Sqrt", padded, as: norm.name + ".deviation"), as: norm.name + ".divided")
    let narrow = narrowed(divided, norm)
    guard norm.gain.constantValue != 1 else { return shifted(narrow, by: norm) }
    return shifted(
      add("Mul", narrow, external(norm.gain, norm.name + ".weight"), as: norm.name + ".scaled"), by: norm)
  }

  /// Squares of what F16 can hold are more than it can hold: norms are computed in F32.
  private mutating func widened(_ x: String, _ norm: Norm) -> String {
    type == .f32 ? x : cast(x, to: .f32, as: norm.name + ".wide")
  }

  private mutating func narrowed(_ x: String, _ norm: Norm) -> String {
    type == .f32 ? x : cast(x, to: type, as: norm.name + ".narrow")
  }

  private mutating func cast(_ x: String, to type: ElementType, as name: String) -> String {
    add("Cast", x, as: name, attributes: ["to": .integer(Int(type.onnxCode ?? 0))])
  }

  private mutating func shifted(_ x: String, by norm: Norm) -> String {
    guard let bias = norm.bias else { return x }
    return add("Add", x, external(bias, norm.name + ".bias"), as: norm.name)
  }

  /// Over the features: [B, S, D] → [B, S, 1].
  private mutating func mean(of x: String, as name: String) -> String { reduced("ReduceMean", x, as: name) }

  private mutating func reduced(_ operation: String, _ x: String, as name: String) -> String {
    add(operation, x, constant([-1], "axis.last"), as: name, attributes: ["keepdims": .integer(1)])
  }
}
