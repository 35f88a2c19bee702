import Foundation
import NormFoldFormats
import NormFoldNetworks
import TestSupport

/// A mistake to be planted in a file that was written.
package enum PlantedError: String, CaseIterable, Sendable {
  case tokenRowLarger, positionRowLarger, tokenRowsExchanged, tokenRowsShifted
  case elementSlightlyOff, elementOff, elementSign
  case matrixSlightlyLarger, matrixTransposed, matrixNotCentred
  case biasZero, biasElementOff
  case queryHeadsExchanged, headScaled, queriesAndKeysExchanged
  case unembeddingColumnLarger, unembeddingIsEmbedding
  case mlpsExchanged
  case keptGainOff, residualScaleOff
  case gateAndValuesExchanged, otherHeads, otherResidual
  case blockScale
  case otherActivation, otherEpsilon, otherRotaryBase, lastBlockDropped
  case otherScoreCap, otherLogitCap, otherWindow
}

/// A written network whose numbers can be changed in its files.
package struct WrittenNetwork {
  package let network: Network
  package let directory: String
  /// The type that the reference's matrices are stored in, whose rounding counts in a verification, too.
  private let referenceType: ElementType
  private let isUpToShift: Bool
  private var generator: SeededGenerator

  package init(
    _ network: Network, in directory: String, referenceType: ElementType, isUpToShift: Bool = false, seed: UInt64
  ) {
    self.network = network
    self.directory = directory
    self.referenceType = referenceType
    self.isUpToShift = isUpToShift
    generator = SeededGenerator(seed: seed)
  }

  private mutating func pick<Value>(_ values: [Value]) -> Value? {
    values.isEmpty ? nil : values[Int(generator.next() % UInt64(values.count))]
  }

  /// Plants an error.
  ///
  /// - Returns: where it is; nil where the network has no place for it, or where it would be lost in rounding.
  package mutating func plant(_ error: PlantedError) throws -> String? {
    let maps = network.linearMaps.map(\.path)
    let inner = maps.filter { $0 != network.output }
    switch error {
    case .tokenRowLarger: return try scaleRow(of: table(.token), by: 1.01)
    case .positionRowLarger: return try scaleRow(of: table(.position), by: 1.01)
    case .tokenRowsExchanged: return try exchangeRows(of: table(.token))
    case .tokenRowsShifted:
      return try change(table(.token)) { values, width, _ in
        values = Array(values[width...] + values[..<width])
      }
    case .elementSlightlyOff: return try changeElement(of: pick(maps)) { value, norm in value += 1e-4 * norm }
    case .elementOff: return try changeElement(of: pick(maps)) { value, norm in value += 1e-2 * norm }
    case .elementSign: return try changeElement(of: pick(maps)) { value, _ in value = -value }
    case .matrixSlightlyLarger:
      // What retention mixes is normed: a factor of its values changes the share of ε and nothing else.
      let values = network.attentions.filter { !$0.attention.isDistribution }.map { map(behind: $0.path, 2) }
      let blind = values + normedMaps
      return try change(pick(maps.filter { !blind.contains($0) })) { values, _, _ in
        for index in values.indices { values[index] *= 1 + 1e-5 }
      }
    case .matrixTransposed:
      return try change(pick(inner.filter { isSquare($0) })) { values, width, _ in
        let old = values
        for row in 0..<width { for column in 0..<width { values[row * width + column] = old[column * width + row] } }
      }
    case .matrixNotCentred:
      // What leaves a LayerNorm has mean zero, as a stream may have: the mean of a column is not seen then.
      guard !hasCentredStream else { return nil }
      let seeing = inner.filter { path in
        guard path.lastComponent == "query" || path.lastComponent == "input",
          let operand = network.node(at: path)?.operands.first
        else { return false }
        return network[norm: operand]?.kind != .layer
      }
      return try change(pick(seeing)) {
        values, width, column in
        for row in 0..<values.count / width { values[row * width + column] += 0.1 }
      }
    case .biasZero: return try changeBias { values, _ in for index in values.indices { values[index] = 0 } }
    case .biasElementOff: return try changeBias { values, index in values[index] = values[index] * 1.01 + 1e-4 }
    case .queryHeadsExchanged:
      return try changeHeads(operand: 0) { values, width, dHead, head in
        let old = values
        for row in 0..<values.count / width {
          for feature in 0..<dHead {
            values[row * width + head * dHead + feature] = old[row * width + feature]
            values[row * width + feature] = old[row * width + head * dHead + feature]
          }
        }
      }
    case .headScaled:
      return try changeHeads(operand: 2) { values, width, dHead, head in
        for row in 0..<values.count / width {
          for feature in 0..<dHead { values[row * width + head * dHead + feature] *= 1.01 }
        }
      }
    case .queriesAndKeysExchanged:
      guard let (path, _) = network.attentions.last, let query = map(behind: path, 0), let key = map(behind: path, 1),
        network[linear: query]?.weight.shape == network[linear: key]?.weight.shape
      else { return nil }
      return try exchange(query, key)
    case .unembeddingColumnLarger:
      return try change(network.isTied ? nil : network.output) { values, width, column in
        for row in 0..<values.count / width { values[row * width + column] *= 1.01 }
      }
    case .unembeddingIsEmbedding:
      // Where all logits of a position may be off by a constant, the mean of a row of the unembedding is seen by nobody.
      guard !network.isTied, !isUpToShift, let embedding = network.tokenEmbedding,
        embedding.columnCount == network.unembedding?.weight.rowCount
      else { return nil }
      let (rows, columns) = (embedding.rowCount, embedding.columnCount)
      let source = ParameterReader(embedding).values()
      return try change(network.output) { values, width, _ in
        for row in 0..<columns {
          for column in 0..<rows { values[row * width + column] = source[column * columns + row] }
        }
      }
    case .mlpsExchanged:
      guard network.blockCount > 1 else { return nil }
      return try exchange("blocks.0.mlp.input", "blocks.1.mlp.input")
    case .keptGainOff:
      // A gain may as well stand in the maps behind it: of maps in blocks, or rounded twice, 1% is less than their rounding.
      let isRounded = network.linearMaps.contains { _, map in
        map.weight.storedTensors.contains { $0.info.type.elementsPerBlock > 1 }
      }
      guard !isRounded, referenceType != .bf16,
        let (path, norm) = pick(network.norms.filter { $0.norm.gain.storedView != nil })
      else { return nil }
      // Gain and map are rounded by up to 2⁻⁹ each in BF16, and a mean that is subtracted over inputs and over outputs adds as
      // much again: 1.2% of a weight in all.
      let isBF16 = network.linearMaps.contains { _, map in
        map.weight.storedTensors.contains { $0.info.type == .bf16 }
      }
      return try write(norm.gain, path) { values in values[values.count / 2] *= isBF16 ? 1.05 : 1.01 }
    case .residualScaleOff:
      let scales = network.nodes.compactMap { node -> (Path, Parameter)? in
        if case .scaleFeatures(let vector) = node.operation { (node.path, vector) } else { nil }
      }
      guard let (path, vector) = pick(scales) else { return nil }
      return try write(vector, path) { values in values[values.count / 2] *= 1.01 }
    case .gateAndValuesExchanged: return try exchange("blocks.0.attention.gate", "blocks.0.attention.value")
    case .otherHeads:
      // Of retention: with them decays, angles and norms are others.
      return try changeConfiguration { configuration in
        guard let count = configuration["decoder_retention_heads"] as? Int, count > 1 else { return nil }
        configuration["decoder_retention_heads"] = count / 2
        return "decoder_retention_heads"
      }
    case .otherResidual:
      return try changeConfiguration { configuration in
        guard let isParallel = configuration["parallel_residual"] as? Bool else { return nil }
        configuration["parallel_residual"] = !isParallel
        return "parallel_residual"
      }
    case .blockScale:
      guard let path = pick(maps), let weight = network[linear: path]?.weight, let tensor = weight.storedTensors.first,
        tensor.info.type.elementsPerBlock > 1
      else { return nil }
      let place = tensor.byteOffset
      return try patch(tensor.file.path, at: place) { bytes in
        let scale = Float(float16Bits: UInt16(bytes[0]) | UInt16(bytes[1]) << 8) * 1.5
        let bits = Float16(scale).bitPattern
        (bytes[0], bytes[1]) = (UInt8(bits & 0xFF), UInt8(bits >> 8))
      } ? "\(path).weight" : nil
    case .otherActivation:
      return try changeConfiguration { configuration in
        for key in ["activation_function", "hidden_act", "hidden_activation", "activation_fn"] {
          guard let name = configuration[key] as? String else { continue }
          configuration[key] = ["gelu_new", "gelu_pytorch_tanh"].contains(name) ? "gelu" : "gelu_new"
          return key
        }
        return nil
      }
    case .otherEpsilon:
      guard network.norms.contains(where: { $0.norm.isComputed }) else { return nil }
      return try changeConfiguration { configuration in
        for key in ["layer_norm_epsilon", "layer_norm_eps", "rms_norm_eps", "layernorm_eps"] {
          guard let value = configuration[key] as? Double else { continue }
          configuration[key] = 2 * value
          return key
        }
        return nil
      }
    case .otherRotaryBase:
      return try changeConfiguration { configuration in
        if var rope = configuration["rope_parameters"] as? [String: Any], let base = rope["rope_theta"] as? Double {
          rope["rope_theta"] = base * 1.01
          configuration["rope_parameters"] = rope
          return "rope_theta"
        }
        for key in ["rope_theta", "rotary_emb_base"] {
          // A single pair turns by the position itself, whatever the base.
          guard let base = configuration[key] as? Double, hasSeveralRotatedPairs else { continue }
          configuration[key] = base * 1.01
          return key
        }
        // Of a RetNet the share of each head that is turned decides on the angles.
        if let share = configuration["rotary_percentage"] as? Double {
          configuration["rotary_percentage"] = share == 1 ? 0.5 : 1
          return "rotary_percentage"
        }
        return nil
      }
    case .otherScoreCap, .otherLogitCap:
      let key = error == .otherScoreCap ? "attn_logit_softcapping" : "final_logit_softcapping"
      return try changeConfiguration { configuration in
        guard let cap = configuration[key] as? Double else { return nil }
        configuration[key] = 1.01 * cap
        return key
      }
    case .otherWindow:
      guard network.attentions.contains(where: { $0.attention.mask.width != nil }) else { return nil }
      return try changeConfiguration { configuration in
        guard let width = configuration["sliding_window"] as? Int else { return nil }
        configuration["sliding_window"] = width + 1
        return "sliding_window"
      }
    case .lastBlockDropped:
      guard network.blockCount > 1, let path = network.linearMaps.last(where: { $0.path.block != nil })?.path else {
        return nil
      }
      // What a dropped block leaves behind is a branch that writes nothing.
      return try change(path) { values, _, _ in for index in values.indices { values[index] = 0 } }
    }
  }
}

