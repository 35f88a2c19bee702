/// Runs the pickle program of a PyTorch archive (`data.pkl`): a stack machine, restricted to what a state dict needs.
///
///     byte 0   80 02                      protocol 2
///              }  q 00                    an empty dict, remembered as 0
///              (                          a mark
///              X 0A 00 00 00 wte.weight   a string, its length first
///              c torch._utils⏎ _rebuild_tensor_v2⏎      a global
///              ( ( X…storage c torch⏎ FloatStorage⏎ X…0 X…cpu M…16384 t Q   a storage, by its persistent id
///                K 00  (M…512 K 20 t)  (K 20 K 01 t)  89  …OrderedDict() t  offset, size, stride, no gradient, no hooks
///              R                          "call": here, note down a tensor
///              u                          store the pairs above the mark in the dict
///              .                          the end; the dict is the result
///
/// A pickle can name any function and have it called. Nothing can be called here: a global is looked up in a list
/// of words (``PickleGlobal``), and any other ends the reading with its name. Every loop is over bytes that are there,
/// so that time and memory stay in proportion to the file, and the budgets below bound both.
struct PickleMachine {
  struct Outcome: Sendable {
    var root: PickleValue
    var heap: PickleHeap
  }

  static let maximumByteCount = 64 << 20
  /// A tensor takes about 30 operations, so this is room for 140,000 of them.
  static let maximumOperationCount = 1 << 22
  static let maximumMemoCount = 1 << 21
  static let maximumStackDepth = 1 << 20
  static let maximumNameByteCount = 256

  let file: String
  private(set) var heap = PickleHeap()
  private(set) var opcodeOffset = 0
  private var stack: [PickleValue] = []
  /// The depths of the stack at its marks. Nothing below the last one can be reached.
  private var marks: [Int] = []
  private var memo: [UInt32: PickleValue] = [:]
  private var storagesByKey: [String: Int] = [:]
  private var offset = 0

  /// - Parameter file: what messages call the program; their offsets count from its first byte.
  /// - Throws: `.malformed` or `.unsupported` with the offset of the first operation that is not allowed.
  static func run(_ bytes: RawSpan, file: String) throws(Refusal) -> Outcome {
    guard bytes.byteCount <= maximumByteCount else {
      throw Refusal(
        .malformed, file: file, "expected at most \(maximumByteCount) bytes of pickle, found \(bytes.byteCount)",
        advice: Self.advice)
    }
    var machine = PickleMachine(file: file)
    return try machine.run(bytes)
  }

  static let advice: Message = "save the model's state_dict() alone, with torch.save of PyTorch 1.6 or later"

  private init(file: String) { self.file = file }

  /// A refusal at the operation that is being executed. A program that torch.save cannot have written is damaged or
  /// made by hand; one that it can have written holds more than a state dict.
  func refusal(_ problem: String, category: Refusal.Category = .malformed, advice: Message? = nil) -> Refusal {
    let usual: Message =
      category == .malformed ? "torch.save writes no such pickle; download the file again" : Self.advice
    return Refusal(category, file: file, at: opcodeOffset, problem, advice: advice ?? usual)
  }

  private mutating func run(_ bytes: RawSpan) throws(Refusal) -> Outcome {
    for _ in 0..<Self.maximumOperationCount {
      opcodeOffset = offset
      guard offset < bytes.byteCount else {
        throw refusal("the pickle has no end", advice: "it is incomplete; download the file again")
      }
      let byte = try readByte("an opcode", from: bytes)
      guard let opcode = PickleOpcode(rawValue: byte) else { throw refusedOpcode(byte, in: bytes) }
      if opcode == .stop {
        guard stack.count == 1, marks.isEmpty, let root = stack.last else {
          throw refusal(
            "expected one value at the end, found a stack of \(stack.count) values and \(marks.count) marks")
        }
        guard offset == bytes.byteCount else {
          throw refusal("the pickle ends after \(offset) of its \(bytes.byteCount) bytes")
        }
        return Outcome(root: root, heap: heap)
      }
      try execute(opcode, in: bytes)
    }
    throw refusal("the pickle has more than \(Self.maximumOperationCount) operations", category: .unsupported)
  }

