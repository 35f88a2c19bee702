import NormFoldFormats
import NormFoldNetworks

extension ONNXGraph {
  /// The domain of operators that stand for parts of standard ones. No file may have one of them.
  package static let ownDomain = "normfold"
  /// The name of the operator that cuts images [batch, channels, height, width] into patches: [batch, rows, columns, channels · patch height · patch width].
  static let patches = "Patches"

  /// Writes convolutions whose windows lie side by side as products of patches and a matrix, as which networks have them.
  ///
  /// - Throws: `.unsupported` for another convolution.
  package mutating func rewriteConvolutions(file: String) throws(Refusal) {
    var result: [Node] = []
    for node in nodes {
      guard node.domain != Self.ownDomain else {
        throw Refusal(
          .unsupported, file: file, subject: node.name, "the domain '\(node.domain)' is none that files have")
      }
      guard node.operation == "Conv", node.domain.isEmpty else {
        result.append(node)
        continue
      }
      result += try products(of: node, file: file)
    }
    nodes = result
  }

  private mutating func products(of node: Node, file: String) throws(Refusal) -> [Node] {
    func refusal(_ problem: String) -> Refusal {
      Refusal(
        .unsupported, file: file, subject: node.name, "Conv: \(problem)",
        advice: "only patches of an image are computed here")
    }
    func integers(_ name: String) -> [Int]? {
      if case .integers(let values)? = node.attributes[name] { values } else { nil }
    }
    guard (2...3).contains(node.inputs.count), node.outputs.count == 1,
      let kernel = initializers.first(where: { $0.name == node.inputs[1] }), kernel.shape.count == 4,
      case .external(let matrix) = kernel.content, matrix.shape == [kernel.shape[0], kernel.shape[1...].reduce(1, *)]
    else { throw refusal("expected a weight of four axes that is a constant") }
    let size = Array(kernel.shape[2...])
    guard integers("kernel_shape") ?? size == size, integers("strides") == size,
      (integers("dilations") ?? [1, 1]).allSatisfy({ $0 == 1 }), (integers("pads") ?? [0]).allSatisfy({ $0 == 0 }),
      node.attributes["group"] ?? .integer(1) == .integer(1),
      node.attributes["auto_pad"] ?? .text("NOTSET") == .text("NOTSET")
    else { throw refusal("expected windows of \(size[0]) × \(size[1]) side by side, without padding and groups") }

    let (name, output) = (node.name, node.outputs[0])
    let (cut, product, biased) = (output + ".patches", output + ".product", output + ".biased")
    let weight = kernel.name + ".columns"
    let columns = matrix.transposed()
    if !initializers.contains(where: { $0.name == weight }) {
      initializers.append(.init(name: weight, type: kernel.type, shape: columns.shape, content: .external(columns)))
    }
    var nodes = [
      Node(
        name: name + ".patches", operation: Self.patches, inputs: [node.inputs[0]], outputs: [cut],
        attributes: ["size": .integers(size)], domain: Self.ownDomain),
      Node(name: name, operation: "MatMul", inputs: [cut, weight], outputs: [product]),
    ]
    if node.inputs.count > 2, !node.inputs[2].isEmpty {
      nodes.append(Node(name: name + ".bias", operation: "Add", inputs: [product, node.inputs[2]], outputs: [biased]))
    }
    nodes.append(
      Node(
        name: name + ".channels", operation: "Transpose", inputs: [nodes[nodes.count - 1].outputs[0]],
        outputs: [output],
        attributes: ["perm": .integers([0, 3, 1, 2])]))
    return nodes
  }
}

extension NodeEvaluation {
  /// The patches of an image, row by row: of each the numbers of its first channel row by row, then those of the next.
  func patches() throws(Refusal) -> ONNXTensor {
    let x = try tensor(0)
    guard case .integers(let size)? = node.attributes["size"], size.count == 2, x.shape.count == 4,
      let image = ImageGrid(
        channels: x.shape[1], height: x.shape[2], width: x.shape[3], patchHeight: size[0], patchWidth: size[1])
    else { throw refusal("an image of shape \(x.shape) is not made of whole patches") }
    let values = try numbers(0)
    let places = (0..<image.count).flatMap { image.places(ofPatch: $0) }
    let result = (0..<x.shape[0]).flatMap { number in places.map { values[number * image.pixelCount + $0] } }
    return ONNXTensor([x.shape[0], image.rows, image.columns, image.patchLength], result)
  }
}
