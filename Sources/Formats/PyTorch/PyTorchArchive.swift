/// The zip archive that torch.save writes since PyTorch 1.6.
///
///     pytorch_model/data.pkl          the objects, as a pickle that refers to storages by number (PickleMachine)
///     pytorch_model/byteorder         "little"; absent from older writers
///     pytorch_model/version           "3\n"
///     pytorch_model/data/0            the bytes of storage 0, aligned to 64
///     pytorch_model/data/1 …
///     pytorch_model/.data/…  .format_version  .storage_alignment      not needed to read it
///
/// The name of the one top folder is arbitrary.
struct PyTorchArchive: Sendable {
  static let maximumVersion = 10

  let zip: ZipArchive
  /// With its slash: `pytorch_model/`.
  let folder: String
  let outcome: PickleMachine.Outcome
  private let temporaryDirectory: String?

  /// The name that the pickle has in messages.
  var pickleName: String { Self.name(of: "\(folder)data.pkl", in: zip.file.path) }

  private static func name(of record: String, in path: String) -> String { "\(path) (\(record))" }

  /// Checks the small records and runs the pickle. The bytes of storages are not read.
  init(of file: MappedFile, temporaryDirectory: String? = nil) throws(Refusal) {
    try file.parse { (bytes) throws(Refusal) in try Self.refuseOtherFormats(bytes, path: file.path) }
    let zip = try ZipArchive(of: file)
    let folder = try Self.findFolder(of: zip)
    let pickleRecord = "\(folder)data.pkl"
    let path = file.path

    guard let pickle = zip[pickleRecord] else {
      throw Refusal(
        .malformed, file: path, "the archive has no record '\(pickleRecord)'",
        advice: "this is a zip archive, but not one of torch.save")
    }
    guard pickle.byteCount <= PickleMachine.maximumByteCount else {
      throw Refusal(
        .malformed, file: path, at: pickle.headerOffset, subject: pickleRecord,
        "expected at most \(PickleMachine.maximumByteCount) bytes of pickle, found \(pickle.byteCount)",
        advice: PickleMachine.advice)
    }
    guard let version = zip["\(folder)version"] else {
      throw Refusal(
        .malformed, file: path, "the archive has no record '\(folder)version'",
        advice: "the archive is incomplete, or not one of torch.save")
    }
    let order = zip["\(folder)byteorder"]
    let small = try zip.contents(
      of: [pickle, version] + (order.map { [$0] } ?? []), temporaryDirectory: temporaryDirectory)
    for content in small { try content.pending?.verify() }

    let versionText = Self.text(of: small[1])
    guard let number = versionText.flatMap({ Int($0) }), (1...Self.maximumVersion).contains(number) else {
      throw Refusal(
        .unsupported, file: path, at: version.dataOffset, subject: version.name,
        "expected a version from 1 to \(Self.maximumVersion), found '\(versionText ?? "more than 32 bytes")'",
        advice: "load it and save it again with PyTorch 1.6 to 2.x")
    }
    if let order {
      let text = Self.text(of: small[2])
      guard text == "little" else {
        throw Refusal(
          .unsupported, file: path, at: order.dataOffset, subject: order.name,
          "expected 'little', found '\(text ?? "more than 32 bytes")'",
          advice: "load and save it with torch on a little-endian machine")
      }
    }
    self.zip = zip
    self.folder = folder
    self.temporaryDirectory = temporaryDirectory
    let content = small[0]
    outcome = try content.file.parse { (bytes) throws(Refusal) in
      try PickleMachine.run(
        bytes.extracting(content.byteRange), file: Self.name(of: pickleRecord, in: path))
    }
  }

