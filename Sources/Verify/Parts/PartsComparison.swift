import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks
import Synchronization

/// Two networks on the way to a ``PartsClaim``: both are cut into wires, those that lead to the same operand of the same
/// operation are compared group by group.
struct PartsComparison {
  let reference: Network
  let candidate: Network
  let allowance: Allowance
  let approximation: Activation?
  let isUpToShift: Bool
  let workers: Workers

  func claim() -> PartsClaim {
    var claim = PartsClaim(parts: [], stream: .same, elementCount: 0, notCompared: [], notes: [])
    let pairs: [WirePair]
    do throws(CuttingFailure) {
      pairs = try self.pairs(&claim)
    } catch {
      claim.notCompared.append("\(error.path): \(error.reason)")
      return claim
    }
    var groups = groupPairs(of: pairs, &claim)
    let stream = StreamRelation(
      groups, widths: (reference.streamWidth, candidate.streamWidth), allowance: allowance, workers: workers)
    claim.stream = stream.relation
    var parts = compare(groups, in: stream)
    // What heads of retention are is their decay, and its weights do not sum to one.
    for (path, attention) in reference.attentions where attention.isDistribution {
      reorderHeads(of: path, attention, &groups, &parts, in: stream, &claim)
      handOnValueBiases(of: path, attention, &groups, &parts, in: stream)
    }
    for node in reference.nodes {
      if case .add = node.operation { compareSum(node.path, &groups, &parts, in: stream, &claim) }
    }
    claim.parts += parts.flatMap(\.self)
    claim.elementCount = groups.reduce(0) { $0 + $1.elementCount }
    let unknown = groups.filter { $0.candidate.weight?.hasKnownError == false }
    if let first = unknown.first {
      claim.notCompared.append(
        "\(first.candidate.path): what storing \(unknown.count == 1 ? "it" : "\(unknown.count) matrices") cost is not known"
      )
    }
    return claim
  }

  /// Compares groups, several tiles of their matrices at a time.
  ///
  /// - Returns: the parts by group.
  private func compare(_ groups: [GroupPair], in stream: StreamRelation) -> [[PartsClaim.Part]] {
    var parts = groups.map { _ in [PartsClaim.Part]() }
    let forms = groups.map { $0.forms(in: stream) }
    var open = groups.indices.map { (index: $0, form: 0) }
    var failed: [Int] = []
    while !open.isEmpty {
      let round = open.map { (group: groups[$0.index], form: forms[$0.index][$0.form]) }
      // Which elements are beyond their bounds counts where there is no other form.
      let results = compare(round, in: stream, wholly: open.map { forms[$0.index].count == 1 })
      var next: [(index: Int, form: Int)] = []
      for ((index, form), found) in zip(open, results) {
        if found.allSatisfy(\.holds) || forms[index].count == 1 {
          parts[index] = found
        } else if form + 1 < forms[index].count {
          next.append((index, form + 1))
        } else {
          failed.append(index)
        }
      }
      open = next
    }
    // Where no form holds, the strictest one says what is wrong.
    let strictest = failed.map { (group: groups[$0], form: forms[$0][0]) }
    for (index, found) in zip(failed, compare(strictest, in: stream, wholly: failed.map { _ in true })) {
      parts[index] = found
    }
    return parts
  }

  /// - Parameter wholly: by group, whether all of it is compared; else the comparison may end where something is beyond its
  ///   bound.
  private func compare(
    _ round: [(group: GroupPair, form: ComparisonForm)], in stream: StreamRelation, wholly: [Bool]
  ) -> [[PartsClaim.Part]] {
    let allowance = allowance
    let comparisons = round.map { $0.group.comparison($0.form, in: stream, allowance: allowance) }
    let tiles = comparisons.enumerated().flatMap { index, comparison in
      (comparison?.tiles() ?? []).map { (index: index, inputs: $0.inputs, outputs: $0.outputs) }
    }
    let found = Mutex((tiles: round.map { _ in [MapComparison.Tile]() }, vectors: round.map { _ in Difference?.none }))
    workers.forEach(tiles.count) { number in
      let tile = tiles[number]
      let result = comparisons[tile.index]?.tile(inputs: tile.inputs, outputs: tile.outputs) {
        !wholly[tile.index] && !$0.holds
      }
      if let result { found.withLock { $0.tiles[tile.index].append(result) } }
    }
    let byGroup = found.withLock { $0.tiles }
    workers.forEach(round.count) { number in
      let (group, form) = round[number]
      let difference: Difference?
      if let comparison = comparisons[number] {
        let through = comparison.through(byGroup[number])
        difference = group.biasDifference(form, through: through, allowance: allowance)?.difference
      } else {
        difference = group.candidate.weight == nil ? group.vectorDifference(allowance: allowance) : nil
      }
      found.withLock { $0.vectors[number] = difference }
    }
    let vectors = found.withLock { $0.vectors }
    return round.indices.map { index in
      let group = round[index].group
      if let problem = group.problem(in: stream) {
        return [PartsClaim.Part(path: group.candidate.path.description, ratio: .infinity, problem: problem)]
      }
      return group.parts(
        matrix: comparisons[index] == nil
          ? nil : byGroup[index].map(\.difference).reduce(into: Difference()) { $0.merge($1) },
        vector: vectors[index])
    }
  }
}

