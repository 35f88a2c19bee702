import Formats
import Networks

extension Network.Node {
  /// - Throws: `.unsupported` for an operation of encoders that has no form in integers yet.
  func requireIntegers() throws(Refusal) {
    switch operation {
    case .attend(let attention) where attention.mask != .causal:
      throw Refusal(.unsupported, subject: path.description, "attention to both sides is not computed in integers yet")
    case .select:
      throw Refusal(.unsupported, subject: path.description, "a selection is not computed in integers yet")
    default: return
    }
  }
}