  private mutating func execute(_ opcode: PickleOpcode, in bytes: RawSpan) throws(Refusal) {
    switch opcode {
    case .stop: preconditionFailure("run() ends the program")
    case .protocolVersion:
      let version = try readByte("the protocol", from: bytes)
      guard opcodeOffset == 0, version <= 3 else {
        throw refusal(
          opcodeOffset > 0 ? "the protocol is stated again" : "pickle protocol: expected at most 3, found \(version)",
          category: .unsupported, advice: "save with torch.save and its default pickle_protocol=2")
      }

    case .none: try push(.none)
    case .newTrue: try push(.bool(true))
    case .newFalse: try push(.bool(false))
    case .binaryInteger1: try push(.integer(Int(try readByte("an integer", from: bytes))))
    case .binaryInteger2: try push(.integer(Int(try read(UInt16.self, "an integer", from: bytes))))
    case .binaryInteger: try push(.integer(Int(try read(Int32.self, "an integer", from: bytes))))
    case .long1: try push(try readLong(from: bytes))
    case .binaryFloat:
      // The only big-endian number of the format.
      try push(.double(Double(bitPattern: try read(UInt64.self, "a float", from: bytes).byteSwapped)))
    case .binaryUnicode: try push(.string(try readString(from: bytes)))

    case .emptyTuple: try push(makeTuple([]))
    case .tuple1: try pushTuple(of: 1)
    case .tuple2: try pushTuple(of: 2)
    case .tuple3: try pushTuple(of: 3)
    case .mark:
      guard marks.count < Self.maximumStackDepth else { throw refusal("more than \(Self.maximumStackDepth) marks") }
      marks.append(stack.count)
    case .tuple: try push(makeTuple(try popToMark()))
    case .emptyList:
      heap.sequences.append([])
      try push(.list(heap.sequences.count - 1))
    case .append:
      let value = try pop()
      heap.sequences[try listOnTop()].append(value)
    case .appends:
      let values = try popToMark()
      heap.sequences[try listOnTop()] += values

    case .emptyDictionary: try push(makeDictionary(isOrdered: false))
    case .setItem:
      let value = try pop()
      let key = try pop()
      try store(key, value, in: try dictionaryOnTop())
    case .setItems:
      let items = try popToMark()
      guard items.count.isMultiple(of: 2) else {
        throw refusal("SETITEMS: expected pairs, found \(items.count) values")
      }
      let dictionary = try dictionaryOnTop()
      for index in stride(from: 0, to: items.count, by: 2) { try store(items[index], items[index + 1], in: dictionary) }
    case .build:
      // The `_metadata` of a module's state dict: versions of its layers, which no tensor depends on. The attributes of an
      // argparse.Namespace are its content.
      let state = try pop()
      let dictionary = try dictionaryOnTop()
      guard case .dictionary(let attributes) = state, heap.dictionaries[dictionary].isOrdered else {
        throw refusal(
          "BUILD: only an OrderedDict may carry attributes, in a dict, found \(state.kind)", category: .unsupported)
      }
      if heap.dictionaries[dictionary].isNamespace, dictionary != attributes {
        heap.dictionaries[dictionary].pairs = heap.dictionaries[attributes].pairs
      }
    case .newObject:
      let arguments = try pop()
      guard case .global(.namespace) = try pop(), case .tuple(let tuple) = arguments, heap.sequences[tuple].isEmpty
      else {
        throw refusal(
          "NEWOBJ would make an object of a class, which is not allowed",
          advice: "nothing of the file was executed; if you trust it, \(Self.advice)")
      }
      try push(makeDictionary(isOrdered: true))
      heap.dictionaries[heap.dictionaries.count - 1].isNamespace = true
    case .binaryPut: try remember(UInt32(try readByte("a memo index", from: bytes)))
    case .longBinaryPut: try remember(try read(UInt32.self, "a memo index", from: bytes))
    case .binaryGet: try recall(UInt32(try readByte("a memo index", from: bytes)))
    case .longBinaryGet: try recall(try read(UInt32.self, "a memo index", from: bytes))

    case .global: try push(.global(try readGlobal(from: bytes)))
    case .binaryPersistentID:
      let id = try pop()
      try push(try storage(for: id))
    case .reduce:
      let arguments = try pop()
      let callee = try pop()
      try push(try call(callee, with: arguments))
    }
  }

  // MARK: The stack and the memo

  private mutating func push(_ value: PickleValue) throws(Refusal) {
    guard stack.count < Self.maximumStackDepth else {
      throw refusal("the stack is deeper than \(Self.maximumStackDepth) values")
    }
    stack.append(value)
  }

