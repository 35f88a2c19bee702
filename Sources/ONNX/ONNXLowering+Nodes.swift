import NormFoldFormats
import NormFoldNetworks

extension ONNXLowering {
  /// Appends a node with one output.
  mutating func add(
    _ operation: String, _ inputs: String..., as name: String, attributes: [String: ONNXGraph.Attribute] = [:]
  ) -> String {
    let output = unused(name)
    append(operation, inputs, [output], attributes)
    return output
  }

  mutating func append(
    _ operation: String, _ inputs: [String], _ outputs: [String], _ attributes: [String: ONNXGraph.Attribute] = [:]
  ) {
    graph.nodes.append(
      .init(
        name: "\(operation).\(graph.nodes.count)", operation: operation, inputs: inputs, outputs: outputs,
        attributes: attributes))
  }

  /// `name`, or the first of `name.1`, `name.2` … that is free.
  mutating func unused(_ name: String) -> String {
    var candidate = name
    var count = 0
    while !usedNames.insert(candidate).inserted {
      count += 1
      candidate = "\(name).\(count)"
    }
    return candidate
  }

  /// A weight, stored once however often it is read.
  mutating func external(_ value: Parameter, _ name: String) -> String {
    if let known = externalNames[value] { return known }
    let name = unused(name)
    externalNames[value] = name
    graph.initializers.append(.init(name: name, type: type, shape: value.shape, content: .external(value)))
    return name
  }

  mutating func constant(_ value: Double, _ name: String) -> String {
    shared(.init(name: name, type: type, shape: [], content: .numbers([value])))
  }

  /// In F32 whatever the type of the graph.
  mutating func single(_ value: Double, _ name: String) -> String {
    shared(.init(name: name, type: .f32, shape: [], content: .numbers([value])))
  }

  mutating func constant(_ value: Int, _ name: String) -> String {
    shared(.init(name: name, type: .i64, shape: [], content: .integers([value])))
  }

  mutating func constant(_ values: [Int], _ name: String) -> String {
    shared(.init(name: name, type: .i64, shape: [values.count], content: .integers(values)))
  }

  /// Constants are few: one of equal content serves all.
  mutating func shared(_ wanted: ONNXGraph.Initializer) -> String {
    if let known = graph.initializers.first(where: {
      $0.content == wanted.content && $0.shape == wanted.shape && $0.type == wanted.type
    }) {
      return known.name
    }
    var initializer = wanted
    initializer.name = unused(wanted.name)
    graph.initializers.append(initializer)
    return initializer.name
  }
}
