/// How the features of each head stand, which rotary positions turn two by two: feature i with feature i + dHead/2.
package enum HeadOrder: Hashable, Sendable {
  /// From the order of a network to one in which the two features of a pair are neighbours.
  case pairsTogether(dHead: Int)
  /// The way back.
  case pairsApart(dHead: Int)

  package var inverse: HeadOrder {
    switch self {
    case .pairsTogether(let dHead): .pairsApart(dHead: dHead)
    case .pairsApart(let dHead): .pairsTogether(dHead: dHead)
    }
  }

  /// Where the feature at `index` stood before.
  package func origin(of index: Int) -> Int {
    switch self {
    case .pairsTogether(let dHead):
      let (head, feature) = index.quotientAndRemainder(dividingBy: dHead)
      return head * dHead + feature / 2 + feature % 2 * (dHead / 2)
    case .pairsApart(let dHead):
      let (head, feature) = index.quotientAndRemainder(dividingBy: dHead)
      return head * dHead + feature % (dHead / 2) * 2 + feature / (dHead / 2)
    }
  }
}

extension HeadOrder: CustomStringConvertible {
  package var description: String {
    switch self {
    case .pairsTogether: "pairs together"
    case .pairsApart: "pairs apart"
    }
  }
}