  private func requireValue() throws(Refusal) {
    guard stack.count > marks.last ?? 0 else { throw refusal("the stack is empty here") }
  }

  private mutating func pop() throws(Refusal) -> PickleValue {
    try requireValue()
    return stack.removeLast()
  }

  private mutating func popToMark() throws(Refusal) -> [PickleValue] {
    guard let mark = marks.popLast() else { throw refusal("there is no mark on the stack") }
    defer { stack.removeSubrange(mark...) }
    return Array(stack[mark...])
  }

  private mutating func pushTuple(of count: Int) throws(Refusal) {
    guard stack.count - (marks.last ?? 0) >= count else { throw refusal("the stack is empty here") }
    let values = Array(stack.suffix(count))
    stack.removeLast(count)
    try push(makeTuple(values))
  }

  private mutating func makeTuple(_ values: [PickleValue]) -> PickleValue {
    heap.sequences.append(values)
    return .tuple(heap.sequences.count - 1)
  }

  mutating func makeDictionary(isOrdered: Bool) -> PickleValue {
    heap.dictionaries.append(PickleHeap.Dictionary(isOrdered: isOrdered))
    return .dictionary(heap.dictionaries.count - 1)
  }

  private func listOnTop() throws(Refusal) -> Int {
    try requireValue()
    guard case .list(let list) = stack[stack.count - 1] else {
      throw refusal("expected a list to append to, found \(stack[stack.count - 1].kind)")
    }
    return list
  }

  private func dictionaryOnTop() throws(Refusal) -> Int {
    try requireValue()
    guard case .dictionary(let dictionary) = stack[stack.count - 1] else {
      throw refusal("expected a dict to store in, found \(stack[stack.count - 1].kind)")
    }
    return dictionary
  }

  private mutating func store(_ key: PickleValue, _ value: PickleValue, in dictionary: Int) throws(Refusal) {
    switch key {
    case .none, .bool, .integer, .double, .string: heap.dictionaries[dictionary].pairs.append((key, value))
    default:
      throw refusal("expected a string or a number as the key of a dict, found \(key.kind)", category: .unsupported)
    }
  }

  private mutating func remember(_ index: UInt32) throws(Refusal) {
    try requireValue()
    guard memo.count < Self.maximumMemoCount else {
      throw refusal("the memo has more than \(Self.maximumMemoCount) entries")
    }
    memo[index] = stack[stack.count - 1]
  }

  private mutating func recall(_ index: UInt32) throws(Refusal) {
    guard let value = memo[index] else { throw refusal("the memo has no entry \(index)") }
    try push(value)
  }

  // MARK: Operands

  private func require(_ count: Int, _ field: String, in bytes: RawSpan) throws(Refusal) {
    guard bytes.byteCount - offset >= count else {
      throw refusal(
        "\(field) needs \(count) bytes, \(bytes.byteCount - offset) left",
        advice: "the pickle is incomplete; download the file again")
    }
  }

  private mutating func readByte(_ field: String, from bytes: RawSpan) throws(Refusal) -> UInt8 {
    try read(UInt8.self, field, from: bytes)
  }

  private mutating func read<Integer: FixedWidthInteger & BitwiseCopyable>(
    _: Integer.Type, _ field: String, from bytes: RawSpan
  ) throws(Refusal) -> Integer {
    try require(MemoryLayout<Integer>.size, field, in: bytes)
    defer { offset += MemoryLayout<Integer>.size }
    return bytes.integer(Integer.self, at: offset)
  }

  private mutating func readString(from bytes: RawSpan) throws(Refusal) -> String {
    let count = Int(try read(UInt32.self, "a string's length", from: bytes))
    try require(count, "a string", in: bytes)
    defer { offset += count }
    guard let text = bytes.text(in: offset..<offset + count) else { throw refusal("a string is not UTF-8") }
    return text
  }

  /// LONG1: a length byte, then a little-endian two's complement number of that many bytes.
  private mutating func readLong(from bytes: RawSpan) throws(Refusal) -> PickleValue {
    let count = Int(try readByte("an integer's length", from: bytes))
    try require(count, "an integer", in: bytes)
    defer { offset += count }
    guard count > 0 else { return .integer(0) }
    if count == 9, bytes.integer(UInt8.self, at: offset + 8) == 0 {
      return .largeInteger(bytes.integer(UInt64.self, at: offset))
    }
    guard count <= 8 else { return .hugeInteger(byteCount: count) }
    var value = Int(bytes.integer(Int8.self, at: offset + count - 1))
    for index in stride(from: count - 2, through: 0, by: -1) {
      value = value << 8 | Int(bytes.integer(UInt8.self, at: offset + index))
    }
    return .integer(value)
  }

