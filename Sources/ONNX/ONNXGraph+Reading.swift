import Glibc
import NormFoldFormats
import NormFoldNetworks

extension ONNXGraph {
  /// A message becomes at most about a hundred times as large in memory as it is in the file. The graph of the largest
  /// GPT-2 takes less than a megabyte; masks and rotations of a plain one are bytes, which do not grow.
  static let maximumModelByteCount = 32 << 20

  /// Reads back what a writer of graphs wrote, and trusts nothing of it: the model in every field, its structure by
  /// ``check(file:)``, and that the weights fill the data file without gap or overlap. The contents of external
  /// initializers are stored tensors of the data file.
  ///
  /// - Throws: `.malformed` with the first rule that is broken.
  package init(reading directory: String) throws(Refusal) {
    let model = try UnpackedModel(Self.openModel(ONNXNames.model, in: directory), origin: .ours)
    let data = try Self.openData(directory + "/" + ONNXNames.data)
    self = try model.graph(data: data)
    if inputs.map(\.name) == [Self.embeddingsName] {
      let lookup = try UnpackedModel(Self.openModel(ONNXNames.lookup, in: directory), origin: .ours)
      try join(lookup.graph(data: data), file: directory + "/" + ONNXNames.lookup)
    }
    try check(file: directory + "/" + ONNXNames.model)
    try checkCoverage(of: data)
  }

  private static func openModel(_ name: String, in directory: String) throws(Refusal) -> MappedFile {
    let path = directory + "/" + name
    let file = try MappedFile(path: path)
    guard file.byteCount <= Self.maximumModelByteCount else {
      throw Refusal(
        .malformed, file: path,
        "a model whose weights stand beside it has at most \(Self.maximumModelByteCount) bytes, found \(file.byteCount)"
      )
    }
    return file
  }

  /// Puts the graph that looks embeddings up before the one that reads them.
  ///
  /// - Throws: `.malformed` where it gives something else than the other reads.
  private mutating func join(_ lookup: ONNXGraph, file: String) throws(Refusal) {
    guard let length = form.length, lookup.form == .plain(length: length, readsEmbeddings: false),
      lookup.outputs == inputs
    else {
      throw Refusal(
        .malformed, file: file, subject: Self.embeddingsName,
        "is not what \(ONNXNames.model) reads")
    }
    form = .plain(length: length, readsEmbeddings: true)
    inputs = lookup.inputs
    nodes = lookup.nodes + nodes
    initializers = lookup.initializers + initializers
  }

  /// The data file, which must be a file of its own: runtimes refuse one that a link leads to.
  private static func openData(_ path: String) throws(Refusal) -> MappedFile {
    var status = stat()
    if unsafe lstat(path, &status) == 0 {
      guard status.st_mode & S_IFMT != S_IFLNK else {
        throw Refusal(
          .malformed, file: path, "expected a file, found a symbolic link", advice: "onnx refuses to load linked data")
      }
      guard status.st_mode & S_IFMT != S_IFREG || status.st_nlink == 1 else {
        throw Refusal(
          .malformed, file: path, "expected a file of one name, found \(status.st_nlink) hard links",
          advice: "onnx refuses to load linked data")
      }
    }
    return try MappedFile(path: path)
  }

  /// The weights lie on pages of their own, follow each other with nothing but zeros between them, and the last one
  /// ends the file.
  private func checkCoverage(of data: MappedFile) throws(Refusal) {
    let tensors = initializers.compactMap { initializer -> Tensor? in
      guard case .external(let value) = initializer.content else { return nil }
      return value.storedTensor
    }.sorted { ($0.byteOffset, $0.name) < ($1.byteOffset, $1.name) }
    var end = 0
    var last: Tensor?
    for tensor in tensors {
      if tensor.byteOffset < end, let last {
        throw Refusal(
          .malformed, file: data.path, at: tensor.byteOffset, subject: tensor.name,
          "overlaps '\(last.name)', which ends at byte \(end)")
      }
      guard tensor.byteOffset - end < Self.alignment else {
        throw Refusal(
          .malformed, file: data.path, at: end,
          "\(tensor.byteOffset - end) bytes before '\(tensor.name)' belong to no tensor")
      }
      let gap = end..<tensor.byteOffset
      let stray = data.withBytes { bytes in
        gap.first { unsafe bytes.extracting($0..<$0 + 1).withUnsafeBytes { unsafe $0.first } != 0 }
      }
      if let stray { throw Refusal(.malformed, file: data.path, at: stray, "expected zeros before '\(tensor.name)'") }
      end = tensor.byteOffset + tensor.info.byteCount
      last = tensor
    }
    guard end == data.byteCount else {
      throw Refusal(.malformed, file: data.path, at: end, "\(data.byteCount - end) bytes behind the last tensor")
    }
  }
}

extension ONNXGraph.Form {
  /// The form that the inputs of a model file show.
  init(of inputs: [ONNXGraph.Value]) {
    self = .cached
    guard inputs.count == 1, inputs[0].shape.first == .fixed(1), inputs[0].shape.count > 1,
      case .fixed(let length) = inputs[0].shape[1]
    else { return }
    self = .plain(length: length, readsEmbeddings: inputs[0].name == ONNXGraph.embeddingsName)
  }
}