extension WrittenNetwork {
  private var hasSeveralRotatedPairs: Bool {
    network.nodes.contains { if case .rotate(let rotary, _) = $0.operation { rotary.width > 2 } else { false } }
  }

  private func table(_ kind: NormFoldNetworks.Operation.Index) -> Path? {
    network.nodes.first { if case .embed(_, kind) = $0.operation { true } else { false } }?.path
  }

  /// The maps whose factor a computed norm behind them takes away, but for the share of ε: the one that it reads, and what that
  /// reads in turn by way of attention or of a product with a gate.
  private var normedMaps: [Path?] {
    network.norms.filter(\.norm.isComputed).flatMap { path, _ -> [Path?] in
      guard let map = network.node(at: path)?.operands.first, network[linear: map] != nil,
        let read = network.node(at: map)?.operands.first, let node = network.node(at: read)
      else { return [] }
      switch node.operation {
      case .attend: return [map, self.map(behind: read, 2)]
      case .multiply: return [map, node.operands[1]]
      default: return [map]
      }
    }
  }

  /// Whether the rows of the token table have mean zero, up to rounding.
  private var hasCentredStream: Bool {
    guard let table = network.tokenEmbedding else { return false }
    let row = ParameterReader(table).values(rows: 0..<1, columns: 0..<table.columnCount)
    return abs(row.reduce(0, +)) < 1e-2 * row.reduce(0) { $0 + abs($1) }
  }