  /// The bytes of the given storages, in their order, one entry each.
  /// - Throws: `.malformed` where a record is missing or has another size than the pickle says.
  func contents(of storages: [PickleHeap.Storage]) throws(Refusal) -> [ZipArchive.Content] {
    var records: [ZipArchive.Record] = []
    for storage in storages {
      let name = "\(folder)data/\(storage.key)"
      guard let record = zip[name] else {
        throw Refusal(
          .malformed, file: zip.file.path, subject: name, "the record of this storage is missing",
          advice: "download the file again; it is incomplete")
      }
      let expected = storage.type.map { $0.byteCount(ofElements: storage.elementCount) } ?? storage.elementCount
      guard record.byteCount == expected else {
        throw Refusal(
          .malformed, file: zip.file.path, at: record.headerOffset, subject: name,
          "expected \(expected.map { "\($0)" } ?? "more than 2^63") bytes"
            + " for \(storage.elementCount) elements of \(storage.type?.displayName ?? "an untyped storage"), found \(record.byteCount)",
          advice: "the file is damaged; download it again")
      }
      records.append(record)
    }
    return try zip.contents(of: records, temporaryDirectory: temporaryDirectory)
  }

  /// The text of a small record without white space at its end, or nil where it is none.
  private static func text(of content: ZipArchive.Content) -> String? {
    guard content.byteCount <= 32 else { return nil }
    let text = content.file.withBytes { $0.text(in: content.byteRange) }
    return text.map { String($0.reversed().drop(while: \.isWhitespace).reversed()) }
  }

  private static func findFolder(of zip: ZipArchive) throws(Refusal) -> String {
    guard let first = zip.records.first else {
      throw Refusal(.malformed, file: zip.file.path, "the zip archive is empty", advice: "download the file again")
    }
    let folder = first.name.firstIndex(of: "/").map { String(first.name[...$0]) }
    for record in zip.records {
      guard let folder, !["/", "./", "../"].contains(folder), record.name.hasPrefix(folder) else {
        throw Refusal(
          .malformed, file: zip.file.path, at: record.headerOffset, subject: record.name,
          "expected every record in one top folder, as in '\(folder ?? "archive/")data.pkl'",
          advice: "this is a zip archive, but not one of torch.save")
      }
      let name = record.name.dropFirst(folder.count)
      if name == "constants.pkl" || name.hasPrefix("code/") {
        throw Refusal(
          .unsupported, file: zip.file.path, at: record.headerOffset, subject: record.name,
          "this is a TorchScript program, not a checkpoint",
          advice: "load it with torch.jit.load and save its state_dict() with torch.save")
      }
    }
    return folder ?? ""
  }

  /// Files that are met under the names `.bin`, `.pt`, `.pth` and `.ckpt` besides zip archives.
  private static func refuseOtherFormats(_ bytes: RawSpan, path: String) throws(Refusal) {
    try Substitute.refuse(bytes, file: path)
    func starts(with start: [UInt8]) -> Bool {
      bytes.byteCount >= start.count && start.indices.allSatisfy { bytes.integer(UInt8.self, at: $0) == start[$0] }
    }
    if starts(with: Array("PK".utf8)) { return }
    func refusal(_ problem: String, _ advice: Message, _ category: Refusal.Category = .unsupported) -> Refusal {
      Refusal(category, file: path, at: 0, problem, advice: advice)
    }
    // PROTO 2, LONG1 of 10 bytes: the number 0x1950a86a20f9469cfc6c.
    if starts(with: [0x80, 0x02, 0x8A, 0x0A, 0x6C, 0xFC, 0x9C, 0x46, 0xF9, 0x20, 0x6A, 0xA8, 0x50, 0x19]) {
      throw refusal(
        "this is the format that PyTorch wrote before 1.6",
        "load it with torch.load(path, weights_only=True) and save the state dict with torch.save")
    }
    if starts(with: [0x80]) {
      throw refusal("this is a bare pickle, not an archive of torch.save", PickleMachine.advice)
    }
    if starts(with: [0x28, 0xB5, 0x2F, 0xFD]) {
      throw refusal("this is compressed with zstd", "name it with '.zst' at the end")
    }
    if starts(with: [0x1F, 0x8B]) { throw refusal("this is compressed with gzip", "expand it with gunzip first") }
    guard bytes.byteCount >= 22 else {
      throw refusal(
        "expected a zip archive, found \(bytes.byteCount) bytes", "download the file again; it is incomplete",
        .malformed)
    }
    throw refusal("expected a zip archive, which starts with 'PK'", "this is not a file of torch.save", .malformed)
  }
}