/// Two wires that lead to the same operand of the same operation.
struct WirePair {
  let reference: Wire
  let candidate: Wire
  /// The operation; nil behind the last.
  let junction: Path?
  /// The number of the operand.
  let operand: Int
  /// Is true if what arrives at the operation becomes part of the residual stream.
  let entersStream: Bool
  /// Is true if the value that the wires begin at is a state of the residual stream.
  let leavesStream: Bool
}

extension PartsComparison {
  /// Pairs the wires of both networks. Operations without a matrix are compared on the way.
  private func pairs(_ claim: inout PartsClaim) throws(CuttingFailure) -> [WirePair] {
    let (ours, theirs) = (reference.junctions, candidate.junctions)
    for (node, other) in zip(ours, theirs) where node.path != other.path || node.operation.kind != other.operation.kind
    {
      throw CuttingFailure(
        path: node.path,
        reason: "the candidate has \(other.operation.kind) at \(other.path), the reference \(node.operation.kind)")
    }
    guard ours.count == theirs.count else {
      let extra = ours.count > theirs.count ? ours[theirs.count] : theirs[ours.count]
      throw CuttingFailure(
        path: extra.path, reason: "only the \(ours.count > theirs.count ? "reference" : "candidate") has it")
    }
    let states = Set(reference.streamStates)
    var pairs: [WirePair] = []
    func add(_ wire: Wire, _ other: Wire, _ junction: Path?, _ operand: Int) {
      guard wire.origin == other.origin else {
        claim.parts.append(
          .init(
            path: (junction ?? reference.output).description, ratio: .infinity,
            problem: "reads \(other.origin), expected \(wire.origin)"))
        return
      }
      if wire.selections != other.selections {
        claim.parts.append(
          .init(
            path: (junction ?? reference.output).description, ratio: .infinity,
            problem: "reads \(other.selectionName), expected \(wire.selectionName)"))
      }
      pairs.append(
        WirePair(
          reference: wire, candidate: other, junction: junction, operand: operand,
          entersStream: junction.map { states.contains($0) } ?? false,
          leavesStream: states.contains(wire.origin)))
    }
    for (node, other) in zip(ours, theirs) {
      if let part = operationPart(node, other, &claim) { claim.parts.append(part) }
      let (wires, others) = (try reference.wires(to: node), try candidate.wires(to: other))
      for (operand, (wire, other)) in zip(wires, others).enumerated() { add(wire, other, node.path, operand) }
    }
    let outputs = [reference.output] + reference.sideOutputs
    let others = [candidate.output] + candidate.sideOutputs
    guard outputs.count == others.count else {
      throw CuttingFailure(
        path: reference.output, reason: "the candidate gives \(others.count) values, the reference \(outputs.count)")
    }
    for (output, other) in zip(outputs, others) {
      add(try reference.wire(endingAt: output), try candidate.wire(endingAt: other), nil, 0)
    }
    return pairs
  }

