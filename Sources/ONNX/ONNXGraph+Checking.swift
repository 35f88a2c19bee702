import NormFoldFormats

extension ONNXGraph {
  /// The rules that a graph must keep to be run: each value has one name and is made once, before it is read, and
  /// nothing is there that nobody reads.
  ///
  /// - Throws: `.malformed` with the value or node that breaks one.
  package func check(file: String? = nil) throws(Refusal) {
    var made: Set<String> = []
    func make(_ name: String, _ kind: String, _ maker: String) throws(Refusal) {
      guard !name.isEmpty else { throw Refusal(.malformed, file: file, subject: maker, "\(kind) without a name") }
      guard made.insert(name).inserted else {
        throw Refusal(.malformed, file: file, subject: name, "is made twice, the second time as \(kind)")
      }
    }
    for value in inputs { try make(value.name, "an input", "inputs") }
    for initializer in initializers { try make(initializer.name, "an initializer", "initializers") }
    var read: Set<String> = []
    var nodeNames: Set<String> = []
    for node in nodes {
      guard nodeNames.insert(node.name).inserted else {
        throw Refusal(.malformed, file: file, subject: node.name, "two nodes have this name")
      }
      // Operands that are left out have no name.
      for input in node.inputs where !input.isEmpty {
        guard made.contains(input) else {
          throw Refusal(.malformed, file: file, subject: node.name, "reads '\(input)', which nothing before it makes")
        }
        read.insert(input)
      }
      guard !node.outputs.isEmpty else { throw Refusal(.malformed, file: file, subject: node.name, "makes nothing") }
      for output in node.outputs { try make(output, "an output of node '\(node.name)'", node.name) }
    }
    var outputNames: Set<String> = []
    for output in outputs {
      guard made.contains(output.name) else {
        throw Refusal(.malformed, file: file, subject: output.name, "is an output, but nothing makes it")
      }
      guard outputNames.insert(output.name).inserted else {
        throw Refusal(.malformed, file: file, subject: output.name, "is an output twice")
      }
      read.insert(output.name)
    }
    for initializer in initializers where !read.contains(initializer.name) {
      throw Refusal(.malformed, file: file, subject: initializer.name, "is an initializer that nothing reads")
    }
    for node in nodes where !node.outputs.contains(where: read.contains) {
      throw Refusal(.malformed, file: file, subject: node.name, "makes what nothing reads")
    }
  }

  /// Holds a graph that was read back against the one that was meant: everything that is computed but the numbers of
  /// weights, which stand in the data file.
  ///
  /// - Throws: `.mismatch` with the first node, initializer, input or output that is another.
  package func requireSame(as intended: ONNXGraph, file: String? = nil) throws(Refusal) {
    func require(_ kind: String, _ found: [String], _ expected: [String], _ isSame: (Int) -> Bool) throws(Refusal) {
      guard found.count == expected.count else {
        throw Refusal(.mismatch, file: file, "expected \(expected.count) \(kind)s, found \(found.count)")
      }
      for index in found.indices where found[index] != expected[index] || !isSame(index) {
        throw Refusal(
          .mismatch, file: file, subject: found[index], "is not the \(kind) '\(expected[index])' that was to be written"
        )
      }
    }
    try require("node", nodes.map(\.name), intended.nodes.map(\.name)) { nodes[$0] == intended.nodes[$0] }
    try require("input", inputs.map(\.name), intended.inputs.map(\.name)) { inputs[$0] == intended.inputs[$0] }
    try require("output", outputs.map(\.name), intended.outputs.map(\.name)) { outputs[$0] == intended.outputs[$0] }
    try require("initializer", initializers.map(\.name), intended.initializers.map(\.name)) {
      let (found, expected) = (initializers[$0], intended.initializers[$0])
      // Constants are rounded to their type when they are written, and compared as they are stored.
      return found.info == expected.info && found.inlineBytes == expected.inlineBytes
    }
  }
}
