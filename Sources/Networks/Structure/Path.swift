/// The name of an operation in a network, and of the value that it computes: `blocks.3.attention.query`.
///
/// An architecture's forward pass chooses the paths. What means the same in several architectures has the same path in
/// all of them, so that a network of one can be stored in the class of another (see `Documentation/AddingAnArchitecture.md`).
package struct Path: Hashable, Sendable, CustomStringConvertible, ExpressibleByStringInterpolation {
  package let description: String
  /// The number of the block that the operation belongs to; nil for one before the first block or behind the last.
  package let block: Int?

  package init(_ description: String) {
    self.description = description
    let parts = description.split(separator: ".", maxSplits: 2)
    block = parts.count > 1 && parts[0] == "blocks" ? Int(parts[1]) : nil
  }

  package init(stringLiteral description: String) { self.init(description) }

  /// The last part: `query`.
  package var lastComponent: String { description.split(separator: ".").last.map(String.init) ?? description }

  /// Returns whether a part of the path has this name.
  package func contains(component: String) -> Bool { description.split(separator: ".").contains { $0 == component } }

  /// The path with one more part.
  package func appending(_ component: String) -> Path { Path("\(description).\(component)") }
}
