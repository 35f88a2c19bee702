import NormFoldFormats
import NormFoldNetworks
import NormFoldONNX
import NormFoldVerify
import Testing
import TestSupport

/// A graph that another program exported of a checkpoint (`fixtures/generate/onnx_exports.py`).
struct ExportedGraph: CustomTestStringConvertible, Sendable {
  let name: String
  var model: String { String(name.prefix { $0 != "/" }) }
  var testDescription: String { name }

  static let all = [
    "bert/optimum", "bert/torch-script", "bert/torch-fixed", "gpt-neox/optimum-cache", "gpt2/optimum",
    "gpt2/optimum-cache",
    "gpt2/torch-dynamo", "gpt2/torch-half", "llama/optimum-cache", "llama/torch-dynamo", "bert-question/optimum",
    "bert-token/optimum", "roberta/optimum", "distilbert/optimum", "vit/optimum", "vit/torch-script",
    "vit/torch-dynamo",
    "vit-model/optimum",
  ].map { ExportedGraph(name: $0) }

  var file: String { Fixtures.path("exports/\(name).onnx") }
  var graph: ONNXGraph { get throws { try ONNXGraph(importing: file) } }

  /// The graph, or a changed one, held against the checkpoint.
  func judgement(of graph: ONNXGraph) throws -> Judgement {
    let source = try Model(opening: Fixtures.path("exports/\(model)"))
    let program = try ImportedProgram(graph, like: source.network, file: file)
    return try Judgements(
      of: [
        .init(
          name: name, exact: program.storing(source.network) ?? source.network, model: .program(program),
          type: program.type, allowance: .independent)
      ], against: source.network, named: model, literal: nil, on: .standard(for: source.network, endOfText: nil)
    ).judgements[0]
  }
}

/// A mistake in an exported graph.
struct ExportMistake: CustomTestStringConvertible, Sendable {
  let testDescription: String
  /// Makes it at one of several places; nil where the graph has no such place.
  let make: @Sendable (inout ONNXGraph, _ place: Int) -> Bool

  init(_ testDescription: String, _ make: @escaping @Sendable (inout ONNXGraph, Int) -> Bool) {
    self.testDescription = testDescription
    self.make = make
  }

  /// A change of the numbers of a weight [rows, columns], or of a vector as one row.
  private static func numbers(
    _ description: String, of role: ONNXGraph.Role, _ change: @escaping @Sendable (inout [[Double]]) -> Void
  ) -> ExportMistake {
    ExportMistake(description) { graph, place in graph.change(role, at: place, change) }
  }

  private static func operators(_ old: String, _ new: String) -> ExportMistake {
    ExportMistake("\(new) in place of \(old)") { graph, place in
      let places = graph.nodes.indices.filter { graph.nodes[$0].operation == old }
      guard places.indices.contains(place) else { return false }
      graph.nodes[places[place]].operation = new
      return true
    }
  }

  static let all: [ExportMistake] = [
    numbers("one element off by 1e-3 of its row", of: .matrix) { rows in
      let row = rows.count / 4
      let norm = rows[row].reduce(0) { $0 + $1 * $1 }.squareRoot()
      rows[row][rows[row].count / 3] += 2e-3 * norm
    },
    numbers("the sign of an element", of: .matrix) { rows in rows[rows.count / 2][rows[0].count / 4] *= -1 },
    numbers("a matrix 1% too large", of: .matrix) { rows in rows = rows.map { $0.map { $0 * 1.01 } } },
    numbers("rows exchanged in halves", of: .matrix) { $0 = Array($0[($0.count / 2)...] + $0[..<($0.count / 2)]) },
    numbers("columns moved by one", of: .matrix) { rows in
      rows = rows.map { Array($0.dropFirst()) + [$0[0]] }
    },
    numbers("a row of a table 1% too large", of: .table) { $0[0] = $0[0].map { $0 * 1.01 } },
    numbers("two rows of a table exchanged", of: .table) { $0.swapAt(0, 1) },
    numbers("rows of a table moved by one", of: .table) { $0 = Array($0.dropFirst()) + [$0[0]] },
    numbers("a vector of zeros", of: .vector) { $0 = [$0[0].map { _ in 0 }] },
    numbers("an element of a vector 2% too large", of: .vector) { rows in
      let largest = rows[0].indices.max { abs(rows[0][$0]) < abs(rows[0][$1]) } ?? 0
      rows[0][largest] *= 1.02
    },
    ExportMistake("another ε") { graph, place in
      let places = graph.nodes.indices.filter { graph.nodes[$0].attributes["epsilon"] != nil }
      guard places.indices.contains(place) else { return false }
      graph.nodes[places[place]].attributes["epsilon"] = .number(2e-2)
      return true
    },
    operators("Tanh", "Erf"), operators("Erf", "Tanh"), operators("Sigmoid", "Tanh"), operators("Cos", "Sin"),
    operators("Softmax", "Sigmoid"), operators("LessOrEqual", "Less"), operators("Sqrt", "Identity"),
  ]
}

