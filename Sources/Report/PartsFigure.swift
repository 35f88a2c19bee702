import NormFold
import NormFoldVerify

/// The parts of a network that were compared, by block.
enum PartsFigure {
  /// - Returns: nil where no parts were compared.
  static func figure(_ claim: PartsClaim?, id: String, title: String) -> Figure? {
    guard let claim, !claim.parts.isEmpty else { return nil }
    // What is before and behind the blocks has its place in the order of the parts.
    let last = claim.parts.compactMap(\.block).max() ?? -1
    var groups: [Int: [PartsClaim.Part]] = [:]
    for part in claim.parts {
      let place = part.block ?? (part.path.hasPrefix("embedding") ? -1 : last + 1)
      groups[place, default: []].append(part)
    }
    let bars = groups.keys.sorted().compactMap { key -> BoundChart.Bar? in
      guard let group = groups[key], let worst = group.worst else { return nil }
      let name = key < 0 ? "tables" : key > last ? "head" : "\(key)"
      return .init(name: name, use: worst.ratio, holds: group.allSatisfy(\.holds), part: worst.path)
    }
    return Figure(
      id: id, title: title,
      caption: "The part of each block that is closest to what rounding may do; above the red mark one differs.",
      chart: BoundChart(bars: bars))
  }
}