  private mutating func readLine(from bytes: RawSpan) throws(Refusal) -> String {
    var end = offset
    while end < bytes.byteCount, end - offset <= Self.maximumNameByteCount, bytes.integer(UInt8.self, at: end) != 0x0A {
      end += 1
    }
    guard end < bytes.byteCount, end - offset <= Self.maximumNameByteCount, let text = bytes.text(in: offset..<end)
    else {
      throw refusal("expected a name of at most \(Self.maximumNameByteCount) bytes in UTF-8 and a line feed")
    }
    offset = end + 1
    return text
  }

  private mutating func readGlobal(from bytes: RawSpan) throws(Refusal) -> PickleGlobal {
    let module = try readLine(from: bytes)
    let name = try readLine(from: bytes)
    guard let global = PickleGlobal("\(module) \(name)") else { throw refusedGlobal(module, name) }
    return global
  }

  private func refusedGlobal(_ module: String, _ name: String, by opcode: String = "") -> Refusal {
    if let known = PickleGlobal.refused("\(module) \(name)") {
      var refusal = refusal(known.problem, category: .unsupported, advice: known.advice)
      // The key that the tensor would have been stored under lies below the functions that make it.
      let below = stack.last { if case .global = $0 { false } else { true } }
      if name.hasPrefix("_rebuild"), case .string(let key) = below { refusal.subject = Message(key) }
      return refusal
    }
    return refusal(
      "the global '\(module).\(name)' is not allowed\(opcode)",
      advice: "nothing of the file was executed; if you trust it, \(Self.advice)")
  }

  /// The message for an opcode that is not in ``PickleOpcode``; where it would have fetched or made an object, it names
  /// the object.
  private mutating func refusedOpcode(_ byte: UInt8, in bytes: RawSpan) -> Refusal {
    guard let name = PickleOpcode.refusedName(byte) else {
      return refusal(
        "0x\(String(byte, radix: 16)) is not a pickle opcode", advice: "the file is damaged; download it again")
    }
    switch name {
    case "STACK_GLOBAL":
      if stack.count >= 2, case .string(let module) = stack[stack.count - 2],
        case .string(let name) = stack[stack.count - 1]
      {
        return refusedGlobal(module, name, by: " (STACK_GLOBAL)")
      }
    case "INST":
      do throws(Refusal) {
        let module = try readLine(from: bytes)
        return refusedGlobal(module, try readLine(from: bytes), by: " (INST)")
      } catch {
        return error
      }
    case "OBJ", "NEWOBJ_EX":
      return refusal(
        "\(name) would make an object of a class, which is not allowed",
        advice: "nothing of the file was executed; if you trust it, \(Self.advice)")
    default: break
    }
    return refusal("the pickle opcode \(name) is not allowed", category: .unsupported)
  }

  // MARK: What the globals mean

  /// `('storage', FloatStorage, key, location, count)`; the location is where it was, which no longer matters.
  private mutating func storage(for id: PickleValue) throws(Refusal) -> PickleValue {
    guard case .tuple(let tuple) = id, heap.sequences[tuple].count == 5 else {
      throw refusal("persistent id: expected ('storage', type, key, location, count)", category: .unsupported)
    }
    let fields = heap.sequences[tuple]
    guard case .string("storage") = fields[0] else {
      throw refusal("persistent id: expected 'storage', found \(fields[0].kind)", category: .unsupported)
    }
    guard case .global(.storage(_, let type)) = fields[1] else {
      throw refusal("storage: expected a storage type, found \(fields[1].kind)", category: .unsupported)
    }
    guard case .string(let key) = fields[2], !key.isEmpty, key.utf8.count <= 20,
      key.utf8.allSatisfy({ (0x30...0x39).contains($0) })
    else {
      throw refusal("storage: expected a key of digits, found \(fields[2].kind)")
    }
    guard case .integer(let elementCount) = fields[4], elementCount >= 0 else {
      throw refusal("storage '\(key)': expected a count of elements, found \(fields[4].kind)")
    }
    let storage = PickleHeap.Storage(key: key, type: type, elementCount: elementCount)
    if let index = storagesByKey[key] {
      guard heap.storages[index] == storage else {
        throw refusal("storage '\(key)' has another type or size than before")
      }
      return .storage(index)
    }
    heap.storages.append(storage)
    storagesByKey[key] = heap.storages.count - 1
    return .storage(heap.storages.count - 1)
  }

