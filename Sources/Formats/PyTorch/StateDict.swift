/// The named tensors and plain values of a PyTorch archive.
struct StateDict {
  private(set) var tensors: [Tensor] = []
  private(set) var metadata: [String: MetadataValue] = [:]
  private(set) var warnings: [String] = []
  private(set) var integrityChecks: [IntegrityCheck] = []
  /// Temporary files, for what was deflated.
  private(set) var expandedFiles: [MappedFile] = []

  static let maximumNameByteCount = 1_024

  private let archive: PyTorchArchive
  private var heap: PickleHeap { archive.outcome.heap }
  private var pickleName: String { archive.pickleName }

  /// - Parameter keys: under which the state dict lies, one inside the other; none to look for it.
  init(of archive: PyTorchArchive, at keys: [String] = []) throws(Refusal) {
    self.archive = archive
    guard case .dictionary(let root) = archive.outcome.root else {
      throw Refusal(
        .unsupported, file: pickleName, "expected a dict of tensors, found \(archive.outcome.root.kind)",
        advice: PickleMachine.advice)
    }
    let place =
      keys.isEmpty
      ? try Self.findPlace(in: root, of: heap, file: pickleName)
      : try Self.place(under: keys, in: root, of: heap, file: pickleName)
    var flattener = PickleFlattener(heap: archive.outcome.heap, file: archive.pickleName)
    if place.key != nil {
      for (key, value) in heap.dictionaries[root].pairs {
        // `optimizer`, `optimizer_states`, `optimizer_state_dict`: as large as the model twice over, and no part of it.
        if case .string(let key) = key, place.passedKeys.contains(key) || key.hasPrefix("optimizer") { continue }
        try flattener.add(value, key: key, prefix: "")
      }
    }
    var named: [(name: String, tensor: Int)] = []
    for (key, value) in heap.dictionaries[place.dictionary].pairs {
      if case .tensor(let tensor) = value {
        named.append((try checkedName(key, heap.tensors[tensor]), tensor))
      } else {
        try flattener.add(value, key: key, prefix: "")
      }
    }
    if place.key != nil {
      try Self.refuseEmptyParameters(named, statedIn: root, of: heap, file: pickleName)
    }
    try resolve(named, scalars: flattener.scalars)
    metadata.merge(flattener.metadata) { first, _ in first }
    if let key = place.key, !place.isUnderKnownKey {
      warnings.append("\(pickleName): reading the state dict under '\(key.prefix(80))'")
    }
    warnings += flattener.warnings
    let attributes = named.compactMap { name, tensor in heap.tensors[tensor].attribute.map { (name, $0) } }
    if let (name, attribute) = attributes.first {
      warnings.append(
        "\(pickleName): attributes of tensors are ignored (\(attributes.count));"
          + " the first is \(attribute) of '\(name)'")
    }
    if let warning = archive.zip.warningOnChecksums { warnings.append(warning) }
  }

  private func checkedName(_ key: PickleValue, _ tensor: PickleHeap.Tensor) throws(Refusal) -> String {
    guard case .string(let name) = key, !name.isEmpty, !name.utf8.contains(0),
      name.utf8.count <= Self.maximumNameByteCount
    else {
      throw Refusal(
        .malformed, file: pickleName, at: tensor.byteOffset,
        "the name of a tensor: expected a string of 1 to \(Self.maximumNameByteCount) bytes without NUL, found \(key.kind)",
        advice: "a state dict maps names to tensors; save it again")
    }
    return name
  }

