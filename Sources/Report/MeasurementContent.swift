import NormFold
import NormFoldArithmetic
import NormFoldMeasurement

/// The text and the model of a measurement.
enum MeasurementFacts {
  static func section(
    model: String, texts: [String], chunking: Chunking, precision: Precision, count: String
  ) -> Page.Section {
    var facts = FactList()
    facts.add("Model", .code(model))
    facts.add(texts.count == 1 ? "Text" : "Texts", texts.map { .code($0) })
    facts.add("Measured on", .text(count))
    facts.add("Cut into", .text(chunking.summary))
    facts.add("Computed in", .text(precision == .double ? "double precision" : "single precision"))
    return .init(id: "what", title: "What was measured", content: [facts])
  }
}