  private func isSquare(_ path: Path) -> Bool {
    network[linear: path].map { $0.weight.rowCount == $0.weight.columnCount } ?? false
  }

  private func parameter(_ path: Path) -> Parameter? { network[linear: path]?.weight ?? network[table: path] }

  private mutating func scaleRow(of path: Path?, by factor: Double) throws -> String? {
    let row = Int(generator.next() % 1_000_000)
    return try change(path) { values, width, _ in
      let start = row % (values.count / width) * width
      for index in start..<start + width { values[index] *= factor }
    }
  }

  private mutating func exchangeRows(of path: Path?) throws -> String? {
    let row = Int(generator.next() % 1_000_000)
    return try change(path) { values, width, _ in
      let count = values.count / width
      let (a, b) = (row % count * width, (row + 1) % count * width)
      for column in 0..<width { values.swapAt(a + column, b + column) }
    }
  }

  /// - Parameter change: gets an element and the norm of its row.
  private mutating func changeElement(of path: Path?, _ change: (inout Double, Double) -> Void) throws -> String? {
    let place = Int(generator.next() % 1_000_000)
    return try self.change(path) { values, width, _ in
      let index = place % values.count
      let row = values[index / width * width..<(index / width + 1) * width]
      change(&values[index], row.reduce(0) { $0 + $1 * $1 }.squareRoot())
    }
  }