  private mutating func call(_ callee: PickleValue, with arguments: PickleValue) throws(Refusal) -> PickleValue {
    guard case .global(let global) = callee, case .tuple(let tuple) = arguments else {
      throw refusal("REDUCE: expected a global and a tuple, found \(callee.kind) and \(arguments.kind)")
    }
    // Counted before it is copied: a long tuple may be shared by many calls.
    let count = heap.sequences[tuple].count
    guard count <= 8 else { throw refusal("'\(global.name)': expected at most 8 arguments, found \(count)") }
    let values = heap.sequences[tuple]
    switch global {
    case .orderedDict:
      guard values.isEmpty else { throw refusal("'\(global.name)': expected no arguments, found \(count)") }
      return makeDictionary(isOrdered: true)
    case .size:
      guard count == 1, case .tuple = values[0] else { throw refusal("'\(global.name)': expected one tuple") }
      return values[0]
    case .device:
      guard let kind = values.first, case .string = kind else { throw refusal("'\(global.name)': expected a name") }
      return kind
    case .rebuildParameter:
      guard count == 3, case .tensor = values[0] else {
        throw refusal("'\(global.name)': expected a tensor and 2 more arguments")
      }
      return values[0]
    case .rebuildParameterWithState:
      guard count == 4, case .tensor(let tensor) = values[0] else {
        throw refusal("'\(global.name)': expected a tensor and 3 more arguments")
      }
      try note(values[3], asAttributesOf: tensor, global)
      return values[0]
    case .rebuildFromType: return try tensor(fromType: values, global)
    case .rebuildDeviceTensor:
      guard count == 4, case .tensor(let tensor) = values[0] else {
        throw refusal("'\(global.name)': expected a tensor and 3 more arguments")
      }
      guard case .global(.elementType(_, let type)) = values[1], type == heap.tensors[tensor].type else {
        throw refusal(
          "'\(global.name)': expected the type of the tensor, \(heap.tensors[tensor].type.displayName), found \(values[1].kind)",
          category: .unsupported)
      }
      return values[0]
    case .rebuildTensor2: return try tensor(values, global, type: nil)
    case .rebuildTensor3:
      guard count >= 7, case .global(.elementType(let name, let type)) = values[6] else {
        throw refusal("'\(global.name)': expected an element type as argument 7")
      }
      guard let type else { throw refusal("tensors of '\(name)' are not read", category: .unsupported) }
      return try tensor(values, global, type: type)
    case .set, .counter, .encode, .bytes, .byteArray, .complex: return try value(of: values, global)
    case .namespace, .tensorClass, .storage, .elementType: throw refusal("'\(global.name)' cannot be called")
    }
  }

  /// A value of Python itself. A set keeps the place of the list that it is made of, so that nothing is copied.
  private mutating func value(of values: [PickleValue], _ global: PickleGlobal) throws(Refusal) -> PickleValue {
    switch (global, values.count, values.first) {
    case (.set, 0, _): return makeTuple([])
    case (.set, 1, .list), (.set, 1, .tuple): return values[0]
    case (.counter, 0, _): return makeDictionary(isOrdered: false)
    case (.counter, 1, .dictionary): return values[0]
    case (.encode, 2, .string), (.bytes, 0, _), (.byteArray, 0, _), (.byteArray, 1, .bytes): return .bytes
    case (.complex, 2, .double): return .complex
    default:
      let found = values.isEmpty ? "nothing" : values.map(\.kind).joined(separator: ", ")
      throw refusal("'\(global.name)': unexpected arguments: \(found)")
    }
  }