  /// Compares what an operation is besides its operands: heads, angles, the function; nil where there is nothing to it.
  private func operationPart(
    _ node: Network.Node, _ other: Network.Node, _ claim: inout PartsClaim
  ) -> PartsClaim.Part? {
    func part(_ problem: String?) -> PartsClaim.Part {
      PartsClaim.Part(path: node.path.description, ratio: problem == nil ? 0 : .infinity, problem: problem)
    }
    switch (node.operation, other.operation) {
    case (.features(let mine), .features(let theirs)):
      return part(mine == theirs ? nil : "\(theirs) numbers of a word, expected \(mine)")
    case (.patches(let mine), .patches(let theirs)):
      return part(
        mine == theirs
          ? nil
          : "patches of \(theirs.patchHeight) × \(theirs.patchWidth) of an image of \(theirs.height) × \(theirs.width), expected "
            + "\(mine.patchHeight) × \(mine.patchWidth) of \(mine.height) × \(mine.width)")
    case (.attend(let mine), .attend(let theirs)):
      guard mine.mask == theirs.mask else {
        return part("the attention is \(theirs.mask.name), expected \(mine.mask.name)")
      }
      guard isSame(mine.softCap, theirs.softCap) else {
        return part("scores are \(capName(theirs.softCap)), expected \(capName(mine.softCap))")
      }
      guard mine.weighting == theirs.weighting else {
        return part("values are weighted by \(theirs.weighting.name), expected \(mine.weighting.name)")
      }
      let same = mine.headCount == theirs.headCount && mine.keyValueHeadCount == theirs.keyValueHeadCount
      return part(
        same
          ? nil
          : "\(theirs.headCount) heads with \(theirs.keyValueHeadCount) of keys and values, "
            + "expected \(mine.headCount) with \(mine.keyValueHeadCount)")
    case (.rotate(let mine, let heads), .rotate(let theirs, let otherHeads)):
      return part(
        heads == otherHeads && mine.isSame(as: theirs)
          ? nil
          : "\(theirs.width) features of \(otherHeads) heads with \(theirs.angles), "
            + "expected \(mine.width) of \(heads) with \(mine.angles)")
    case (.activate(.softCap(let mine)), .activate(.softCap(let theirs))):
      return part(isSame(mine, theirs) ? nil : "logits are \(capName(theirs)), expected \(capName(mine))")
    case (.activate(let mine), .activate(let theirs)):
      guard mine != theirs else { return part(nil) }
      let distance = mine.largestDifference(from: theirs)
      if theirs == approximation {
        let note = "the activation is \(theirs.configName) in place of \(mine.configName), at most \(distance) apart"
        if !claim.notes.contains(note) { claim.notes.append(note) }
        return part(nil)
      }
      return part("the activation is \(theirs.configName), expected \(mine.configName), up to \(distance) apart")
    default: return nil
    }
  }

  /// Returns whether two caps are the same up to 2⁻²² of their size, since files hold them in single precision. Two
  /// absent caps are the same, too.
  private func isSame(_ mine: Double?, _ theirs: Double?) -> Bool {
    guard let mine, let theirs else { return mine == nil && theirs == nil }
    return abs(mine - theirs) <= 0x1p-22 * mine
  }

  private func capName(_ cap: Double?) -> String { cap.map { "capped at \($0)" } ?? "not capped" }

  /// The groups that have numbers to compare. Norms with a computed deviation are compared on the way.
  private func groupPairs(of pairs: [WirePair], _ claim: inout PartsClaim) -> [GroupPair] {
    var groups: [GroupPair] = []
    // Several maps read one norm.
    var comparedCores: Set<Path> = []
    for pair in pairs {
      let (mine, theirs) = (pair.reference, pair.candidate)
      guard mine.cores.count == theirs.cores.count else {
        let core = (mine.cores.count > theirs.cores.count ? mine : theirs).cores[0]
        let has = mine.cores.count > theirs.cores.count ? "reference" : "candidate"
        claim.parts.append(
          .init(
            path: core.path.description, ratio: .infinity,
            problem: "only the \(has) computes a norm here, on the way to \(pair.junction ?? reference.output)"))
        continue
      }
      for (index, group) in mine.groups.enumerated() {
        let isFirst = index == 0, isLast = index == mine.groups.count - 1
        let core = index > 0 ? (mine.cores[index - 1], theirs.cores[index - 1]) : nil
        var item = GroupPair(
          reference: group, candidate: theirs.groups[index], origin: mine.origin, junction: pair.junction,
          operand: pair.operand, isFirst: isFirst, isLast: isLast, readsStream: pair.leavesStream && isFirst,
          writesStream: isLast && pair.entersStream, isUpToShift: isUpToShift && isLast && pair.junction == nil)
        if let core {
          item.coreKinds = (core.0.kind, core.1.kind)
          item.readsStream = pair.leavesStream && index == 1 && mine.groups[0].weight == nil
          if comparedCores.insert(core.0.path).inserted {
            let factors = (mine.groups[index - 1].inputFactor, theirs.groups[index - 1].inputFactor)
            claim.parts.append(corePart(core.0, core.1, factors, hasMap: mine.groups[index - 1].weight != nil))
          }
        }
        // In front of a norm a factor changes ε alone: see `corePart`.
        if !isLast, group.weight == nil, isFirst { (item.reference.inputFactor, item.candidate.inputFactor) = (1, 1) }
        let isWhole = isFirst && isLast
        if item.isTrivial, !isWhole || pair.leavesStream == pair.entersStream { continue }
        groups.append(item)
      }
    }
    return groups + tables(&claim)
  }

