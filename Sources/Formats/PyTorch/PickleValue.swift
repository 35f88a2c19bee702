/// A value that a ``PickleMachine`` made. Containers are places in a ``PickleHeap``, so that a value shared a million
/// times exists once, a value that contains itself is harmless, and deep nesting costs no stack.
enum PickleValue: Sendable {
  case none
  case bool(Bool)
  case integer(Int)
  /// One that an Int cannot hold, such as a seed.
  case largeInteger(UInt64)
  /// One that nothing here can hold.
  case hugeInteger(byteCount: Int)
  case double(Double)
  case string(String)
  /// Bytes and complex numbers, which nothing here needs.
  case bytes, complex
  case tuple(Int)
  case list(Int)
  case dictionary(Int)
  case global(PickleGlobal)
  case storage(Int)
  case tensor(Int)

  /// A description of the value, for messages.
  var kind: String {
    switch self {
    case .none: "None"
    case .bool(let value): value ? "True" : "False"
    case .integer(let value): "\(value)"
    case .largeInteger(let value): "\(value)"
    case .hugeInteger(let byteCount): "an integer of \(byteCount) bytes"
    case .double(let value): "\(value)"
    case .string(let value): "'\(value.prefix(80))'"
    case .bytes: "bytes"
    case .complex: "a complex number"
    case .tuple: "a tuple"
    case .list: "a list"
    case .dictionary: "a dict"
    case .global(let global): "the global '\(global.name)'"
    case .storage: "a storage"
    case .tensor: "a tensor"
    }
  }
}

/// The containers behind ``PickleValue``, by index.
struct PickleHeap: Sendable {
  struct Dictionary: Sendable {
    /// In the order in which they were set; a key may come twice.
    var pairs: [(key: PickleValue, value: PickleValue)] = []
    /// An OrderedDict or a namespace, which alone may carry attributes.
    var isOrdered: Bool
    /// An argparse.Namespace: arguments of a training program by name.
    var isNamespace = false
  }

  /// The storage that a persistent id describes: `('storage', FloatStorage, '17', 'cpu', 16384)`.
  struct Storage: Equatable, Sendable {
    /// The record is `data/<key>`; digits only.
    var key: String
    /// nil for an untyped storage, which counts bytes.
    var type: ElementType?
    var elementCount: Int
  }

  /// The arguments of a call of `_rebuild_tensor_v2`, not yet held against the storage.
  struct Tensor: Sendable {
    var storage: Int
    var type: ElementType
    /// In elements, as are the strides.
    var elementOffset: Int
    var shape: [Int]
    var strides: [Int]
    /// The place of the call, in bytes from the start of data.pkl.
    var byteOffset: Int
    /// The key of the first attribute that it was given, as messages show it; nil for an ordinary tensor.
    var attribute: String?
  }

  /// Tuples and lists.
  var sequences: [[PickleValue]] = []
  var dictionaries: [Dictionary] = []
  var storages: [Storage] = []
  var tensors: [Tensor] = []
}

/// The names that a state dict may refer to, exactly these. None of them is ever called: each is a word that the
/// machine understands.
enum PickleGlobal: Sendable, Equatable {
  case orderedDict
  /// argparse.Namespace, which is made without arguments and filled with attributes.
  case namespace
  case rebuildTensor2, rebuildTensor3
  /// Each of these is called with a tensor, or with what makes one.
  case rebuildParameter, rebuildParameterWithState, rebuildFromType, rebuildDeviceTensor
  case size, device
  /// Values of Python that torch.load reads by default, `weights_only=True`.
  case set, counter, encode, bytes, byteArray, complex
  /// `torch.Tensor` and its subclasses of the same meaning.
  case tensorClass(name: String)
  /// `torch.FloatStorage`, or `torch.storage.UntypedStorage` with nil.
  case storage(name: String, ElementType?)
  /// `torch.bfloat16`, with nil where tensors of the type are not read.
  case elementType(name: String, ElementType?)

  /// - Parameter name: module, a space, name.
  init?(_ name: String) {
    guard let global = Self.all[name] else { return nil }
    self = global
  }

  var name: String {
    switch self {
    case .orderedDict: "collections.OrderedDict"
    case .namespace: "argparse.Namespace"
    case .rebuildTensor2: "torch._utils._rebuild_tensor_v2"
    case .rebuildTensor3: "torch._utils._rebuild_tensor_v3"
    case .rebuildParameter: "torch._utils._rebuild_parameter"
    case .rebuildParameterWithState: "torch._utils._rebuild_parameter_with_state"
    case .rebuildFromType: "torch._tensor._rebuild_from_type_v2"
    case .rebuildDeviceTensor: "torch._utils._rebuild_device_tensor_from_cpu_tensor"
    case .size: "torch.Size"
    case .device: "torch.device"
    case .set: "builtins.set"
    case .counter: "collections.Counter"
    case .encode: "_codecs.encode"
    case .bytes: "builtins.bytes"
    case .byteArray: "builtins.bytearray"
    case .complex: "builtins.complex"
    case .tensorClass(let name), .storage(let name, _), .elementType(let name, _): name
    }
  }

