import NormFoldArithmetic
import NormFoldNetworks

/// The probes of a verification.
package struct ProbeSet: Hashable, Sendable {
  /// Run in double and in single precision: few tokens, each of which shows any error in any weight that it reads.
  package var precise: [Probe]
  /// Run in single precision only: as many as the user asks for.
  package var long: [Probe]

  package init(precise: [Probe], long: [Probe] = []) {
    self.precise = precise
    self.long = long
  }

  package var all: [Probe] { precise + long }
}

extension ProbeSet {
  /// Tokens of a probe that goes across the context in steps. That they are few costs no certainty where every part of the networks
  /// is compared by itself; what they show is that the parts are put together as they should be.
  private static let acrossCount = 6
  /// Tokens of a probe with padding, and of one that is run in double precision in any network.
  private static let paddedCount = 16
  /// Tokens of a probe with the end-of-text token, and of one in a network where a pass over the whole context takes long.
  private static let (shortCount, shortestCount) = (10, 3)
  /// Multiplications that a pass over a probe may take in double precision: about half a second for the two networks.
  private static let preciseCost = 1 << 33

  /// One token, the whole context, and the end-of-text token where there is one, at the start and in the middle. The
  /// tokens are drawn at random, but the same for the same seed.
  ///
  /// Where a pass over the whole context would take long, a few tokens go across it in steps, from the first position to
  /// the last: each row of the position embedding that is read is as good as any other, and how many tokens attention
  /// looks back on depends on no weight.
  ///
  /// - Parameters:
  ///   - longest: the length of the probe in place of the one across the context: contiguous, from position 0.
  ///   - count: how many such probes there are.
  package static func standard(
    for network: Network, endOfText: Int?, seed: UInt64 = 1, longest: Int? = nil, count: Int = 1
  ) -> ProbeSet {
    if let image = network.image { return images(image, for: network, seed: seed, count: count) }
    guard network.isCausal else { return bidirectional(for: network, seed: seed, longest: longest, count: count) }
    return standard(
      vocabularySize: network.vocabularySize, contextLength: network.contextLength,
      multiplicationsPerToken: network.multiplicationsPerToken, endOfText: endOfText, seed: seed, longest: longest,
      count: count)
  }

  /// - Parameter multiplicationsPerToken: the number of weights that one token is multiplied with.
  static func standard(
    vocabularySize: Int, contextLength context: Int, multiplicationsPerToken: Int, endOfText: Int?, seed: UInt64 = 1,
    longest: Int? = nil, count: Int = 1
  ) -> ProbeSet {
    var generator = SplitMix64(state: seed)
    func draw(_ count: Int) -> [Int] {
      (0..<count).map { _ in Int.random(in: 0..<vocabularySize, using: &generator) }
    }
    func isCheap(_ tokenCount: Int) -> Bool {
      Self.isCheap(tokenCount, multiplicationsPerToken: multiplicationsPerToken)
    }
    let wanted = min(longest ?? context, context)
    var set = ProbeSet(precise: [Probe(name: "one token", tokens: draw(1))])
    let isContiguous = longest != nil || isCheap(context)
    if isContiguous {
      let probes = (1...max(1, count)).map { number in
        Probe(
          name: (wanted == context ? "full context" : "\(wanted) tokens") + (number > 1 ? " \(number)" : ""),
          tokens: draw(wanted))
      }
      if isCheap(wanted * max(1, count)) { set.precise += probes } else { set.long = probes }
    }
    if !isContiguous || !set.long.isEmpty {
      let steps = min(acrossCount, context)
      set.precise.append(
        Probe(
          name: "across the context", tokens: draw(steps),
          positions: (0..<steps).map { $0 * (context - 1) / max(1, steps - 1) }))
    }
    if let endOfText {
      let short = min(isCheap(context) ? shortCount : shortestCount, wanted)
      set.precise.append(Probe(name: "end-of-text first", tokens: [endOfText] + draw(short - 1)))
      var middle = draw(short)
      middle[short / 2] = endOfText
      set.precise.append(Probe(name: "end-of-text in the middle", tokens: middle))
    }
    return set
  }

  /// Images whose pixels are drawn from 0 to 1 and from −1 to 1, between which what networks are trained on lies, and one of
  /// a single colour, as many times as are asked for. An image has one length.
  private static func images(_ image: ImageGrid, for network: Network, seed: UInt64, count: Int) -> ProbeSet {
    var generator = SplitMix64(state: seed)
    // Numbers that single precision holds.
    func draw(_ range: ClosedRange<Float>) -> [Double] {
      (0..<image.pixelCount).map { _ in Double(Float.random(in: range, using: &generator)) }
    }
    let probes = (1...max(1, count)).flatMap { number in
      let end = number > 1 ? " \(number)" : ""
      return [
        Probe(name: "pixels from −1 to 1" + end, pixels: draw(-1...1), of: image),
        Probe(name: "pixels from 0 to 1" + end, pixels: draw(0...1), of: image),
        Probe(
          name: "one colour" + end, pixels: [Double](repeating: draw(0...1)[0], count: image.pixelCount), of: image),
      ]
    }
    let isCheap = isCheap(
      network.contextLength * probes.count, multiplicationsPerToken: network.multiplicationsPerToken)
    return isCheap ? ProbeSet(precise: probes) : ProbeSet(precise: [probes[0]], long: Array(probes[1...]))
  }

