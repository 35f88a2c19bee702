import NormFoldNetworks

extension LinearMap {
  /// The map that computes on x what this one computes on the fixed norm of x.
  ///
  /// For y = (xC)/σ ⊙ γ + β, where C subtracts the mean over the features, and y·W + b:
  ///
  ///     W' = C · diag(γ/σ) · W        scale the rows, then subtract each column's mean
  ///     b' = b + βᵀ · W               with the W that was stored; β is not divided by σ
  ///
  /// A map without a bias gets one. For an RMS norm there is no C. Exact for every γ, β and finite σ > 0.
  ///
  /// - Parameters:
  ///   - gain: γ [in]
  ///   - deviation: σ [in]
  ///   - bias: β [in]
  package func absorbing(kind: Norm.Kind, gain: Parameter, deviation: Parameter, bias: Parameter?) -> LinearMap {
    var map = absorbing(gain: gain.divided(by: deviation), bias: nil)
    if kind == .layer { map.weight = map.weight.centred(axis: 0) }
    return map.addingToBias(bias?.projected(through: weight))
  }

  /// The map that computes on a bare norm what this one computes on the norm with its gain γ [in] and bias β [in]: W' =
  /// diag(γ) · W, b' = b + βᵀ · W. The norm itself, computed or not, stays.
  package func absorbing(gain: Parameter, bias: Parameter?) -> LinearMap {
    LinearMap(weight: weight.scaled(by: gain, axis: 0), bias: self.bias)
      .addingToBias(bias?.projected(through: weight))
  }

  /// The map that computes what the fixed norm of this one's output is: W' = W · C · diag(γ/σ), b' = b · C ⊙ γ/σ + β.
  ///
  /// - Parameters:
  ///   - gain: γ [out]
  ///   - deviation: σ [out]
  ///   - bias: β [out]
  package func followed(by kind: Norm.Kind, gain: Parameter, deviation: Parameter, bias: Parameter?) -> LinearMap {
    let factor = gain.divided(by: deviation)
    func normalised(_ parameter: Parameter, axis: Int) -> Parameter {
      (kind == .layer ? parameter.centred(axis: axis) : parameter).scaled(by: factor, axis: axis)
    }
    return LinearMap(weight: normalised(weight, axis: 1), bias: self.bias.map { normalised($0, axis: 0) })
      .addingToBias(bias)
  }

  /// The map with `shift` [out] added to its bias; it gets one where it has none.
  func addingToBias(_ shift: Parameter?) -> LinearMap {
    guard let shift else { return self }
    return LinearMap(weight: weight, bias: bias.map { $0.adding(shift) } ?? shift)
  }
}
