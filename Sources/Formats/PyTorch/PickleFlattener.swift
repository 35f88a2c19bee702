/// Turns the plain values of a pickle into metadata: nested dicts become names with dots, `config.n_layer`.
///
/// A few hundred bytes of pickle can describe 2^40 values, each shared by the two containers above it. The heap holds
/// each once; written out flat they would never end, so the values that are written out are counted.
struct PickleFlattener {
  private(set) var metadata: [String: MetadataValue] = [:]
  /// Tensors of one element, by name; their values are in the archive, not in the pickle.
  private(set) var scalars: [String: Int] = [:]
  /// One for each kind of value that is left out, however many there are.
  var warnings: [String] {
    var warnings: [String] = []
    if let (first, count) = ignoredKeys {
      warnings.append("\(file): keys that are not names are ignored (\(count)); the first is \(first)")
    }
    if let (first, count) = ignoredTensors {
      warnings.append("\(file): tensors outside the state dict are ignored (\(count)); the first is '\(first)'")
    }
    return warnings
  }

  static let maximumValueCount = 100_000
  static let maximumDepth = 16
  /// The most elements that the storage of a tensor may have for the tensor to be read as a value, since reading the
  /// value means verifying the whole storage.
  static let maximumScalarStorageCount = 4_096
  /// The most bytes that a name may have with its dots: short strings in the pickle must not become long names by
  /// repetition.
  static let maximumNameByteCount = 1_024

  private let heap: PickleHeap
  private let file: String
  private var valueCount = 0
  private var ignoredKeys: (first: String, count: Int)?
  private var ignoredTensors: (first: String, count: Int)?

  init(heap: PickleHeap, file: String) {
    self.heap = heap
    self.file = file
  }

  /// - Throws: `.unsupported` beyond the budgets; `.malformed` where two values get one name.
  mutating func add(_ value: PickleValue, key: PickleValue, prefix: String, depth: Int = 0) throws(Refusal) {
    guard case .string(let name) = key else {
      let first = ignoredKeys?.first ?? "\(key.kind)\(prefix.isEmpty ? "" : " of '\(prefix)'")"
      ignoredKeys = (first, (ignoredKeys?.count ?? 0) + 1)
      try count(depth, in: prefix)
      return
    }
    let path = prefix.isEmpty ? name : "\(prefix).\(name)"
    guard path.utf8.count <= Self.maximumNameByteCount else {
      throw Refusal(
        .unsupported, file: file, subject: String(path.prefix(80)),
        "a name has \(path.utf8.count) bytes, expected at most \(Self.maximumNameByteCount)",
        advice: PickleMachine.advice)
    }
    try count(depth, in: path)
    guard metadata[path] == nil, scalars[path] == nil else {
      throw Refusal(
        .malformed, file: file, subject: path, "the name occurs twice",
        advice: "a name must mean one value; save it again")
    }
    switch value {
    case .dictionary(let dictionary):
      for (key, value) in heap.dictionaries[dictionary].pairs {
        try add(value, key: key, prefix: path, depth: depth + 1)
      }
    case .tensor(let index):
      let tensor = heap.tensors[index]
      if tensor.shape.allSatisfy({ $0 == 1 }), tensor.type.isDecodable,
        heap.storages[tensor.storage].elementCount <= Self.maximumScalarStorageCount
      {
        scalars[path] = index
      } else {
        ignoredTensors = (ignoredTensors?.first ?? path, (ignoredTensors?.count ?? 0) + 1)
      }
    default: metadata[path] = try plain(value, depth: depth, in: path)
    }
  }

  private mutating func plain(_ value: PickleValue, depth: Int, in path: String) throws(Refusal) -> MetadataValue {
    switch value {
    case .none: return .null
    case .bool(let value): return .bool(value)
    case .integer(let value): return .integer(value)
    case .largeInteger(let value): return .large(value)
    case .double(let value): return .double(value)
    case .string(let value): return .string(value)
    case .global(let global): return .string(global.name)
    case .hugeInteger, .bytes, .complex, .dictionary, .storage, .tensor: return .string("(\(value.kind))")
    case .tuple(let index), .list(let index):
      var values: [MetadataValue] = []
      for element in heap.sequences[index] {
        try count(depth + 1, in: path)
        values.append(try plain(element, depth: depth + 1, in: path))
      }
      return .array(values)
    }
  }

  private mutating func count(_ depth: Int, in path: String) throws(Refusal) {
    func refusal(_ problem: String) -> Refusal {
      Refusal(.unsupported, file: file, subject: path, problem, advice: PickleMachine.advice)
    }
    valueCount += 1
    guard valueCount <= Self.maximumValueCount else {
      throw refusal("there are more than \(Self.maximumValueCount) values beside the tensors")
    }
    guard depth <= Self.maximumDepth else { throw refusal("the values are nested deeper than \(Self.maximumDepth)") }
  }
}
