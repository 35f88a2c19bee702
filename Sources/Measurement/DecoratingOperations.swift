import Formats
import Networks

/// Operations that are another's, but for those that the decorator implements itself.
protocol DecoratingOperations<Base>: ForwardOperations
where Activations == Base.Activations, Logits == Base.Logits {
  associatedtype Base: ForwardOperations
  var base: Base { get set }
}

extension DecoratingOperations {
  mutating func embed(tokens: Parameter, positions: Parameter?) throws(Refusal) -> Base.Activations {
    try base.embed(tokens: tokens, positions: positions)
  }

  mutating func normalise(_ x: Base.Activations, by norm: Norm) throws(Refusal) -> Base.Activations {
    try base.normalise(x, by: norm)
  }

  mutating func apply(_ map: LinearMap, to x: Base.Activations) throws(Refusal) -> Base.Activations {
    try base.apply(map, to: x)
  }

  mutating func attend(
    query: Base.Activations, key: Base.Activations, value: Base.Activations, block: Int, headCount: Int,
    keyValueHeadCount: Int, rotary: Rotary?, scale: Double
  ) throws(Refusal) -> Base.Activations {
    try base.attend(
      query: query, key: key, value: value, block: block, headCount: headCount, keyValueHeadCount: keyValueHeadCount,
      rotary: rotary, scale: scale)
  }

  mutating func activate(_ x: Base.Activations, by activation: Activation) throws(Refusal) -> Base.Activations {
    try base.activate(x, by: activation)
  }

  mutating func add(_ a: Base.Activations, _ b: Base.Activations) throws(Refusal) -> Base.Activations {
    try base.add(a, b)
  }

  mutating func multiply(_ a: Base.Activations, _ b: Base.Activations) throws(Refusal) -> Base.Activations {
    try base.multiply(a, b)
  }

  mutating func scale(_ x: Base.Activations, by factor: Double) throws(Refusal) -> Base.Activations {
    try base.scale(x, by: factor)
  }

  mutating func unembed(_ x: Base.Activations, by map: LinearMap) throws(Refusal) -> Base.Logits {
    try base.unembed(x, by: map)
  }
}