  private static let all: [String: PickleGlobal] = {
    var all: [String: PickleGlobal] = [
      "collections OrderedDict": .orderedDict, "argparse Namespace": .namespace,
      "torch._utils _rebuild_tensor_v2": .rebuildTensor2,
      "torch._utils _rebuild_tensor_v3": .rebuildTensor3,
      "torch._utils _rebuild_parameter": .rebuildParameter,
      "torch._utils _rebuild_parameter_with_state": .rebuildParameterWithState,
      "torch._tensor _rebuild_from_type_v2": .rebuildFromType,
      "torch._utils _rebuild_device_tensor_from_cpu_tensor": .rebuildDeviceTensor,
      "torch Tensor": .tensorClass(name: "torch.Tensor"),
      "torch.nn.parameter Parameter": .tensorClass(name: "torch.nn.parameter.Parameter"),
      "torch Size": .size,
      "torch device": .device,
      "torch.storage UntypedStorage": .storage(name: "torch.storage.UntypedStorage", nil),
      "collections Counter": .counter, "_codecs encode": .encode,
    ]
    // Protocol 2 spells the module as Python 2 did.
    for module in ["__builtin__", "builtins"] {
      all["\(module) set"] = .set
      all["\(module) bytes"] = .bytes
      all["\(module) bytearray"] = .byteArray
      all["\(module) complex"] = .complex
    }
    let storages: KeyValuePairs<String, ElementType> = [
      "Float": .f32, "Double": .f64, "Half": .f16, "BFloat16": .bf16, "Long": .i64, "Int": .i32, "Short": .i16,
      "Char": .i8, "Byte": .u8, "Bool": .bool, "ComplexFloat": .c64,
    ]
    for (name, type) in storages { all["torch \(name)Storage"] = .storage(name: "torch.\(name)Storage", type) }
    let types: KeyValuePairs<String, ElementType?> = [
      "float32": .f32, "float64": .f64, "float16": .f16, "bfloat16": .bf16, "int64": .i64, "int32": .i32,
      "int16": .i16, "int8": .i8, "uint8": .u8, "bool": .bool, "uint16": .u16, "uint32": .u32, "uint64": .u64,
      "float8_e4m3fn": .f8e4m3, "float8_e5m2": .f8e5m2, "float8_e4m3fnuz": .f8e4m3fnuz,
      "float8_e5m2fnuz": .f8e5m2fnuz, "float8_e8m0fnu": .f8e8m0, "complex64": nil, "complex128": nil,
    ]
    for (name, type) in types { all["torch \(name)"] = .elementType(name: "torch.\(name)", type) }
    return all
  }()

  /// Returns what is known of a name that is refused: what the value is, and what to do about it; nil for any other
  /// name.
  ///
  /// - Parameter name: module, a space, name.
  static func refused(_ name: String) -> (problem: String, advice: Message)? { allRefused[name] }

  private static let allRefused: [String: (problem: String, advice: Message)] = [
    "torch._utils _rebuild_sparse_tensor": (
      "sparse tensors are not read", "call to_dense() on the tensor before saving"
    ),
    "torch._utils _rebuild_qtensor": (
      "quantised tensors are not read", "call dequantize() on the tensor before saving"
    ),
    "torch._utils _rebuild_meta_tensor_no_storage": (
      "the tensor was on the device 'meta' and has no numbers", "load the weights before saving"
    ),
    "torch._utils _rebuild_nested_tensor": (
      "nested tensors are not read", "save the tensors that unbind() returns, each under a name"
    ),
    "torch._utils _rebuild_wrapper_subclass": (
      "tensors of classes that wrap other tensors are not read",
      "save plain tensors: of a DTensor, what full_tensor() returns"
    ),
    "torch._utils _rebuild_device_tensor_from_numpy": (
      "tensors that were saved as arrays of numpy are not read", "call cpu() on the tensor before saving"
    ),
    "torch ComplexDoubleStorage": (
      "complex numbers of 128 bits are not read", "convert the tensor to complex64 before saving"
    ),
    "transformers.training_args TrainingArguments": (
      "these are the arguments of a training run, not a model", "give the file that holds the model's state dict"
    ),
  ]
}