  private mutating func changeBias(_ change: (inout [Double], Int) -> Void) throws -> String? {
    // What values have as a bias arrives in the bias behind attention, whose rounding in 16 bits may hide it.
    let isNarrow =
      referenceType == .bf16
      || network.linearMaps.contains { _, map in
        map.bias?.storedTensors.contains { $0.info.type != .f32 } ?? false
      }
    let biased = network.linearMaps.filter {
      $0.map.bias?.storedTensors.isEmpty == false && !(isNarrow && $0.path.lastComponent == "value")
    }
    guard let (path, map) = pick(biased), let bias = map.bias else { return nil }
    let place = Int(generator.next() % UInt64(bias.elementCount))
    return try write(bias, path.appending("bias")) { change(&$0, place) }
  }

  /// The map that an operand of an attention comes from.
  func map(behind attention: Path, _ operand: Int) -> Path? {
    guard var path = network.node(at: attention)?.operands[operand] else { return nil }
    while network[linear: path] == nil, let next = network.node(at: path)?.operands.first { path = next }
    return network[linear: path] == nil ? nil : path
  }

  private mutating func changeHeads(
    operand: Int, _ change: (inout [Double], _ width: Int, _ dHead: Int, _ head: Int) -> Void
  ) throws -> String? {
    guard let (path, attention) = pick(network.attentions), let map = map(behind: path, operand) else { return nil }
    let count = operand == 0 ? attention.headCount : attention.keyValueHeadCount
    guard count > 1 || operand == 2 else { return nil }
    return try self.change(map) { values, width, _ in change(&values, width, width / count, count - 1) }
  }

  private func exchange(_ a: Path, _ b: Path) throws -> String? {
    guard let first = parameter(a), let second = parameter(b), first.shape == second.shape else { return nil }
    let (one, other) = (ParameterReader(first).values(), ParameterReader(second).values())
    let wroteFirst = try write(first, a) { $0 = other }
    let wroteSecond = try write(second, b) { $0 = one }
    return wroteFirst ?? wroteSecond
  }