  /// Compares what is left of a norm without gain and bias. c·x has the norm of x with ε/c² in place of ε.
  private func corePart(
    _ mine: Wire.Core, _ theirs: Wire.Core, _ factors: (Double, Double), hasMap: Bool
  ) -> PartsClaim.Part {
    var part = PartsClaim.Part(path: mine.path.description, ratio: 0)
    let compatible: Set<[Norm.Kind]> = [[.layer, .rms], [.layer, .crms], [.rms, .layer], [.crms, .layer]]
    if mine.kind != theirs.kind, !compatible.contains([mine.kind, theirs.kind]) {
      part.problem = "is \(theirs.kind.displayName), expected \(mine.kind.displayName)"
    }
    if mine.headCount != theirs.headCount {
      part.problem = "norms \(theirs.headCount) heads by themselves, expected \(mine.headCount)"
    }
    switch (mine.deviation, theirs.deviation) {
    case (.computed(let epsilon), .computed(let other)):
      let scales = hasMap ? (1, 1) : factors
      let (expected, found) = (epsilon / (scales.0 * scales.0), other / (scales.1 * scales.1))
      // Files may hold it in single precision.
      if !(abs(expected - found) <= 0x1p-22 * abs(expected)) || !(scales.0 * scales.1 > 0) {
        part.problem = "ε is \(found), expected \(expected)"
      }
    case (let a, let b) where a == b: break
    default: part.problem = "its deviation is another"
    }
    if part.problem != nil { part.ratio = .infinity }
    return part
  }

  /// The tables of both networks.
  private func tables(_ claim: inout PartsClaim) -> [GroupPair] {
    let (states, others) = (Set(reference.streamStates), Set(candidate.streamStates))
    var result: [GroupPair] = []
    for node in reference.nodes {
      guard case .embed(let table, let index) = node.operation else { continue }
      guard case .embed(let other, index) = candidate[node.path] else {
        claim.notCompared.append("\(node.path): the candidate has no such table")
        continue
      }
      func group(_ table: Parameter) -> AffineGroup {
        var group = AffineGroup(path: node.path)
        (group.weight, group.isTable) = (table, true)
        return group
      }
      result.append(
        GroupPair(
          reference: group(table), candidate: group(other), origin: node.path, junction: nil, operand: 0, isFirst: true,
          isLast: true, readsStream: false,
          writesStream: states.contains(node.path) && others.contains(node.path), isUpToShift: false))
    }
    return result
  }

  /// Each row of an attention pattern sums to one, so that what the values have as a bias arrives whole at the map behind
  /// attention. Where the biases of values differ, they are compared there.
  private func handOnValueBiases(
    of path: Path, _ attention: Attention, _ groups: inout [GroupPair], _ parts: inout [[PartsClaim.Part]],
    in stream: StreamRelation
  ) {
    guard let values = groups.firstIndex(where: { $0.junction == path && $0.operand == 2 && $0.isLast }),
      parts[values].contains(where: { !$0.holds && $0.isBias }), let form = groups[values].forms(in: stream).first,
      let comparison = groups[values].comparison(form, in: stream, allowance: allowance)
    else { return }
    let readers = groups.indices.filter { groups[$0].origin == path && groups[$0].isFirst }
    guard readers.count == reference.users(of: path).count, readers.allSatisfy({ groups[$0].takesInputShift }),
      let found = groups[values].biasDifference(form, through: comparison.wholeThrough, allowance: allowance)
    else { return }
    groups[values].handsBiasOn = true
    let dHead = found.shift.count / attention.keyValueHeadCount
    // Heads of the queries that share values get the same bias each.
    let origins = (0..<attention.headCount).flatMap { head in
      let first = head * attention.keyValueHeadCount / attention.headCount * dHead
      return Array(first..<first + dHead)
    }
    // What is within its bound counts as equal there, so that it cannot hide what is not.
    let moved = found.shift.indices.map { !(abs(found.shift[$0]) <= found.bounds[$0]) }
    for reader in readers {
      var shift = (
        values: origins.map { moved[$0] ? found.shift[$0] : 0 },
        errors: origins.map { moved[$0] ? found.bounds[$0] : 0 }
      )
      // A fixed norm in between subtracts the mean over all heads.
      if groups[reader].reference.centresInput { shift.values.subtractMean(&shift.errors) }
      groups[reader].valueBiasShift = shift
    }
    let changed = [values] + readers
    for (index, result) in zip(changed, compare(changed.map { groups[$0] }, in: stream)) { parts[index] = result }
  }

