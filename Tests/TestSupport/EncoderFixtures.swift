/// The encoders of the fixtures.
package enum EncoderFixtures {
  package static let heads = ["model", "masked-lm", "sequence", "token", "question"]
  package static let families = ["bert", "roberta", "distilbert"]
  package static let names = families.flatMap { family in heads.map { "\(family)-\($0)" } }
  /// Those with a pooler that gives a value besides.
  package static let pooled = ["bert-model", "roberta-model"]
}