  private mutating func change(
    _ path: Path?, _ change: (inout [Double], _ width: Int, _ column: Int) -> Void
  ) throws -> String? {
    guard let path, let parameter = parameter(path) else { return nil }
    let column = Int(generator.next() % UInt64(parameter.columnCount))
    return try write(parameter, path.appending("weight")) { change(&$0, parameter.columnCount, column) }
  }

  /// Changes the numbers of a parameter in its file.
  ///
  /// - Returns: where; nil where nothing is farther off than rounding may have put it.
  func write(_ parameter: Parameter, _ path: Path, _ change: (inout [Double]) -> Void) throws -> String? {
    let old = ParameterReader(parameter).values()
    var new = old
    change(&new)
    // By tensor: the elements of the file.
    var byTensor: [(tensor: Tensor, changes: [Int: Double])] = []
    for row in 0..<parameter.rowCount {
      for column in 0..<parameter.columnCount {
        let index = row * parameter.columnCount + column
        guard old[index] != new[index] else { continue }
        guard let (tensor, element) = parameter.place(row, column) else { return nil }
        let slot = byTensor.firstIndex { $0.tensor == tensor } ?? byTensor.count
        if slot == byTensor.count { byTensor.append((tensor, [:])) }
        byTensor[slot].changes[element] = new[index]
      }
    }
    var isBeyondRounding = false
    for (tensor, changes) in byTensor where try tensor.store(changes) { isBeyondRounding = true }
    // The reference's own rounding is a share of all that a mean or a gain has brought together.
    let ofReference = referenceType == .bf16 ? 0x1p-6 : 0
    var slack = max(ofReference, shareOfHalfGains) * (old.map(abs).max() ?? 0)
    // A mean that is subtracted has the mean of their roundings.
    let types = Set(parameter.storedTensors.map(\.info.type))
    if let share = types.contains(.bf16) ? 0x1p-7 : types.contains(.f16) ? 0x1p-10 : nil, !old.isEmpty {
      slack = max(slack, share * old.reduce(0) { $0 + abs($1) } / Double(old.count))
    }
    let largest = zip(old, new).reduce(0) { max($0, abs($1.0 - $1.1)) }
    return isBeyondRounding && largest > slack ? path.description : nil
  }

  /// How much of a gain that is stored in F16 its rounding may be: a small one has few digits there, and what a map and its
  /// gain make together is not known better than that.
  private var shareOfHalfGains: Double {
    var share = 0.0
    for (_, norm) in network.norms where norm.gain.storedTensors.contains(where: { $0.info.type == .f16 }) {
      for gain in ParameterReader(norm.gain).values() where gain != 0 { share = max(share, 0x1p-24 / abs(gain)) }
    }
    return min(share, 1)
  }

  private func patch(_ file: String, at offset: Int, _ change: (inout [UInt8]) -> Void) throws -> Bool {
    let handle = try FileHandle(forUpdating: URL(filePath: file))
    defer { try? handle.close() }
    try handle.seek(toOffset: UInt64(offset))
    guard let data = try handle.read(upToCount: 2) else { return false }
    var bytes = [UInt8](data)
    change(&bytes)
    guard bytes != [UInt8](data) else { return false }
    try handle.seek(toOffset: UInt64(offset))
    try handle.write(contentsOf: Data(bytes))
    return true
  }

  /// - Parameter change: returns the key that it changed.
  private func changeConfiguration(_ change: (inout [String: Any]) -> String?) throws -> String? {
    let url = URL(filePath: directory + "/config.json")
    guard FileManager.default.fileExists(atPath: url.path),
      !FileManager.default.fileExists(
        atPath: directory + "/model.onnx"),
      var configuration = try JSONSerialization.jsonObject(with: Data(contentsOf: url)) as? [String: Any],
      let key = change(&configuration)
    else { return nil }
    try JSONSerialization.data(withJSONObject: configuration).write(to: url)
    return "config.json: \(key)"
  }
}