extension ONNXGraph {
  enum Role { case matrix, table, vector }

  /// Changes the numbers of the weight at a place among those of a role.
  fileprivate mutating func change(_ role: Role, at place: Int, _ change: (inout [[Double]]) -> Void) -> Bool {
    let names = Set(
      nodes.compactMap { node -> String? in
        switch (role, node.operation) {
        case (.matrix, "MatMul"), (.matrix, "Gemm"): node.inputs[1]
        case (.table, "Gather"): node.inputs[0]
        default: nil
        }
      })
    let places = initializers.indices.filter { index in
      // What keys have as a bias is the same for all that a query sees, so that the softmax takes it out again.
      let name = initializers[index].name
      if name.hasSuffix("key.bias") || name.hasSuffix("k_lin.bias") { return false }
      guard case .external(let value) = initializers[index].content else { return false }
      return role == .vector
        ? value.shape.count == 1 && value.elementCount >= 8
        : value.shape.count == 2 && value.rowCount > 1
          && (names.contains(name) || role == .table && initializers[index].shape.count == 3)
    }
    guard places.indices.contains(place), case .external(let value) = initializers[places[place]].content else {
      return false
    }
    let all = ParameterReader(value).values()
    let width = value.columnCount
    var rows = stride(from: 0, to: all.count, by: width).map { Array(all[$0..<$0 + width]) }
    change(&rows)
    let bytes = rows.joined().flatMap { number in
      withUnsafeBytes(of: Float(number).bitPattern.littleEndian) { Array($0) }
    }
    let info = TensorInfo(name: initializers[places[place]].name, type: .f32, shape: value.shape)
    initializers[places[place]].content = .external(
      .stored(Tensor(info: info, file: MappedFile(copying: bytes, path: "changed"), byteOffset: 0)))
    return true
  }
}

@Suite struct ExportedGraphTests {
  @Test("A graph that another program exported is the checkpoint", arguments: ExportedGraph.all)
  func same(_ export: ExportedGraph) throws {
    let judgement = try export.judgement(of: export.graph)
    let parts = try #require(judgement.parts)
    #expect(judgement.holds && parts.isSampled && !parts.isComplete, "\(parts.failures)")
    // Every map, the output, every table and every norm were found.
    #expect(parts.notCompared.count == 1)
    let sampled = parts.parts.filter(\.isSampled)
    // What is computed between the matrices is off by the rounding of constants, if at all.
    #expect(sampled.count >= 8 && sampled.allSatisfy { $0.ratio <= 0.1 }, "\(sampled.map(\.ratio))")
  }

  /// The last places of each kind are tried as well as the first ones. Graphs in halves leave smaller mistakes to their
  /// rounding.
  @Test("A mistake in an exported graph is found", arguments: ExportMistake.all)
  func mistakes(_ mistake: ExportMistake) throws {
    var count = 0
    for export in ExportedGraph.all where export.name != "gpt2/torch-half" {
      for place in 0..<40 {
        var graph = try export.graph
        guard mistake.make(&graph, place) else { break }
        count += 1
        do {
          let judgement = try export.judgement(of: graph)
          #expect(!judgement.holds, "\(export.name) at place \(place)")
          #expect(judgement.parts?.failures.isEmpty == false || judgement.parts?.notCompared.isEmpty == false)
        } catch let refusal as Refusal {
          // A graph that computes no numbers is refused.
          #expect([.nonFinite, .malformed].contains(refusal.category), "\(export.name) at place \(place): \(refusal)")
        }
      }
    }
    #expect(count > 0)
  }

  @Test("A graph is refused by the operator or the input that is not known")
  func unknown() throws {
    let export = ExportedGraph(name: "gpt2/optimum")
    var graph = try export.graph
    let softmax = try #require(graph.nodes.firstIndex { $0.operation == "Softmax" })
    graph.nodes[softmax].operation = "Einsum"
    #expect(throws: Refusal.self) { try export.judgement(of: graph) }
    graph = try export.graph
    graph.nodes[softmax].domain = "com.microsoft"
    #expect(throws: Refusal.self) { try export.judgement(of: graph) }
    graph = try export.graph
    graph.inputs.append(.init(name: "beam_width", type: .i64, shape: [.fixed(1)]))
    do {
      _ = try export.judgement(of: graph)
      Issue.record("an input of no known meaning was accepted")
    } catch let refusal as Refusal {
      #expect(refusal.description.contains("beam_width") && refusal.category == .unsupported)
    }
  }

