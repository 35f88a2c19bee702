import NormFoldNetworks

extension Task {
  /// The outputs of a graph, as Optimum names them.
  package var outputNames: [String] {
    switch self {
    case .generation, .fillMask, .sequenceClassification, .tokenClassification, .imageClassification: [ONNXGraph.logits]
    case .features: ["last_hidden_state"]
    case .wordRegression: ["predictions"]
    case .questionAnswering: ["start_logits", "end_logits"]
    }
  }
}
