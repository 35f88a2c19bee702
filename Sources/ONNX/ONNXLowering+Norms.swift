import NormFoldFormats
import NormFoldNetworks

extension ONNXLowering {
  mutating func normalise(_ x: String, by norm: Norm, at name: String) throws(Refusal) -> String {
    let gain = norm.gain
    if case .computed(let epsilon) = norm.deviation {
      return switch norm.kind {
      // A LayerNorm is newer than the operators of the plain form.
      case .layer where form.isPlain:
        rootMeanSquareNorm(
          add("Sub", x, mean(of: x, as: name + ".mean"), as: name + ".centred"), norm, epsilon, name
        )
      case .layer: layerNorm(x, norm, epsilon, name)
      case .rms: rootMeanSquareNorm(x, norm, epsilon, name)
      case .crms: compressedNorm(x, norm, epsilon, name)
      }
    }
    let centred: String
    switch norm.kind {
    case .rms, .crms: centred = x
    case .layer: centred = add("Sub", x, mean(of: x, as: name + ".mean"), as: name + ".centred")
    }
    let scaled: String
    switch norm.deviation {
    case .computed: preconditionFailure("written above")
    case .fixed(let deviation):
      // A vector, so that the product is all that is left of the division.
      scaled = add(
        "Mul", centred, external(gain.divided(by: deviation), name + ".weight"),
        as: name + ".weighted")
    case .perPosition(let deviations) where form.isPlain:
      let column = add(
        "Unsqueeze", external(deviations, name + ".deviation"), constant([1], "axis.1"),
        as: name + ".deviation.column")  // [S, 1]
      let divided = add("Div", centred, column, as: name + ".divided")
      scaled = add("Mul", divided, external(gain, name + ".weight"), as: name + ".weighted")
    case .perPosition(let deviations):
      let chosen = add(
        "Gather", external(deviations, name + ".deviation"), "position_ids", as: name + ".deviation.chosen")
      let column = add("Unsqueeze", chosen, constant([2], "axis.2"), as: name + ".deviation.column")  // [B, S, 1]
      let divided = add("Div", centred, column, as: name + ".divided")
      scaled = add("Mul", divided, external(gain, name + ".weight"), as: name + ".weighted")
    case .perToken(let usual, let endOfTextDeviation):
      guard let endOfText else {
        throw Refusal(
          .unsupported, subject: norm.name,
          "has another deviation for the end-of-text token, and no such token is known",
          advice: "say which it is in config.json: eos_token_id")
      }
      let isEnd = add("Equal", "input_ids", constant(endOfText, "end_of_text"), as: name + ".is_end")
      let column = add("Unsqueeze", isEnd, constant([2], "axis.2"), as: name + ".is_end.column")  // [B, S, 1]
      let factors = add(
        "Where", column, external(gain.divided(by: endOfTextDeviation), name + ".weight.end_of_text"),
        external(gain.divided(by: usual), name + ".weight"), as: name + ".weight.chosen")  // [B, S, D]
      scaled = add("Mul", centred, factors, as: name + ".weighted")
    }
    return shifted(scaled, by: norm, name)
  }

  private mutating func layerNorm(_ x: String, _ norm: Norm, _ epsilon: Double, _ name: String) -> String {
    var inputs = [x, external(norm.gain, name + ".weight")]
    if let bias = norm.bias { inputs.append(external(bias, name + ".bias")) }
    let output = unused(name)
    append("LayerNormalization", inputs, [output], ["axis": .integer(-1), "epsilon": .number(Float(epsilon))])
    return output
  }

  /// x / √(mean of squares + ε) ⊙ γ: the operator set has no RMSNormalization yet, and onnxruntime computes these nodes in
  /// one pass, a gain of ones included.
  private mutating func rootMeanSquareNorm(_ x: String, _ norm: Norm, _ epsilon: Double, _ name: String) -> String {
    let wide = widened(x, name)
    let squares = add("Pow", wide, single(2, "two"), as: name + ".squares")
    let padded = add(
      "Add", mean(of: squares, as: name + ".mean_square"), single(epsilon, name + ".epsilon"),
      as: name + ".variance")
    let divided = add("Div", wide, add("Sqrt", padded, as: name + ".deviation"), as: name + ".divided")
    let scaled = add(
      "Mul", narrowed(divided, name), external(norm.gain, name + ".weight"), as: name + ".weighted")
    return shifted(scaled, by: norm, name)
  }

  /// z / √((Σz² + (Σz)²) / d + ε) ⊙ γ for z [d − 1].
  private mutating func compressedNorm(_ z: String, _ norm: Norm, _ epsilon: Double, _ name: String) -> String {
    let wide = widened(z, name)
    let sum = reduced("ReduceSum", wide, as: name + ".sum")
    let sumOfSquares: String
    if form.isPlain {
      let each = add("Pow", wide, single(2, "two"), as: name + ".each_square")
      sumOfSquares = reduced("ReduceSum", each, as: name + ".sum_square")
    } else {
      sumOfSquares = reduced("ReduceSumSquare", wide, as: name + ".sum_square")
    }
    let squares = add(
      "Add", sumOfSquares, add("Mul", sum, sum, as: name + ".last_square"), as: name + ".squares")
    let share = single(1 / Double(norm.gain.elementCount + 1), "width.reciprocal")
    let padded = add(
      "Add", add("Mul", squares, share, as: name + ".mean_square"), single(epsilon, name + ".epsilon"),
      as: name + ".variance")
    let divided = add("Div", wide, add("Sqrt", padded, as: name + ".deviation"), as: name + ".divided")
    let narrow = narrowed(divided, name)
    guard norm.gain.constantValue != 1 else { return shifted(narrow, by: norm, name) }
    return shifted(
      add("Mul", narrow, external(norm.gain, name + ".weight"), as: name + ".weighted"), by: norm, name)
  }

  /// Squares of what F16 can hold are more than it can hold: norms are computed in F32.
  private mutating func widened(_ x: String, _ name: String) -> String {
    type == .f32 ? x : cast(x, to: .f32, as: name + ".wide")
  }

  private mutating func narrowed(_ x: String, _ name: String) -> String {
    type == .f32 ? x : cast(x, to: type, as: name + ".narrow")
  }

  private mutating func cast(_ x: String, to type: ElementType, as name: String) -> String {
    add("Cast", x, as: name, attributes: ["to": .integer(Int(type.onnxCode ?? 0))])
  }

  private mutating func shifted(_ x: String, by norm: Norm, _ name: String) -> String {
    guard let bias = norm.bias else { return x }
    return add("Add", x, external(bias, name + ".bias"), as: name)
  }

  /// Over the features: [B, S, D] → [B, S, 1].
  private mutating func mean(of x: String, as name: String) -> String { reduced("ReduceMean", x, as: name) }

  private mutating func reduced(_ operation: String, _ x: String, as name: String) -> String {
    // Until operator set 18 the axes of a mean were an attribute.
    if form.isPlain, operation == "ReduceMean" {
      return add(
        operation, x, as: name, attributes: ["axes": .integers([-1]), "keepdims": .integer(1)])
    }
    return add(
      operation, x, constant([-1], "axis.last"), as: name, attributes: ["keepdims": .integer(1)])
  }
}