  /// A convolution of windows of 2 × 3 with these attributes, and what it makes of an image [1, 2, 4, 6].
  private func convolution(_ attributes: [String: ONNXGraph.Attribute], domain: String = "") throws -> ONNXTensor {
    var graph = ONNXGraph(form: .cached)
    let numbers = (0..<36).map { Float(($0 * 7) % 11) - 4 }
    let bytes = numbers.flatMap { number in withUnsafeBytes(of: number.bitPattern.littleEndian) { Array($0) } }
    let info = TensorInfo(name: "kernel", type: .f32, shape: [3, 12])
    let kernel = Tensor(info: info, file: MappedFile(copying: bytes, path: "kernel"), byteOffset: 0)
    graph.initializers = [
      .init(name: "kernel", type: .f32, shape: [3, 2, 2, 3], content: .external(.stored(kernel))),
      .init(name: "bias", type: .f32, shape: [3], content: .numbers([1, -2, 0.5])),
    ]
    graph.inputs = [.init(name: "x", type: .f32, shape: [.fixed(1), .fixed(2), .fixed(4), .fixed(6)])]
    graph.outputs = [.init(name: "y", type: .f32, shape: [.fixed(1), .fixed(3), .fixed(2), .fixed(2)])]
    graph.nodes = [
      .init(
        name: "conv", operation: "Conv", inputs: ["x", "kernel", "bias"], outputs: ["y"], attributes: attributes,
        domain: domain)
    ]
    try graph.rewriteConvolutions(file: "model.onnx")
    graph.initializers.removeAll { $0.name == "kernel" }
    let image = ONNXTensor([1, 2, 4, 6], (0..<48).map { Double(($0 * 5) % 13) - 6 })
    return try #require(try ONNXEvaluator(graph).run(["x": image])["y"])
  }

  @Test("A convolution that cuts an image into patches is computed as its definition says")
  func convolution() throws {
    let found = try convolution(["strides": .integers([2, 3]), "kernel_shape": .integers([2, 3])])
    var expected: [Double] = []
    for output in 0..<3 {
      for (row, column) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        var sum = [1, -2, 0.5][output]
        for channel in 0..<2 {
          for y in 0..<2 {
            for x in 0..<3 {
              let pixel = (channel * 4 + 2 * row + y) * 6 + 3 * column + x
              let weight = ((output * 2 + channel) * 2 + y) * 3 + x
              sum += (Double((pixel * 5) % 13) - 6) * (Double((weight * 7) % 11) - 4)
            }
          }
        }
        expected.append(sum)
      }
    }
    #expect(found.shape == [1, 3, 2, 2] && found.numbers == expected)
  }

  @Test(
    "A convolution that does more is refused",
    arguments: [
      ["strides": ONNXGraph.Attribute.integers([2, 2])], [:],
      ["strides": .integers([2, 3]), "pads": .integers([0, 0, 1, 1])],
      ["strides": .integers([2, 3]), "dilations": .integers([2, 1])],
      ["strides": .integers([2, 3]), "kernel_shape": .integers([3, 2])],
      ["strides": .integers([2, 3]), "group": .integer(2)],
      ["strides": .integers([2, 3]), "auto_pad": .text("SAME_UPPER")],
    ])
  func otherConvolution(attributes: [String: ONNXGraph.Attribute]) throws {
    let refusal = #expect(throws: Refusal.self) { try convolution(attributes) }
    #expect(
      refusal?.problem == "Conv: expected windows of 2 × 3 side by side, without padding and groups"
        && refusal?.category == .unsupported)
    #expect(throws: Refusal.self) { try convolution(["strides": .integers([2, 3])], domain: ONNXGraph.ownDomain) }
  }

  @Test("Nothing is claimed of a weight that the graph does not have")
  func missing() throws {
    let export = ExportedGraph(name: "gpt2/optimum")
    let whole = try #require(try export.judgement(of: export.graph).parts)
    var graph = try export.graph
    #expect(graph.change(.matrix, at: 1) { rows in rows = rows.map { $0.map { 1 - 3 * $0 * $0 } } })
    let judgement = try export.judgement(of: graph)
    let parts = try #require(judgement.parts)
    #expect(!judgement.holds && parts.elementCount < whole.elementCount && parts.parts.count < whole.parts.count)
    let missing = parts.notCompared.compactMap { $0.split(separator: ":").first }
    #expect(!missing.isEmpty && missing.allSatisfy { path in !parts.parts.contains { $0.path.hasPrefix("\(path).") } })
  }

  @Test("Weights of another network are not found, and the verdict says so")
  func another() throws {
    let source = try Model(opening: Fixtures.path("tiny-2x32/vanilla"))
    let export = ExportedGraph(name: "gpt2/optimum")
    let program = try ImportedProgram(export.graph, like: source.network, file: export.file)
    #expect(program.missing.count == source.network.linearMaps.count + 2)
  }
}