  /// Finds the bytes of the tensors. Each storage is looked up once, however many tensors share it.
  private mutating func resolve(_ named: [(name: String, tensor: Int)], scalars: [String: Int]) throws(Refusal) {
    let all = named + scalars.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
    var positions: [Int: Int] = [:]
    var storages: [PickleHeap.Storage] = []
    for (name, index) in all {
      let tensor = heap.tensors[index]
      try checkLayout(of: tensor, name: name)
      if positions[tensor.storage] == nil {
        positions[tensor.storage] = storages.count
        storages.append(heap.storages[tensor.storage])
      }
    }
    let contents = try archive.contents(of: storages)
    if let expanded = contents.first(where: { $0.file !== archive.zip.file })?.file { expandedFiles.append(expanded) }
    var resolved: [Tensor] = []
    resolved.reserveCapacity(all.count)
    for (name, index) in all {
      let tensor = heap.tensors[index]
      guard let position = positions[tensor.storage] else { preconditionFailure("every storage has a position") }
      let content = contents[position]
      resolved.append(
        Tensor(
          info: TensorInfo(name: name, type: tensor.type, shape: tensor.shape), file: content.file,
          byteOffset: content.byteOffset + (tensor.isEmpty ? 0 : tensor.elementOffset * (tensor.type.bitsPerBlock / 8)),
          elementStrides: tensor.isContiguous ? nil : tensor.strides))
    }
    tensors = Array(resolved.prefix(named.count))
    for (scalar, (name, index)) in zip(resolved, all).dropFirst(named.count) {
      // A few bytes each (PickleFlattener sees to it): verified here, since their numbers are used here.
      guard let position = positions[heap.tensors[index].storage] else { continue }
      try contents[position].pending?.verify()
      metadata[name] = scalar.scalarValue
    }
    integrityChecks = contents.compactMap(\.pending)
  }

  /// Proves that every element lies inside the storage and that no two share bytes.
  private func checkLayout(of tensor: PickleHeap.Tensor, name: String) throws(Refusal) {
    func refusal(_ problem: String, _ advice: Message = "the file is damaged; download it again") -> Refusal {
      Refusal(.malformed, file: pickleName, at: tensor.byteOffset, subject: name, problem, advice: advice)
    }
    let storage = heap.storages[tensor.storage]
    let itemByteCount = tensor.type.bitsPerBlock / 8
    // Untyped storages count bytes.
    let capacity = storage.type == nil ? storage.elementCount / itemByteCount : storage.elementCount
    guard let count = TensorInfo.checkedElementCount(tensor.shape), tensor.type.byteCount(ofElements: count) != nil
    else {
      throw refusal("the size of \(tensor.type.displayName) \(tensor.shape) overflows")
    }
    // PyTorch leaves any offset in an empty view, beyond the storage too.
    if count == 0 { return }
    // Axes of one element never move, so their strides mean nothing. The others, from the innermost: each must step
    // over all that the ones before can reach.
    var reach = 0
    let axes = tensor.shape.indices.filter { tensor.shape[$0] > 1 }.sorted { tensor.strides[$0] < tensor.strides[$1] }
    for axis in axes {
      guard tensor.strides[axis] > reach else {
        throw refusal(
          "elements share bytes: axis \(axis) of shape \(tensor.shape) with strides \(tensor.strides)"
            + " steps by \(tensor.strides[axis]), expected more than \(reach)",
          "call contiguous() on the tensor before saving")
      }
      let (extent, overflow) = (tensor.shape[axis] - 1).multipliedReportingOverflow(by: tensor.strides[axis])
      let (sum, sumOverflow) = reach.addingReportingOverflow(extent)
      guard !overflow, !sumOverflow else {
        throw refusal("strides \(tensor.strides) of shape \(tensor.shape) overflow")
      }
      reach = sum
    }
    let (last, overflow) = tensor.elementOffset.addingReportingOverflow(reach)
    guard !overflow, last < capacity else {
      throw refusal(
        "storage '\(storage.key)' has \(capacity) elements, but shape \(tensor.shape) with strides \(tensor.strides)"
          + " from element \(tensor.elementOffset) reaches beyond")
    }
  }
}

extension PickleHeap.Tensor {
  fileprivate var isEmpty: Bool { shape.contains(0) }

  /// Is true if the strides are those of row-major order, where they mean anything: they do not in an empty tensor, nor
  /// along an axis of length 1.
  fileprivate var isContiguous: Bool {
    if isEmpty { return true }
    var expected = 1
    for axis in shape.indices.reversed() where shape[axis] > 1 {
      guard strides[axis] == expected else { return false }
      expected *= shape[axis]
    }
    return true
  }
}

extension Tensor {
  /// The value of a tensor with one element, such as nanoGPT's `best_val_loss`.
  fileprivate var scalarValue: MetadataValue {
    let value = decoded(as: Double.self)[0]
    switch info.type {
    case .bool: return .bool(value != 0)
    case .f16, .bf16, .f32, .f64: return .double(value)
    default: return Int(exactly: value).map { .integer($0) } ?? .double(value)
    }
  }
}
