extension Parameter {
  /// Is true if rows of the recipe run across the rows of the stored tensors that the recipe mostly consists of.
  package var readsAcrossStoredRows: Bool {
    switch expression {
    case .transposed: true
    case .scaled(let inner, _, _), .centred(let inner, _), .multiplied(let inner, _), .slice(let inner, _, _),
      .compressed(let inner, _), .reordered(let inner, _, _):
      inner.readsAcrossStoredRows
    case .concatenation(let parts, _): parts[0].readsAcrossStoredRows
    case .sum(let a, _): a.readsAcrossStoredRows
    default: false
    }
  }
}
