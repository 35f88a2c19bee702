import Networks

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
    let scaled = weight.scaled(by: gain.divided(by: deviation), axis: 0)
    let shift = bias?.projected(through: weight)
    let folded: Parameter? =
      switch (self.bias, shift) {
      case (let own?, let shift?): own.adding(shift)
      case (let own, let shift): own ?? shift
      }
    return LinearMap(weight: kind == .layer ? scaled.centred(axis: 0) : scaled, bias: folded)
  }
}