  /// Sequences for a network in which every token attends to all: one token, the whole context, and two short ones, with
  /// padding behind and before the tokens, that are made of two texts where the network tells texts apart.
  ///
  /// Positions are counted by the programs that run such networks, so that none is left out.
  private static func bidirectional(for network: Network, seed: UInt64, longest: Int?, count: Int) -> ProbeSet {
    var generator = SplitMix64(state: seed)
    func draw(_ count: Int) -> [Int] {
      (0..<count).map { _ in Int.random(in: 0..<network.vocabularySize, using: &generator) }
    }
    let context = network.contextLength
    let wanted = min(longest ?? context, context)
    var set = ProbeSet(precise: [Probe(name: "one token", tokens: draw(1))])
    let probes = (1...max(1, count)).map { number in
      Probe(
        name: (wanted == context ? "full context" : "\(wanted) tokens") + (number > 1 ? " \(number)" : ""),
        tokens: draw(wanted))
    }
    if let width = network.wordFeatureCount { return words(probes, width: width, for: network, &generator) }
    let isCheap = isCheap(wanted * max(1, count), multiplicationsPerToken: network.multiplicationsPerToken)
    if isCheap { set.precise += probes } else { set.long = probes }
    let short = min(paddedCount, context)
    let padding = short / 4
    let typeCount = network.tokenTypeEmbedding?.rowCount ?? 1
    // A token that does not count as a position stands where padding is.
    func pad(_ isVisible: [Bool]) -> [Int] {
      zip(draw(short), isVisible).map { token, isVisible in isVisible ? token : network.paddingToken ?? token }
    }
    let (behind, before) = ((0..<short).map { $0 >= padding }, (0..<short).map { $0 < short - padding })
    let types = (0..<short).map { $0 * typeCount / short }
    set.precise += [
      Probe(name: "padded before", tokens: pad(behind), types: types, isVisible: behind),
      Probe(name: "padded behind", tokens: pad(before), types: types, isVisible: before),
    ]
    return set
  }

  /// Sequences whose tokens make words of one to three, each with numbers of its own, drawn from −2 to 2.
  private static func words(
    _ probes: [Probe], width: Int, for network: Network, _ generator: inout SplitMix64
  ) -> ProbeSet {
    let short = (1...2).map { number in
      Probe(name: "\(3 * number) tokens", tokens: probes[0].tokens.prefix(3 * number).map { $0 })
    }
    let worded = (short + probes).map { probe -> Probe in
      var words: [Int] = []
      while words.count < probe.tokens.count {
        let word = (words.last ?? -1) + 1
        words += [Int](repeating: word, count: Int.random(in: 1...3, using: &generator))
      }
      words = Array(words.prefix(probe.tokens.count))
      let features = (0...(words.last ?? 0)).map { _ in
        (0..<width).map { _ in Double(Float.random(in: -2...2, using: &generator)) }
      }
      return Probe(name: probe.name, tokens: probe.tokens, words: words, features: features)
    }
    let isCheap = isCheap(
      worded.reduce(0) { $0 + $1.tokens.count }, multiplicationsPerToken: network.multiplicationsPerToken)
    return isCheap
      ? ProbeSet(precise: worded) : ProbeSet(precise: Array(worded[..<2]), long: Array(worded[2...]))
  }

  private static func isCheap(_ tokenCount: Int, multiplicationsPerToken: Int) -> Bool {
    tokenCount <= paddedCount || tokenCount <= preciseCost / max(1, multiplicationsPerToken)
  }

  /// Adds the beginning of a text, which finds a network in the states that it was trained for.
  ///
  /// - Parameters:
  ///   - frame: puts around the tokens of each probe what the network was trained to find around a text.
  ///   - longest: the length of each probe; nil for the context.
  ///   - count: how many probes at most.
  package mutating func add(
    text tokens: [Int], for network: Network, longest: Int? = nil, count: Int = 1,
    frame: ([Int]) -> [Int] = { $0 }
  ) {
    let context = network.contextLength
    let length = min(min(longest ?? context, context) - frame([]).count, tokens.count)
    guard length > 0 else { return }
    let probes = (0..<min(max(1, count), tokens.count / length)).map { number in
      Probe(
        name: "text" + (number > 0 ? " \(number + 1)" : ""),
        tokens: frame(Array(tokens[number * length..<(number + 1) * length])))
    }
    if Self.isCheap(length * probes.count, multiplicationsPerToken: network.multiplicationsPerToken) {
      precise += probes
    } else {
      long += probes
    }
  }
}

extension Network {
  /// The number of weights that one token is multiplied with.
  fileprivate var multiplicationsPerToken: Int { linearMaps.reduce(0) { $0 + $1.map.weight.elementCount } }
}
