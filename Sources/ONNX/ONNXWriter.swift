import NormFoldFormats
import NormFoldNetworks

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
package final class ONNXWriter: TensorWriter {
  /// The program that the model file names as its producer.
  static let producer = "normfold"
  package static let modelName = "model.onnx"
  package static let dataName = "model.onnx_data"
  /// The name of the file that looks the embeddings up, as transformers.js calls it.
  package static let lookupName = "embed_tokens.onnx"

  package let order: [TensorInfo]
  private let models: [String: OutputFile]
  private let data: OutputFile
  private let ranges: [Range<Int>]
  private var graph: ONNXGraph
  /// The tensor that the next byte belongs to.
  private var current = 0

  /// - Parameter directory: where neither of the files exists.
  /// - Throws: `.output`.
  package init(_ graph: ONNXGraph, in directory: String) throws(Refusal) {
    order = graph.externalInitializers.map(\.info)
    ranges = graph.externalRanges
    self.graph = graph
    var models: [String: OutputFile] = [:]
    for name in graph.form.readsEmbeddings ? [Self.lookupName, Self.modelName] : [Self.modelName] {
      models[name] = try OutputFile(creating: directory + "/" + name)
    }
    self.models = models
    data = try OutputFile(creating: directory + "/" + Self.dataName)
  }

  package func append(_ bytes: UnsafeRawBufferPointer) throws(Refusal) {
    var rest = unsafe bytes
    while unsafe !rest.isEmpty {
      precondition(current < ranges.count, "more bytes than the tensors have")
      let range = ranges[current]
      if data.byteCount < range.lowerBound { try data.pad(to: ONNXGraph.alignment) }
      let count = min(rest.count, range.upperBound - data.byteCount)
      try unsafe data.write(UnsafeRawBufferPointer(rebasing: rest[..<count]))
      unsafe rest = UnsafeRawBufferPointer(rebasing: rest[count...])
      if data.byteCount == range.upperBound { current += 1 }
    }
  }

  package func amend(_ text: String, by other: String) {
    graph.metadata = graph.metadata.mapValues { $0 == text ? other : $0 }
  }

  package func finish() throws(Refusal) {
    precondition(current == ranges.count, "'\(order[min(current, order.count - 1)].name)' is not complete")
    try data.finish()
    for (name, bytes) in graph.packed(dataName: Self.dataName) {
      try models[name]?.write(bytes)
      try models[name]?.finish()
    }
  }
}