  /// Compares the sums of the biases of two addends where the biases themselves differ. Everything that the two add to
  /// their sum besides what depends on their inputs arrives as one vector, so that a bias may be moved from one of them
  /// to the other.
  private func compareSum(
    _ path: Path, _ groups: inout [GroupPair], _ parts: inout [[PartsClaim.Part]], in stream: StreamRelation,
    _ claim: inout PartsClaim
  ) {
    let addends = groups.indices.filter { groups[$0].junction == path && groups[$0].isLast }
    guard addends.count == 2, stream.relation == .same,
      addends.contains(where: { index in parts[index].contains { !$0.holds } })
    else { return }
    var sums: (expected: [Double], found: [Double], bounds: [Double])?
    for index in addends {
      guard let form = groups[index].forms(in: stream).first else { return }
      let through = groups[index].comparison(form, in: stream, allowance: allowance)?.wholeThrough
      guard
        let own = groups[index].addedVectors(
          form, through: through, width: reference.width(of: path), allowance: allowance)
      else { return }
      guard let others = sums else {
        sums = own
        continue
      }
      sums = (
        zip(others.expected, own.expected).map(+), zip(others.found, own.found).map(+),
        zip(others.bounds, own.bounds).map(+)
      )
    }
    guard let sums else { return }
    for index in addends { groups[index].handsBiasOn = true }
    for (index, result) in zip(addends, compare(addends.map { groups[$0] }, in: stream)) { parts[index] = result }
    var difference = Difference()
    for index in sums.expected.indices {
      let rounding = 8 * 0x1p-53 * (abs(sums.expected[index]) + abs(sums.found[index]))
      difference.add(
        sums.expected[index], sums.found[index], bound: sums.bounds[index] + rounding, input: 0, output: index)
    }
    claim.parts.append(.init(difference, at: path.appending("bias").description))
  }

  /// Looks for an order of the candidate's heads that makes the maps around an attention the same, if these differ:
  /// heads may be permuted if queries, keys, values and the map behind them are permuted alike.
  private func reorderHeads(
    of path: Path, _ attention: Attention, _ groups: inout [GroupPair], _ parts: inout [[PartsClaim.Part]],
    in stream: StreamRelation, _ claim: inout PartsClaim
  ) {
    let rotated = reference.node(at: path)?.operands ?? []
    func index(_ operand: Int) -> Int? {
      groups.firstIndex {
        $0.isLast && ($0.junction == path && $0.operand == operand || $0.junction == rotated[operand] && operand < 2)
      }
    }
    guard let query = index(0), let key = index(1), let value = index(2),
      let output = groups.firstIndex(where: { $0.origin == path && $0.isFirst }),
      ![query, key, value, output].allSatisfy({ parts[$0].allSatisfy(\.holds) }),
      let queryOrder = groups[query].headOrder(attention.headCount, in: stream),
      let valueOrder = groups[value].headOrder(attention.keyValueHeadCount, in: stream)
    else { return }
    let share = attention.headCount / attention.keyValueHeadCount
    guard queryOrder != Array(queryOrder.indices),
      queryOrder.enumerated().allSatisfy({ valueOrder[$0 / share] == $1 / share })
    else { return }
    var changed = groups
    changed[query].candidate.reorderOutputs(queryOrder)
    changed[key].candidate.reorderOutputs(valueOrder)
    changed[value].candidate.reorderOutputs(valueOrder)
    changed[output].candidate.reorderInputs(queryOrder)
    let indices = [query, key, value, output]
    // Biases of values may have been moved besides: the matrices decide.
    let matrices = indices.map { index in
      var group = changed[index]
      if index == value || index == output { group.handsBiasOn = true }
      return group
    }
    guard compare(matrices, in: stream).allSatisfy({ $0.allSatisfy(\.holds) }) else { return }
    let found = compare(indices.map { changed[$0] }, in: stream)
    groups = changed
    for (index, result) in zip(indices, found) { parts[index] = result }
    claim.notes.append("\(path): the heads are in another order, the same in every map")
  }
}

extension Rotary {
  /// The base, how angles are scaled where they are, and which features are a pair, for messages.
  fileprivate var angles: String {
    "base \(base)" + (scaling == .none ? "" : ", scaled (\(scaling))")
      + (pairsNeighbours ? ", neighbours as pairs" : "")
  }
}

extension Attention.Weighting {
  fileprivate var name: String {
    switch self {
    case .softmax: "a softmax"
    case .decaying(let factors): "products that decay by \(factors.map { "\($0)" }.joined(separator: ", "))"
    }
  }
}
