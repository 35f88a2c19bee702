extension Network {
  /// The same network for sequences of at most so many tokens: what belongs to positions behind them is left out.
  ///
  /// - Precondition: there are as many positions.
  package func shortened(to length: Int) -> Network {
    precondition((1...contextLength).contains(length))
    var result = mappingOperations { _, operation in
      switch operation {
      case .embed(let table, .position):
        return .embed(table.sliced(axis: 0, 0..<length), by: .position)
      case .norm(var norm):
        guard case .perPosition(let deviations) = norm.deviation else { return operation }
        norm.deviation = .perPosition(deviations.sliced(axis: 0, 0..<length))
        return .norm(norm)
      default: return operation
      }
    }
    result.contextLength = length
    return result
  }
}
