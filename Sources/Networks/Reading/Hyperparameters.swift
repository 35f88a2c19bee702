import NormFoldFormats

/// The sizes and choices of a network that its config states beside the tensors.
package struct Hyperparameters: Sendable {
  /// A size that a config may state.
  package enum Size: String, Sendable, CaseIterable {
    /// The width of the residual stream.
    case model
    case blocks
    /// The width of an MLP's hidden layer.
    case hidden
    case context
    case vocabulary
    case heads
    /// The heads of keys and values.
    case keyValueHeads
    case headWidth
    /// The number of texts that a sequence may be made of, whose tokens are told apart.
    case tokenTypes
    /// The number of labels that a classifier chooses from.
    case labels
  }

  /// A window of attention: how far a token looks back, and in which blocks.
  package struct Window: Hashable, Sendable {
    package enum Blocks: Hashable, Sendable {
      case all
      /// The first one, the third one and so on.
      case everyOther
      /// Those from this one on.
      case from(Int)
      /// One word for each block.
      case listed([Bool])
    }

    /// A token sees those that are less than so many tokens before it.
    package var width: Int
    package var blocks: Blocks

    package init(width: Int, blocks: Blocks) {
      self.width = width
      self.blocks = blocks
    }

    /// That of a network; nil where attention looks over the whole context.
    package init?(of network: Network) {
      let widths = network.attentions.map(\.attention.mask.width)
      guard let width = widths.compactMap({ $0 }).first else { return nil }
      self.init(width: width, blocks: .listed(widths.map { $0 != nil }))
    }

    package func includes(block: Int) -> Bool {
      switch blocks {
      case .all: true
      case .everyOther: block % 2 == 0
      case .from(let first): block >= first
      case .listed(let blocks): blocks.indices.contains(block) && blocks[block]
      }
    }
  }

  /// A size as a config states it: under which key, and how large.
  package struct Statement: Sendable {
    package let key: String
    package let size: Size
    package let value: Int
  }

  /// The path of the file that the config was read from, for messages.
  package let path: String
  /// The sizes that the config states, in the order of its table.
  package internal(set) var statements: [Statement] = []
  /// The sizes themselves, held against the tensors.
  private var sizes: [Size: Int] = [:]

  /// Under the root of every computed norm.
  package var epsilon = 1e-5
  package var normKind: Norm.Kind?
  package var activation = Activation.geluTanh
  /// Is true if the unembedding is the token embedding.
  package var isTied = true
  /// The base of rotary positions; nil where there are none.
  package var rotaryBase: Double?
  /// The length of a context where no table of positions and no key that is held against one says it.
  package var contextWithoutTable: Int?
  /// The share of each head's features that is rotated. Where a file states the number of these features,
  /// ``rotaryWidth`` is that number, and counts instead.
  package var rotaryShare = 1.0
  package var rotaryWidth: Int?
  /// The way in which the angles of rotary positions were changed for contexts that are longer than the trained one.
  package var rotaryScaling = Rotary.Scaling.none
  /// Is true if the angles would change with a text that is longer than the context (`dynamic`), which no text is here.
  package var hasDynamicAngles = false
  /// The window over which attention looks back; nil where it looks over the whole context.
  package var window: Window?
  /// Is true if norms that are not stored were folded into the weights.
  package var isFolded = false
  /// Is true if the network was trained without norms in its blocks.
  package var isWithoutBlockNorms = false
  /// Is true if the checkpoint may come from a removal run whose schedule says which norms are fixed at which step.
  package var isScheduledRemoval = false
  /// The tokens that end a text, as the config has them; where one is asked for, the first counts.
  package var endsOfText: [Int] = []
  package var endOfText: Int? {
    get { endsOfText.first }
    set { endsOfText = newValue.map { [$0] } ?? [] }
  }
  /// The values that have no property here, by the key of the config. Most of them only the file of the architecture
  /// reads.
  package var own: [String: JSONValue] = [:]
  /// Is true if the product with the scales of heads was applied with heads and their features exchanged: see
  /// ``ReadingOptions/permutesHeadScales``.
  package var permutesHeadScales = false
  /// Numbers that outputs of maps are multiplied by, by the path of the map.
  package var outputScales: [Path: Double] = [:]

  package init(path: String) { self.path = path }

  /// A size.
  ///
  /// - Precondition: it was stated or measured.
  package subscript(size: Size) -> Int {
    get {
      guard let value = sizes[size] else { preconditionFailure("\(size) is not known") }
      return value
    }
    set { sizes[size] = newValue }
  }

  /// A size as the config states it; nil where it does not.
  package func stated(_ size: Size) -> Int? { statements.first { $0.size == size }?.value }

  /// The key under which a size is stated.
  package func key(of size: Size) -> String? { statements.first { $0.size == size }?.key }

  package var dModel: Int { self[.model] }
  package var dHead: Int { self[.headWidth] }
  package var blockCount: Int { self[.blocks] }
  package var headCount: Int { self[.heads] }
  package var keyValueHeadCount: Int { self[.keyValueHeads] }
  package var contextLength: Int { self[.context] }

  /// The size of an axis of a parameter.
  package subscript(extent extent: Extent) -> Int {
    switch extent {
    case .model: dModel
    case .hidden: self[.hidden]
    case .heads: headCount * dHead
    case .headCount: headCount
    case .keyValueHeads: keyValueHeadCount * dHead
    case .head: dHead
    case .vocabulary: self[.vocabulary]
    case .positions: self[.context]
    case .tokenTypes: self[.tokenTypes]
    case .labels: self[.labels]
    case .single: 1
    case .own(let key): own[key]?.count ?? 0
    case .patch: imageGrid?.patchLength ?? 0
    }
  }

  /// Takes the sizes of a network: one for all of its blocks.
  package mutating func take(sizesOf network: Network) {
    self[.model] = network.streamWidth
    self[.blocks] = network.blockCount
    self[.vocabulary] = network.vocabularySize
    self[.context] = network.positionEmbedding?.rowCount ?? network.contextLength
    self[.labels] = network.outputWidth
    if let types = network.tokenTypeEmbedding { self[.tokenTypes] = types.rowCount }
    if let (path, attention) = network.attentions.first {
      self[.heads] = attention.headCount
      self[.keyValueHeads] = attention.keyValueHeadCount
      self[.headWidth] = network.width(of: path) / attention.headCount
    }
    if network[linear: "blocks.0.mlp.input"] != nil { self[.hidden] = network.width(of: "blocks.0.mlp.input") }
  }

  /// The rotary positions; nil where there are none.
  package var rotary: Rotary? {
    rotaryBase.map {
      Rotary(base: $0, width: rotaryWidth ?? Int(rotaryShare * Double(dHead)), scaling: rotaryScaling)
    }
  }

  /// Returns the mask of a decoder's attention in a block: the tokens that a token attends to.
  package func causalMask(block: Int) -> Attention.Mask {
    guard let window, window.includes(block: block), window.width < contextLength else { return .causal }
    return .window(window.width)
  }

  /// The number that attention scores are usually multiplied by: 1/√dHead.
  package var standardAttentionScale: Double { 1 / Double(dHead).squareRoot() }

  /// Returns whether a key of the config that only the architecture reads is true; nil where the config does not say
  /// it.
  package func flag(_ key: String) -> Bool? { own[key]?.bool }
}
