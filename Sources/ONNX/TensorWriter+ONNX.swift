import NormFoldFormats
import NormFoldNetworks

/// The names in the files of a graph.
package enum ONNXNames {
  /// The program that the model file names as its producer.
  static let producer = "normfold"
  package static let model = "model.onnx"
  package static let data = "model.onnx_data"
  /// The file that looks the embeddings up, as transformers.js calls it.
  package static let lookup = "embed_tokens.onnx"
}

extension TensorWriter {
  /// Writes a graph as two files: `model.onnx`, and beside it `model.onnx_data` with the weights. Of a graph that is given
  /// embeddings, a third one looks these up: `embed_tokens.onnx`, whose table is in the same data file.
  ///
  ///     model.onnx_data
  ///     ┌──────────────┬───────┬──────────────┬───────┬─────
  ///     │ initializer  │ zeros │ initializer  │ zeros │  …
  ///     └──────────────┴───────┴──────────────┴───────┴─────
  ///     0              └ to a multiple of 4096        the last one ends the file
  ///
  /// Protobuf ends at 2 GiB, so a model may not hold its own weights. Where each stands in the data file is settled before the
  /// first is computed, so none is held in memory; the model file is written last.
  ///
  /// - Parameter directory: where neither of the files exists.
  /// - Throws: `.output`.
  package convenience init(onnx graph: ONNXGraph, in directory: String) throws(Refusal) {
    var models: [String: OutputFile] = [:]
    for name in graph.form.readsEmbeddings ? [ONNXNames.lookup, ONNXNames.model] : [ONNXNames.model] {
      models[name] = try OutputFile(creating: directory + "/" + name)
    }
    let created = models
    let ranges = graph.externalRanges
    let data = try TensorFile(
      creating: directory + "/" + ONNXNames.data, head: [], byteCount: ranges.last?.upperBound ?? 0)
    self.init(
      zip(graph.externalInitializers, ranges).map { TensorPlace(info: $0.info, file: data, byteOffset: $1.lowerBound) },
      in: [data]
    ) { (amendments) throws(Refusal) in
      var graph = graph
      for (text, other) in amendments { graph.metadata = graph.metadata.mapValues { $0 == text ? other : $0 } }
      for (name, bytes) in graph.packed(dataName: ONNXNames.data) {
        try created[name]?.write(bytes)
        try created[name]?.finish()
      }
    }
  }
}
