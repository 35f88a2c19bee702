/// A network as data: named operations on named values, in the order of computation. Row vectors: y = xW + b, W [in, out].
///
/// Who reads a norm, what writes into the residual stream and which block an operation belongs to are questions to this
/// list (`Network+Queries.swift`); an architecture is a function that makes one.
///
/// - Invariant: an operation stands behind all that it reads, and operations of one block stand together.
package struct Network: Sendable {
  package struct Node: Hashable, Sendable {
    package let path: Path
    package var operation: Operation
    /// The values that the operation reads, by the paths of what computes them.
    package var operands: [Path]

    package init(path: Path, operation: Operation, operands: [Path]) {
      self.path = path
      self.operation = operation
      self.operands = operands
    }
  }

  package private(set) var nodes: [Node] = []
  /// The value that the network is for: the logits, or what its ``task`` says.
  package private(set) var output: Path = ""
  /// Other values that the class of the network gives away.
  package private(set) var sideOutputs: [Path] = []
  /// The task of the network, which says what the output is.
  package var task = Task.generation
  /// The number of positions that a sequence may have.
  package var contextLength: Int
  private var indices: [Path: Int] = [:]

  package init(contextLength: Int) { self.contextLength = contextLength }

  // MARK: Looking up

  package func index(of path: Path) -> Int? { indices[path] }

  package func node(at path: Path) -> Node? { indices[path].map { nodes[$0] } }

  package subscript(path: Path) -> Operation? { node(at: path)?.operation }

  /// The norm at a path; nil where there is none. Setting nil removes it: its readers then read what it read.
  ///
  /// - Precondition: a norm is set only where there is one.
  package subscript(norm path: Path) -> Norm? {
    get { if case .norm(let norm) = self[path] { norm } else { nil } }
    set {
      guard let newValue else { return remove(path) }
      replaceOperation(at: path, by: .norm(newValue))
    }
  }

  /// The linear map at a path; nil where there is none.
  ///
  /// - Precondition: a map is set only where there is one.
  package subscript(linear path: Path) -> LinearMap? {
    get { if case .linear(let map) = self[path] { map } else { nil } }
    set {
      guard let newValue else { preconditionFailure("a linear map cannot be removed: \(path)") }
      replaceOperation(at: path, by: .linear(newValue))
    }
  }

  /// The table of an embedding at a path; nil where there is none.
  ///
  /// - Precondition: a table is set only where there is one.
  package subscript(table path: Path) -> Parameter? {
    get { if case .embed(let table, _) = self[path] { table } else { nil } }
    set {
      guard let newValue, case .embed(_, let index) = self[path] else { preconditionFailure("no table at \(path)") }
      replaceOperation(at: path, by: .embed(newValue, by: index))
    }
  }

  // MARK: Building and editing

  /// Appends an operation; the last one appended computes the output.
  ///
  /// - Precondition: the path is new, and every operand is there.
  @discardableResult
  package mutating func append(_ operation: Operation, to operands: Path..., at path: Path) -> Path {
    append(Node(path: path, operation: operation, operands: operands))
    return path
  }

  /// - Precondition: the path is new, and every operand is there.
  package mutating func append(_ node: Node) {
    precondition(indices[node.path] == nil, "two operations at \(node.path)")
    precondition(node.operands.count == node.operation.operandCount, "\(node.path) reads \(node.operands.count) values")
    precondition(node.operands.allSatisfy { indices[$0] != nil }, "\(node.path) reads what nothing computes")
    indices[node.path] = nodes.count
    nodes.append(node)
    output = node.path
  }

  /// Says what the network gives away: nothing that one of these values is computed from can be removed.
  ///
  /// - Precondition: the values are there.
  package mutating func setOutputs(_ output: Path, besides sideOutputs: [Path] = []) {
    precondition(([output] + sideOutputs).allSatisfy { indices[$0] != nil }, "\(output) is not computed")
    self.output = output
    self.sideOutputs = sideOutputs
  }

  /// - Precondition: there is an operation at the path, and the new one reads as many values.
  package mutating func replaceOperation(at path: Path, by operation: Operation) {
    guard let index = indices[path] else { preconditionFailure("nothing at \(path)") }
    precondition(operation.operandCount == nodes[index].operands.count)
    nodes[index].operation = operation
  }

  /// Puts an operation between a value and some of its users, in front of the first of them.
  ///
  /// - Precondition: the path is new; every user reads the value.
  package mutating func insert(_ operation: Operation, at path: Path, on operand: Path, before users: [Path]) {
    precondition(indices[path] == nil && operation.operandCount == 1)
    guard let place = users.compactMap({ indices[$0] }).min() else { preconditionFailure("\(path) has no users") }
    for user in users { redirect(user, from: operand, to: path) }
    rebuild(nodes[..<place] + [Node(path: path, operation: operation, operands: [operand])] + nodes[place...])
  }

  /// Makes an operation read one value in place of another.
  ///
  /// - Precondition: it reads the first one.
  package mutating func redirect(_ user: Path, from old: Path, to new: Path) {
    guard let index = indices[user], nodes[index].operands.contains(old) else {
      preconditionFailure("\(user) does not read \(old)")
    }
    nodes[index].operands = nodes[index].operands.map { $0 == old ? new : $0 }
  }

  /// Removes an operation: its users read its first operand instead. What nothing reads any more goes with it.
  package mutating func remove(_ path: Path) {
    guard let node = node(at: path), let operand = node.operands.first else { return }
    for user in users(of: path) { redirect(user.path, from: path, to: operand) }
    if output == path { output = operand }
    sideOutputs = sideOutputs.map { $0 == path ? operand : $0 }
    removeUnread()
  }

  /// The same network that gives nothing away but its output.
  package func withoutSideOutputs() -> Network {
    guard !sideOutputs.isEmpty else { return self }
    var result = self
    result.sideOutputs = []
    result.removeUnread()
    return result
  }

  /// Removes every operation whose value nothing reads.
  private mutating func removeUnread() {
    var read = Set([output] + sideOutputs)
    for node in nodes.reversed() where read.contains(node.path) { read.formUnion(node.operands) }
    rebuild(nodes[...].filter { read.contains($0.path) })
  }

  /// Makes operations that compute the same of the same values one: the first of them. What a norm is called does not
  /// matter.
  package func mergingEqualOperations() -> Network {
    struct Content: Hashable {
      let operation: Operation
      let operands: [Path]
    }
    var kept: [Content: Path] = [:]
    var renamed: [Path: Path] = [:]
    var result = self
    result.rebuild(
      nodes.compactMap { node in
        let operands = node.operands.map { renamed[$0] ?? $0 }
        let content = Content(operation: node.withoutNames.operation, operands: operands)
        if let same = kept[content], node.path != output, !sideOutputs.contains(node.path) {
          renamed[node.path] = same
          return nil
        }
        kept[content] = node.path
        return Node(path: node.path, operation: node.operation, operands: operands)
      }[...])
    return result
  }

  private mutating func rebuild(_ nodes: some Sequence<Node>) {
    let output = output
    self.nodes = []
    indices = [:]
    for node in nodes { append(node) }
    self.output = output
  }

  /// The same network with every parameter replaced by what `transform` gives for it.
  package func mappingParameters(_ transform: (Parameter) -> Parameter) -> Network {
    mappingOperations { $1.mappingParameters(transform) }
  }

  /// The same network with other operations in the same places.
  ///
  /// - Precondition: the new operations read as many values as the old ones.
  package func mappingOperations(_ transform: (Path, Operation) -> Operation) -> Network {
    var result = self
    for node in nodes { result.replaceOperation(at: node.path, by: transform(node.path, node.operation)) }
    return result
  }
}
