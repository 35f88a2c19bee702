import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks

/// What the defining program computed for a model of the fixtures: `tokens` [sequences, length], and the logits of some
/// positions [sequences, positions, vocabulary] in float64 and float32.
package struct ReferenceLogits {
  package let probes: [Probe]
  package let positions: [Int]
  /// The defining program in double precision.
  package let double: [Double]
  /// The same in single precision, where it was recorded.
  package let single: [Double]?

  package init(_ path: String, prefix: String) throws {
    let file = try Checkpoint(safetensors: Fixtures.path(path))
    func tensor(_ name: String) throws -> Tensor {
      guard let tensor = file[name] else { throw MissingTensor(name: name) }
      return tensor
    }
    let tokens = try tensor("tokens")
    let flat = tokens.decoded(as: Double.self).map { Int($0) }
    let length = tokens.shape[1]
    probes = (0..<tokens.shape[0]).map { Probe(name: "\($0)", tokens: Array(flat[$0 * length..<($0 + 1) * length])) }
    positions = try tensor("positions").decoded(as: Double.self).map { Int($0) }
    double = try tensor(prefix + "logits.f64").decoded()
    single = file[prefix + "logits.f32"]?.decoded()
  }

  struct MissingTensor: Error { let name: String }

  /// The rows of logits or residuals [all tokens, any width] that the reference has.
  package func select<Scalar: ArithmeticScalar>(_ rows: Matrix<Scalar>) -> [Double] {
    let length = probes[0].tokens.count
    let width = rows.columnCount
    let all = rows.array
    return probes.indices.flatMap { sequence in
      positions.flatMap { position in
        let start = (sequence * length + position) * width
        return all[start..<start + width].map { Double($0) }
      }
    }
  }

  /// From what the defining program computed in double precision.
  package func relativeDifference(_ logits: [Double]) -> Double { TestSupport.relativeDifference(logits, double) }
}
