/// What a user says of an input where its files leave a question open.
package struct ReadingOptions: Sendable {
  /// Which unembedding counts where a tied checkpoint also stores another one.
  package enum Head: String, Sendable, CaseIterable {
    /// The tensor `lm_head.weight`.
    case stored
    /// The token embedding.
    case tied
  }

  package var head: Head?
  /// Names of tensors, with `*` for any part, that may be left out of account.
  package var ignoredTensors: [String] = []

  package init() {}
}