extension Parameter {
  /// The stored element that an element of the recipe is, where it is nothing but that.
  func place(_ row: Int, _ column: Int) -> (Tensor, Int)? {
    switch expression {
    case .stored(let tensor): return (tensor, row * columnCount + column)
    case .transposed(let inner): return inner.place(column, row)
    case .slice(let inner, let axis, let range):
      let isRow = axis == 0 && inner.shape.count == 2
      return inner.place(row + (isRow ? range.lowerBound : 0), column + (isRow ? 0 : range.lowerBound))
    case .reordered(let inner, let axis, let order):
      let isRow = axis == 0 && inner.shape.count == 2
      return isRow ? inner.place(order.origin(of: row), column) : inner.place(row, order.origin(of: column))
    case .concatenation(let parts, let axis):
      let isRow = axis == 0 && shape.count == 2
      var start = 0
      for part in parts {
        let extent = isRow ? part.rowCount : part.columnCount
        let position = (isRow ? row : column) - start
        if position < extent { return isRow ? part.place(position, column) : part.place(row, position) }
        start += extent
      }
      return nil
    default: return nil
    }
  }
}

extension Tensor {
  /// Stores other numbers for some elements.
  ///
  /// - Returns: whether one of them is then farther off than rounding may have put it.
  fileprivate func store(_ changes: [Int: Double]) throws -> Bool {
    let (type, block) = (info.type, info.type.elementsPerBlock)
    let handle = try FileHandle(forUpdating: URL(filePath: file.path))
    defer { try? handle.close() }
    var isBeyond = false
    for first in Set(changes.keys.map { $0 / block * block }).sorted() {
      let old = numbers(first..<first + block)
      var values = old
      for index in 0..<block { if let value = changes[first + index] { values[index] = value } }
      var bytes = [UInt8](repeating: 0, count: type.byteCount(ofElements: block) ?? 0)
      values.withUnsafeBufferPointer { values in bytes.withUnsafeMutableBytes { _ = type.encode(values, into: $0) } }
      try handle.seek(toOffset: UInt64(byteOffset + first / block * bytes.count))
      try handle.write(contentsOf: Data(bytes))
      let rounded = try type.decoded(bytes)
      let largest = old.reduce(0) { max($0, abs($1)) }
      for index in 0..<block where abs(rounded[index] - old[index]) > type.allowed(old[index], largest: largest) {
        isBeyond = true
      }
    }
    return isBeyond
  }

  fileprivate func numbers(_ range: Range<Int>) -> [Double] {
    var result = [Double](repeating: 0, count: range.count)
    result.withUnsafeMutableBufferPointer { decode(range, into: $0) }
    return result
  }
}

extension ElementType {
  /// What one block of bytes says.
  fileprivate func decoded(_ bytes: [UInt8]) throws -> [Double] {
    let directory = try TemporaryDirectory()
    let path = try directory.write(bytes, to: "block")
    let file = try MappedFile(path: path)
    let count = elementsPerBlock
    let tensor = Tensor(info: TensorInfo(name: "block", type: self, shape: [count]), file: file, byteOffset: 0)
    return tensor.numbers(0..<count)
  }

  /// How far a stored number may be from one that is within rounding of another: twice the rounding of the type, and what
  /// a fold in single precision may do.
  fileprivate func allowed(_ value: Double, largest: Double) -> Double {
    switch self {
    case .f32: return abs(value) * 0x1p-19 + largest * 0x1p-20
    case .bf16: return abs(value) * 0x1p-6 + largest * 0x1p-20
    case .f16: return abs(value) * 0x1p-9 + 0x1p-23 + largest * 0x1p-20
    case .q8_0: return largest / 60
    case .q4_0: return largest / 3
    case .q5_1, .q4_1, .q5_0: return largest / 6
    default: return 0
    }
  }
}
