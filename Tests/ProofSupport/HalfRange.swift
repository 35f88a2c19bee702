import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks
import NormFoldVerify

extension Network {
  /// Whether values or scores of attention leave what F16 can hold, which ends at 65504: a graph that computes in F16 cannot
  /// compute such a network, and hides tokens by scores that are no smaller.
  func leavesHalves(on probes: [Probe]) throws(Refusal) -> Bool {
    var largest = 0.0
    func look(_ values: [[Double]]) {
      for row in values { for value in row { largest = max(largest, abs(value)) } }
    }
    for probe in probes {
      var execution = Execution(self, on: PlainBackend(probe))
      for stage in 0..<execution.stageCount {
        try execution.run(stage: stage) { node, operands, result in
          look(result)
          guard case .attend(let attention) = node.operation else { return }
          let size = operands[0][0].count / attention.headCount
          let share = attention.headCount / attention.keyValueHeadCount
          for (place, query) in operands[0].enumerated() {
            for key in operands[1][...place] {
              let scores = (0..<attention.headCount).map { head in
                (0..<size).reduce(0) { $0 + query[head * size + $1] * key[head / share * size + $1] } * attention.scale
              }
              look([scores])
            }
          }
        }
      }
    }
    return !(largest < 65504)
  }
}