  /// A function that makes a tensor, the tensor's class, what to call the function with, and the tensor's attributes.
  private mutating func tensor(fromType values: [PickleValue], _ global: PickleGlobal) throws(Refusal) -> PickleValue {
    guard values.count == 4 else { throw refusal("'\(global.name)': expected 4 arguments, found \(values.count)") }
    switch values[0] {
    case .global(.rebuildTensor2), .global(.rebuildTensor3): break
    default:
      throw refusal("'\(global.name)': expected a function that makes a tensor, found \(values[0].kind)")
    }
    guard case .global(.tensorClass) = values[1] else {
      throw refusal(
        "'\(global.name)': expected torch.Tensor or Parameter, found \(values[1].kind)", category: .unsupported)
    }
    let tensor = try call(values[0], with: values[2])
    if case .tensor(let index) = tensor { try note(values[3], asAttributesOf: index, global) }
    return tensor
  }

  /// Attributes are a dict, or a pair of the dict and of what is in slots; None stands for an empty one. Only the name
  /// of the first is kept.
  private mutating func note(
    _ state: PickleValue, asAttributesOf tensor: Int, _ global: PickleGlobal
  ) throws(Refusal) {
    var states = [state]
    if case .tuple(let pair) = state, heap.sequences[pair].count == 2 { states = heap.sequences[pair] }
    for state in states {
      switch state {
      case .none: break
      case .dictionary(let attributes):
        guard heap.tensors[tensor].attribute == nil, let first = heap.dictionaries[attributes].pairs.first else {
          break
        }
        heap.tensors[tensor].attribute = first.key.kind
      default: throw refusal("'\(global.name)': expected attributes in a dict, found \(state.kind)")
      }
    }
  }

  /// storage, offset, size, stride, requires_grad, hooks; version 3 adds the element type, and both may end with a
  /// dict of flags (conjugate, negative), which must be absent.
  private mutating func tensor(
    _ values: [PickleValue], _ global: PickleGlobal, type: ElementType?
  ) throws(Refusal) -> PickleValue {
    let required = type == nil ? 6 : 7
    guard values.count == required || values.count == required + 1 else {
      throw refusal("'\(global.name)': expected \(required) arguments, found \(values.count)")
    }
    guard case .storage(let index) = values[0] else {
      throw refusal("'\(global.name)': expected a storage, found \(values[0].kind)")
    }
    let storage = heap.storages[index]
    guard (storage.type == nil) == (type != nil), let type = type ?? storage.type else {
      throw refusal(
        "'\(global.name)': expected \(type == nil ? "a typed" : "an untyped") storage, found the other kind",
        category: .unsupported)
    }
    guard case .integer(let elementOffset) = values[1], elementOffset >= 0 else {
      throw refusal("'\(global.name)': expected an offset in elements, found \(values[1].kind)")
    }
    let shape = try counts(values[2], "size", global)
    let strides = try counts(values[3], "stride", global)
    guard shape.count == strides.count else {
      throw refusal("'\(global.name)': expected as many strides as sizes, found \(strides.count) and \(shape.count)")
    }
    guard case .dictionary(let hooks) = values[5], heap.dictionaries[hooks].pairs.isEmpty else {
      throw refusal("'\(global.name)': expected no backward hooks, found \(values[5].kind)", category: .unsupported)
    }
    if values.count > required {
      switch values[required] {
      case .none: break
      case .dictionary(let flags) where heap.dictionaries[flags].pairs.isEmpty: break
      default:
        throw refusal(
          "'\(global.name)': the tensor is a lazy conjugate or negative", category: .unsupported,
          advice: "call resolve_conj() and resolve_neg() on it before saving")
      }
    }
    heap.tensors.append(
      PickleHeap.Tensor(
        storage: index, type: type, elementOffset: elementOffset, shape: shape, strides: strides,
        byteOffset: opcodeOffset))
    return .tensor(heap.tensors.count - 1)
  }

  static let maximumRank = 8

  private func counts(_ value: PickleValue, _ field: String, _ global: PickleGlobal) throws(Refusal) -> [Int] {
    guard case .tuple(let tuple) = value else {
      throw refusal("'\(global.name)': \(field): expected a tuple, found \(value.kind)")
    }
    guard heap.sequences[tuple].count <= Self.maximumRank else {
      throw refusal(
        "'\(global.name)': \(field): expected at most \(Self.maximumRank) axes, found \(heap.sequences[tuple].count)",
        category: .unsupported)
    }
    var counts: [Int] = []
    for element in heap.sequences[tuple] {
      guard case .integer(let count) = element, count >= 0 else {
        throw refusal("'\(global.name)': \(field): expected whole numbers, found \(element.kind)")
      }
      counts.append(count)
    }
    return counts
  }
}
