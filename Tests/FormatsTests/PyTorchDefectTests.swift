import NormFoldFormats
import Testing
import TestSupport

private typealias P = PickleWriter

/// An archive that must be refused, and the words that it must be refused with.
struct PyTorchDefect: CustomTestStringConvertible, Sendable {
  let name: String
  let bytes: [UInt8]
  let message: String
  var testDescription: String { name }

  init(_ name: String, _ message: String, bytes: [UInt8]) {
    self.name = name
    self.bytes = bytes
    self.message = message
  }

  /// - Parameter pickle: the program between its protocol and its end.
  init(_ name: String, _ message: String, pickle: [UInt8]) {
    self.init(name, message, bytes: ZipWriter(records: PickleWriter.records(pickle)).archive)
  }

  /// - Parameter value: of the key `w`.
  init(_ name: String, _ message: String, tensor: [UInt8]) {
    self.init(name, message, pickle: PickleWriter.dict(["w": tensor]))
  }

  init(_ name: String, _ message: String, records: [ZipWriter.Record]) {
    self.init(name, message, bytes: ZipWriter(records: records).archive)
  }
}

extension PyTorchDefect {
  private static func sound(_ change: (inout [ZipWriter.Record]) -> Void) -> [ZipWriter.Record] {
    var records = P.sound
    change(&records)
    return records
  }

  private static func writer(_ change: (inout ZipWriter) -> Void) -> [UInt8] {
    var writer = ZipWriter(records: P.sound)
    change(&writer)
    return writer.archive
  }

  private static func raw(_ text: String) -> [UInt8] { Array(text.utf8) }

  static let container: [PyTorchDefect] = [
    .init(
      "empty file",
      "malformed: m.bin at byte 0: expected a zip archive, found 0 bytes;"
        + " download the file again; it is incomplete", bytes: []),
    .init(
      "text",
      "malformed: m.bin at byte 0: expected a zip archive, which starts with 'PK';"
        + " this is not a file of torch.save", bytes: raw("hello, this is not an archive at all")),
    .init(
      "git-lfs pointer",
      "malformed: m.bin: is a git-lfs pointer, not the file itself; run 'git lfs pull' where it came from",
      bytes: raw("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 1\n")),
    .init(
      "zstd",
      "unsupported: m.bin at byte 0: this is compressed with zstd; name it with '.zst' at the end",
      bytes: [0x28, 0xB5, 0x2F, 0xFD] + [UInt8](repeating: 0, count: 40)),
    .init(
      "gzip",
      "unsupported: m.bin at byte 0: this is compressed with gzip; expand it with gunzip first",
      bytes: [0x1F, 0x8B] + [UInt8](repeating: 0, count: 40)),
    .init(
      "bare pickle",
      "unsupported: m.bin at byte 0: this is a bare pickle, not an archive of torch.save;"
        + " save the model's state_dict() alone, with torch.save of PyTorch 1.6 or later", bytes: P.program(P.none)),
    .init(
      "end cut off",
      "malformed: m.bin: the zip archive has no end of directory within its last 65557 bytes;"
        + " download the file again; it is incomplete, or something was appended to it",
      bytes: Array(ZipWriter(records: P.sound).archive.dropLast(5))),
    .init(
      "start cut off",
      "malformed: m.bin at byte 0: expected a zip archive, which starts with 'PK';"
        + " this is not a file of torch.save", bytes: Array(ZipWriter(records: P.sound).archive.dropFirst(30))),
    .init(
      "bytes appended",
      "malformed: m.bin: the zip archive has no end of directory within its last 65557 bytes;"
        + " download the file again; it is incomplete, or something was appended to it",
      bytes: ZipWriter(records: P.sound).archive + [0]),
    .init(
      "bytes put before",
      "malformed: m.bin at byte 574: central directory: expected to end at byte 574, found 222 bytes from byte 350;"
        + " bytes were cut from the file or put before it; download it again",
      bytes: raw("PK") + ZipWriter(records: P.sound).archive),
    .init(
      "no record",
      "malformed: m.bin: the zip archive is empty; download the file again", bytes: ZipWriter(records: []).archive),
    .init(
      "one record too many",
      "malformed: m.bin at byte 572: central directory: expected 5 records, found 4;"
        + " the archive is damaged; download the file again", bytes: writer { $0.recordCount = 5 }),
    .init(
      "one record too few",
      "malformed: m.bin at byte 517: central directory: 55 bytes follow its 3 records;"
        + " the archive is damaged; download the file again", bytes: writer { $0.recordCount = 3 }),
    .init(
      "several disks",
      "unsupported: m.bin at byte 572: the zip archive is one of several parts (disk 1, directory on 1);"
        + " join the parts first", bytes: writer { $0.disk = 1 }),
    .init(
      "encrypted",
      "unsupported: m.bin at byte 463, 'a/data/0': the record is encrypted or a patch; unpack the archive and zip it again",
      records: sound { $0[2].flags |= 1 }),
    .init(
      "patch data",
      "unsupported: m.bin at byte 463, 'a/data/0': the record is encrypted or a patch; unpack the archive and zip it again",
      records: sound { $0[2].flags |= 0x20 }),
    .init(
      "bzip2",
      "unsupported: m.bin at byte 463, 'a/data/0': compression method: expected 0 (stored) or 8 (deflated), found 12;"
        + " write the archive again with torch.save", records: sound { $0[2].method = 12 }),
    .init(
      "record twice",
      "malformed: m.bin at byte 350, 'a/data/0': the record occurs twice;"
        + " a name must mean one record; write the archive again", records: sound { $0.append($0[2]) }),
    .init(
      "two headers, one record",
      "malformed: m.bin at byte 0, 'a/data.pkl': overlaps 'a/data.pkl', which ends at byte 200;"
        + " each byte may belong to one record only",
      records: sound {
        $0.append(
          $0[2].with {
            $0.headerOffset = 0; $0.name = "a/data.pkl"
          })
      }),
    .init(
      "overlap",
      "malformed: m.bin at byte 33, 'a/data/0': overlaps 'a/x', which ends at byte 95;"
        + " each byte may belong to one record only", records: overlapping),
    .init(
      "offset beyond the file",
      "malformed: m.bin at byte 1048576, 'a/data/0': the directory points to no record here;"
        + " the archive is damaged; download the file again", records: sound { $0[2].headerOffset = 1 << 20 }),
    .init(
      "size beyond the file",
      "malformed: m.bin at byte 309, 'a/version': expected at most 2064 bytes from 2 deflated ones, found a size of 1048576;"
        + " deflate cannot expand that far; the archive is damaged or hostile",
      records: sound {
        $0[3].method = 8; $0[3].flags = 0; $0[3].byteCount = 1 << 20
      }),
    .init(
      "two sizes",
      "malformed: m.bin at byte 463, 'a/data/0': a stored record has one size, found 25 and 24 bytes;"
        + " the archive is damaged; download the file again", records: sound { $0[2].byteCount = 25 }),
    .init(
      "another name inside",
      "malformed: m.bin at byte 247, 'a/data/0': the record itself is named 'a/data/1';"
        + " the archive is damaged; download the file again", records: sound { $0[2].localName = "a/data/1" }),
    .init(
      "name outside the folder",
      "malformed: m.bin at byte 247, '../data/0': expected every record in one top folder, as in 'a/data.pkl';"
        + " this is a zip archive, but not one of torch.save", records: sound { $0[2].name = "../data/0" }),
    .init(
      "no folder",
      "malformed: m.bin at byte 0, 'data.pkl': expected every record in one top folder, as in 'archive/data.pkl';"
        + " this is a zip archive, but not one of torch.save", records: sound { $0[0].name = "data.pkl" }),
    .init(
      "no data.pkl",
      "malformed: m.bin: the archive has no record 'a/data.pkl'; this is a zip archive, but not one of torch.save",
      records: sound { $0.remove(at: 0) }),
    .init(
      "no version",
      "malformed: m.bin: the archive has no record 'a/version';"
        + " the archive is incomplete, or not one of torch.save", records: sound { $0.remove(at: 3) }),
    .init(
      "version 999",
      "unsupported: m.bin at byte 348, 'a/version': expected a version from 1 to 10, found '999';"
        + " load it and save it again with PyTorch 1.6 to 2.x", records: sound { $0[3].bytes = raw("999\n") }),
    .init(
      "big-endian",
      "unsupported: m.bin at byte 241, 'a/byteorder': expected 'little', found 'big';"
        + " load and save it with torch on a little-endian machine", records: sound { $0[1].bytes = raw("big") }),
    .init(
      "unknown byte order",
      "unsupported: m.bin at byte 241, 'a/byteorder': expected 'little', found 'middle';"
        + " load and save it with torch on a little-endian machine", records: sound { $0[1].bytes = raw("middle") }),
    .init(
      "TorchScript",
      "unsupported: m.bin at byte 350, 'a/constants.pkl': this is a TorchScript program, not a checkpoint;"
        + " load it with torch.jit.load and save its state_dict() with torch.save",
      records: sound { $0.append(.init("a/constants.pkl", [])) }),
    .init(
      "TorchScript code",
      "unsupported: m.bin at byte 350, 'a/code/x.py': this is a TorchScript program, not a checkpoint;"
        + " load it with torch.jit.load and save its state_dict() with torch.save",
      records: sound { $0.append(.init("a/code/x.py", [])) }),
    .init(
      "storage missing",
      "malformed: m.bin, 'a/data/0': the record of this storage is missing;"
        + " download the file again; it is incomplete", records: sound { $0.remove(at: 2) }),
    .init(
      "storage too short",
      "malformed: m.bin at byte 247, 'a/data/0': expected 24 bytes for 6 elements of F32, found 20;"
        + " the file is damaged; download it again", records: sound { $0[2].bytes.removeLast(4) }),
    .init(
      "storage too long",
      "malformed: m.bin at byte 247, 'a/data/0': expected 24 bytes for 6 elements of F32, found 28;"
        + " the file is damaged; download it again", records: sound { $0[2].bytes += [0, 0, 0, 0] }),
    .init(
      "wrong CRC of data.pkl",
      "malformed: m.bin at byte 40, 'a/data.pkl': CRC-32: expected 00000001, found 73e2d73a;"
        + " the bytes have changed since they were written; download the file again", records: sound { $0[0].crc = 1 }),
    .init(
      "deflated beyond possible",
      "malformed: m.bin at byte 247, 'a/data/0': expected 24 bytes for 6 elements of F32, found 1048576;"
        + " the file is damaged; download it again",
      records: sound { $0[2] = $0[2].deflated.with { $0.byteCount = 1 << 20 } }),
    .init(
      "deflated beyond reason",
      "malformed: m.bin at byte 237, 'a/data/0': the deflated records expand to more than 1092950784 bytes;"
        + " 16 times the archive and 1 GiB is the limit; if you trust the file, unpack it and zip it without compression",
      records: expanding),
    .init(
      "deflated shorter than stated",
      "malformed: m.bin at byte 310, 'a/data/0': expected 24 bytes, inflated 20;"
        + " download the file again; it is damaged",
      records: sound { $0[2] = $0[2].with { $0.bytes.removeLast(4) }.deflated.with { $0.byteCount = 24 } }),
    .init(
      "deflated longer than stated",
      "malformed: m.bin at byte 315, 'a/data/0': inflates to more than the 24 bytes that the directory says;"
        + " download the file again; it is damaged",
      records: sound { $0[2] = $0[2].with { $0.bytes += [0] }.deflated.with { $0.byteCount = 24 } }),
    .init(
      "deflated cut",
      "malformed: m.bin at byte 313, 'a/data/0': the deflated data cannot be read: it ends too early;"
        + " download the file again; it is damaged",
      records: sound { $0[2] = $0[2].deflated.with { $0.bytes.removeLast() } }),
    .init(
      "deflated garbage",
      "malformed: m.bin at byte 286, 'a/data/0': the deflated data cannot be read: invalid block type;"
        + " download the file again; it is damaged", records: sound { $0[2] = $0[2].deflated.with { $0.bytes[0] = 7 } }),
    .init(
      "deflated, then more",
      "malformed: m.bin at byte 314, 'a/data/0': the deflated data end after 29 of 30 bytes;"
        + " download the file again; it is damaged", records: sound { $0[2] = $0[2].deflated.with { $0.bytes += [0] } }),
    .init(
      "deflated, wrong CRC",
      "malformed: m.bin at byte 285, 'a/data/0': CRC-32: expected 00000001, found 91e79017;"
        + " download the file again; it is damaged", records: sound { $0[2] = $0[2].deflated.with { $0.crc = 1 } }),
    .init(
      "zip64 end missing",
      "malformed: m.bin at byte 740: zip64 locator: no zip64 end of directory between byte 685 and here;"
        + " the archive is damaged; download the file again",
      bytes: {
        var writer = ZipWriter(records: P.sound)
        writer.isZip64 = true
        var bytes = writer.archive
        bytes[bytes.count - 22 - 20 + 8] ^= 1
        return bytes
      }()),
  ]

  /// 1,000 times its compressed size, which deflate can do and no checkpoint does.
  private static var expanding: [ZipWriter.Record] {
    let byteCount = 1_200_000
    let pickle = P.dict(["w": P.tensor([6], strides: [1], count: byteCount * 250)])
    var records = P.records(pickle)
    records[2] = .init("a/data/0", [UInt8](repeating: 0, count: byteCount)).with { record in
      record.crc = 0
      record.method = 8
      record.byteCount = byteCount * 1_000
    }
    return records
  }

  /// The first record holds a whole second one.
  private static var overlapping: [ZipWriter.Record] {
    let inner = Array(
      ZipWriter(records: [.init("a/data/0", [UInt8](repeating: 0, count: 24))]).archive.prefix(30 + 8 + 24))
    return [.init("a/x", inner), .init("a/data/0", [UInt8](repeating: 0, count: 24)).with { $0.headerOffset = 33 }]
  }

  static let program: [PyTorchDefect] = [
    .init(
      "os.system",
      "malformed: m.bin (a/data.pkl) at byte 2: the global 'posix.system' is not allowed;"
        + " nothing of the file was executed; if you trust it, save the model's state_dict() alone, with torch.save of PyTorch 1.6 or later",
      pickle: P.call(P.global("posix", "system"), [P.string("id")])),
    .init(
      "eval",
      "malformed: m.bin (a/data.pkl) at byte 2: the global 'builtins.eval' is not allowed;"
        + " nothing of the file was executed; if you trust it, save the model's state_dict() alone, with torch.save of PyTorch 1.6 or later",
      pickle: P.call(P.global("builtins", "eval"), [P.string("1")])),
    .init(
      "an attribute of an allowed module",
      "malformed: m.bin (a/data.pkl) at byte 2: the global 'torch.load' is not allowed;"
        + " nothing of the file was executed; if you trust it, save the model's state_dict() alone, with torch.save of PyTorch 1.6 or later",
      pickle: P.global("torch", "load")),
    .init(
      "STACK_GLOBAL",
      "malformed: m.bin (a/data.pkl) at byte 20: the global 'os.system' is not allowed (STACK_GLOBAL);"
        + " nothing of the file was executed; if you trust it, save the model's state_dict() alone, with torch.save of PyTorch 1.6 or later",
      pickle: P.string("os") + P.string("system") + [0x93]),
    .init(
      "INST",
      "malformed: m.bin (a/data.pkl) at byte 3: the global 'os.system' is not allowed (INST);"
        + " nothing of the file was executed; if you trust it, save the model's state_dict() alone, with torch.save of PyTorch 1.6 or later",
      pickle: raw("(ios\nsystem\n")),
    .init(
      "OBJ",
      "malformed: m.bin (a/data.pkl) at byte 28: OBJ would make an object of a class, which is not allowed;"
        + " nothing of the file was executed; if you trust it, save the model's state_dict() alone, with torch.save of PyTorch 1.6 or later",
      pickle: raw("(") + P.global("collections", "OrderedDict") + raw("o")),
    .init(
      "NEWOBJ",
      "malformed: m.bin (a/data.pkl) at byte 28: NEWOBJ would make an object of a class, which is not allowed;"
        + " nothing of the file was executed; if you trust it, save the model's state_dict() alone, with torch.save of PyTorch 1.6 or later",
      pickle: P.global("collections", "OrderedDict") + raw(")") + [0x81]),
    .init(
      "EXT1",
      "unsupported: m.bin (a/data.pkl) at byte 2: the pickle opcode EXT1 is not allowed;"
        + " save the model's state_dict() alone, with torch.save of PyTorch 1.6 or later", pickle: [0x82, 1]),
    .init(
      "FRAME",
      "unsupported: m.bin (a/data.pkl) at byte 2: the pickle opcode FRAME is not allowed;"
        + " save the model's state_dict() alone, with torch.save of PyTorch 1.6 or later",
      pickle: [0x95] + little(UInt64(1))),
    .init(
      "text INT",
      "unsupported: m.bin (a/data.pkl) at byte 2: the pickle opcode INT is not allowed;"
        + " save the model's state_dict() alone, with torch.save of PyTorch 1.6 or later", pickle: raw("I1\n")),
    .init(
      "no opcode",
      "malformed: m.bin (a/data.pkl) at byte 2: 0xff is not a pickle opcode;"
        + " the file is damaged; download it again", pickle: [0xFF]),
    .init(
      "protocol 4",
      "unsupported: m.bin (a/data.pkl) at byte 0: pickle protocol: expected at most 3, found 4;"
        + " save with torch.save and its default pickle_protocol=2", records: sound { $0[0].bytes[1] = 4 }),
    .init(
      "protocol twice",
      "unsupported: m.bin (a/data.pkl) at byte 2: the protocol is stated again;"
        + " save with torch.save and its default pickle_protocol=2", pickle: [0x80, 2]),
    .init(
      "no end",
      "malformed: m.bin (a/data.pkl) at byte 159: the pickle has no end;"
        + " it is incomplete; download the file again", records: sound { $0[0].bytes.removeLast() }),
    .init(
      "bytes after the end",
      "malformed: m.bin (a/data.pkl) at byte 159: the pickle ends after 160 of its 161 bytes;"
        + " torch.save writes no such pickle; download the file again", records: sound { $0[0].bytes += [0] }),
    .init(
      "two values at the end",
      "malformed: m.bin (a/data.pkl) at byte 4: expected one value at the end, found a stack of 2 values and 0 marks;"
        + " torch.save writes no such pickle; download the file again", pickle: P.none + P.none),
    .init(
      "nothing at the end",
      "malformed: m.bin (a/data.pkl) at byte 2: expected one value at the end, found a stack of 0 values and 0 marks;"
        + " torch.save writes no such pickle; download the file again", pickle: []),
    .init(
      "pop from nothing",
      "malformed: m.bin (a/data.pkl) at byte 2: the stack is empty here;"
        + " torch.save writes no such pickle; download the file again", pickle: raw("R")),
    .init(
      "pop below a mark",
      "malformed: m.bin (a/data.pkl) at byte 4: the stack is empty here;"
        + " torch.save writes no such pickle; download the file again", pickle: P.none + raw("(") + raw("s")),
    .init(
      "tuple without a mark",
      "malformed: m.bin (a/data.pkl) at byte 2: there is no mark on the stack;"
        + " torch.save writes no such pickle; download the file again", pickle: raw("t")),
    .init(
      "memo read first",
      "malformed: m.bin (a/data.pkl) at byte 2: the memo has no entry 7;"
        + " torch.save writes no such pickle; download the file again", pickle: raw("h") + [7]),
    .init(
      "string beyond the end",
      "malformed: m.bin (a/data.pkl) at byte 2: a string needs 4294967295 bytes, 1 left;"
        + " the pickle is incomplete; download the file again", pickle: raw("X") + little(UInt32.max)),
    .init(
      "string not UTF-8",
      "malformed: m.bin (a/data.pkl) at byte 2: a string is not UTF-8;"
        + " torch.save writes no such pickle; download the file again", pickle: raw("X") + little(UInt32(1)) + [0xFF]),
    .init(
      "endless name",
      "malformed: m.bin (a/data.pkl) at byte 2: expected a name of at most 256 bytes in UTF-8 and a line feed;"
        + " torch.save writes no such pickle; download the file again",
      pickle: raw("c" + String(repeating: "x", count: 300))),
    .init(
      "append to a dict",
      "malformed: m.bin (a/data.pkl) at byte 4: expected a list to append to, found a dict;"
        + " torch.save writes no such pickle; download the file again", pickle: raw("}Na")),
    .init(
      "store in a list",
      "malformed: m.bin (a/data.pkl) at byte 5: expected a dict to store in, found a list;"
        + " torch.save writes no such pickle; download the file again", pickle: raw("]NNs")),
    .init(
      "odd pairs",
      "malformed: m.bin (a/data.pkl) at byte 5: SETITEMS: expected pairs, found 1 values;"
        + " torch.save writes no such pickle; download the file again", pickle: raw("}(Nu")),
    .init(
      "key is a list",
      "unsupported: m.bin (a/data.pkl) at byte 6: expected a string or a number as the key of a dict, found a list;"
        + " save the model's state_dict() alone, with torch.save of PyTorch 1.6 or later", pickle: raw("}(]Nu")),
    .init(
      "attributes of a dict",
      "unsupported: m.bin (a/data.pkl) at byte 4: BUILD: only an OrderedDict may carry attributes, in a dict, found a dict;"
        + " save the model's state_dict() alone, with torch.save of PyTorch 1.6 or later", pickle: raw("}}b")),
    .init(
      "call a string",
      "malformed: m.bin (a/data.pkl) at byte 14: REDUCE: expected a global and a tuple, found 'print' and a tuple;"
        + " torch.save writes no such pickle; download the file again", pickle: P.call(P.string("print"), [])),
    .init(
      "call a dtype",
      "malformed: m.bin (a/data.pkl) at byte 19: 'torch.float32' cannot be called;"
        + " torch.save writes no such pickle; download the file again", pickle: P.call(P.global("torch", "float32"), [])
    ),
    .init(
      "OrderedDict of something",
      "malformed: m.bin (a/data.pkl) at byte 30: 'collections.OrderedDict': expected no arguments, found 1;"
        + " torch.save writes no such pickle; download the file again",
      pickle: P.call(P.global("collections", "OrderedDict"), [P.none])),
    .init(
      "persistent id of another kind",
      "unsupported: m.bin (a/data.pkl) at byte 54: persistent id: expected 'storage', found 'module';"
        + " save the model's state_dict() alone, with torch.save of PyTorch 1.6 or later",
      pickle: P.storage(count: 6, tag: "module")),
    .init(
      "persistent id too short",
      "unsupported: m.bin (a/data.pkl) at byte 16: persistent id: expected ('storage', type, key, location, count);"
        + " save the model's state_dict() alone, with torch.save of PyTorch 1.6 or later",
      pickle: P.tuple([P.string("storage")]) + raw("Q")),
    .init(
      "storage of complex numbers",
      "unsupported: m.bin (a/data.pkl) at byte 15: complex numbers of 128 bits are not read;"
        + " convert the tensor to complex64 before saving", pickle: P.storage("ComplexDoubleStorage", count: 6)),
    .init(
      "storage key leads out",
      "malformed: m.bin (a/data.pkl) at byte 58: storage: expected a key of digits, found '../0';"
        + " torch.save writes no such pickle; download the file again", pickle: P.storage(key: "../0", count: 6)),
    .init(
      "storage key empty",
      "malformed: m.bin (a/data.pkl) at byte 54: storage: expected a key of digits, found '';"
        + " torch.save writes no such pickle; download the file again", pickle: P.storage(key: "", count: 6)),
    .init(
      "storage of negative size",
      "malformed: m.bin (a/data.pkl) at byte 55: storage '0': expected a count of elements, found -1;"
        + " torch.save writes no such pickle; download the file again", pickle: P.storage(count: -1)),
    .init(
      "storage of two sizes",
      "malformed: m.bin (a/data.pkl) at byte 123: storage '0' has another type or size than before;"
        + " torch.save writes no such pickle; download the file again",
      pickle: P.dict(["a": P.storage(count: 6), "b": P.storage(count: 5)])),
    .init(
      "a list, not a dict",
      "unsupported: m.bin (a/data.pkl): expected a dict of tensors, found a list;"
        + " save the model's state_dict() alone, with torch.save of PyTorch 1.6 or later", pickle: raw("]")),
    .init(
      "no tensor",
      "unsupported: m.bin (a/data.pkl): the dict holds no tensor, nor does a dict in it;"
        + " save the model's state_dict() alone, with torch.save of PyTorch 1.6 or later", pickle: raw("}")),
    .init(
      "integer as a name",
      "malformed: m.bin (a/data.pkl) at byte 146: the name of a tensor: expected a string of 1 to 1024 bytes without NUL, found 7;"
        + " a state dict maps names to tensors; save it again",
      pickle: P.dict([(P.integer(7), P.tensor([6], strides: [1]))])),
    .init(
      "empty name",
      "malformed: m.bin (a/data.pkl) at byte 146: the name of a tensor: expected a string of 1 to 1024 bytes without NUL, found '';"
        + " a state dict maps names to tensors; save it again", pickle: P.dict(["": P.tensor([6], strides: [1])])),
    .init(
      "name twice",
      "malformed: m.bin, 'w': the name occurs twice; a name must mean one tensor; write the checkpoint again",
      pickle: P.dict(["w": P.tensor([6], strides: [1]), "w": P.tensor([6], strides: [1])])),
    .init(
      "value twice",
      "malformed: m.bin (a/data.pkl), 'x': the name occurs twice; a name must mean one value; save it again",
      pickle: P.dict(["model": P.dict(["w": P.tensor([6], strides: [1])]), "x": P.none, "x": P.none])),
    .init(
      "contains itself",
      "unsupported: m.bin (a/data.pkl), 'x.x.x.x.x.x.x.x.x.x.x.x.x.x.x.x.x.w': the values are nested deeper than 16;"
        + " save the model's state_dict() alone, with torch.save of PyTorch 1.6 or later",
      pickle: [0x7D, 0x71, 0, 0x28] + P.string("w") + P.tensor([6], strides: [1]) + P.string("x") + [0x68, 0, 0x75]),
    .init(
      "2^40 values",
      "unsupported: m.bin (a/data.pkl), 'bomb': the values are nested deeper than 16;"
        + " save the model's state_dict() alone, with torch.save of PyTorch 1.6 or later",
      pickle: P.dict(["w": P.tensor([6], strides: [1]), "bomb": bomb])),
    .init(
      "10^12 values",
      "unsupported: m.bin (a/data.pkl), 'bomb': there are more than 100000 values beside the tensors;"
        + " save the model's state_dict() alone, with torch.save of PyTorch 1.6 or later",
      pickle: P.dict(["w": P.tensor([6], strides: [1]), "bomb": wideBomb])),
    .init(
      "long names by repetition",
      "unsupported: m.bin (a/data.pkl), 'kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk': a name has 2000 bytes, expected at most 1024;"
        + " save the model's state_dict() alone, with torch.save of PyTorch 1.6 or later",
      pickle: P.dict(["w": P.tensor([6], strides: [1]), String(repeating: "k", count: 2_000): P.none])),
  ]

  /// Forty tuples, each of which holds the one before twice.
  private static var bomb: [UInt8] {
    var bytes = P.none
    for index: UInt8 in 0..<40 { bytes += [0x71, index, 0x68, index, 0x86] }
    return bytes
  }

  /// Twelve tuples, each of which holds the one before ten times.
  private static var wideBomb: [UInt8] {
    var bytes = P.none
    for index: UInt8 in 0..<12 {
      bytes += [0x71, index, 0x28]
      for _ in 0..<10 { bytes += [0x68, index] }
      bytes += raw("t")
    }
    return P.tuple([bytes])
  }

  static let layout: [PyTorchDefect] = [
    .init(
      "negative size",
      "malformed: m.bin (a/data.pkl) at byte 147: 'torch._utils._rebuild_tensor_v2': size: expected whole numbers, found -1;"
        + " torch.save writes no such pickle; download the file again", tensor: P.tensor([-1], strides: [1])),
    .init(
      "negative stride",
      "malformed: m.bin (a/data.pkl) at byte 147: 'torch._utils._rebuild_tensor_v2': stride: expected whole numbers, found -1;"
        + " torch.save writes no such pickle; download the file again", tensor: P.tensor([2], strides: [-1])),
    .init(
      "negative offset",
      "malformed: m.bin (a/data.pkl) at byte 147: 'torch._utils._rebuild_tensor_v2': expected an offset in elements, found -1;"
        + " torch.save writes no such pickle; download the file again", tensor: P.tensor([2], strides: [1], offset: -1)),
    .init(
      "ranks differ",
      "malformed: m.bin (a/data.pkl) at byte 152: 'torch._utils._rebuild_tensor_v2': expected as many strides as sizes, found 1 and 2;"
        + " torch.save writes no such pickle; download the file again", tensor: P.tensor([2, 3], strides: [1])),
    .init(
      "nine axes",
      "unsupported: m.bin (a/data.pkl) at byte 227: 'torch._utils._rebuild_tensor_v2': size: expected at most 8 axes, found 9;"
        + " save the model's state_dict() alone, with torch.save of PyTorch 1.6 or later",
      tensor: P.tensor([1, 1, 1, 1, 1, 1, 1, 1, 1], strides: [1, 1, 1, 1, 1, 1, 1, 1, 1])),
    .init(
      "stride 0",
      "malformed: m.bin (a/data.pkl) at byte 147, 'w': elements share bytes: axis 0 of shape [6] with strides [0] steps by 0, expected more than 0;"
        + " call contiguous() on the tensor before saving", tensor: P.tensor([6], strides: [0])),
    .init(
      "overlapping rows",
      "malformed: m.bin (a/data.pkl) at byte 157, 'w': elements share bytes: axis 0 of shape [2, 3] with strides [2, 1] steps by 2, expected more than 2;"
        + " call contiguous() on the tensor before saving", tensor: P.tensor([2, 3], strides: [2, 1])),
    .init(
      "equal strides",
      "malformed: m.bin (a/data.pkl) at byte 157, 'w': elements share bytes: axis 1 of shape [2, 2] with strides [1, 1] steps by 1, expected more than 1;"
        + " call contiguous() on the tensor before saving", tensor: P.tensor([2, 2], strides: [1, 1])),
    .init(
      "beyond the storage",
      "malformed: m.bin (a/data.pkl) at byte 147, 'w': storage '0' has 6 elements, but shape [7] with strides [1] from element 0 reaches beyond;"
        + " the file is damaged; download it again", tensor: P.tensor([7], strides: [1])),
    .init(
      "beyond by the offset",
      "malformed: m.bin (a/data.pkl) at byte 147, 'w': storage '0' has 6 elements, but shape [6] with strides [1] from element 1 reaches beyond;"
        + " the file is damaged; download it again", tensor: P.tensor([6], strides: [1], offset: 1)),
    .init(
      "beyond by the stride",
      "malformed: m.bin (a/data.pkl) at byte 157, 'w': storage '0' has 6 elements, but shape [2, 2] with strides [5, 1] from element 0 reaches beyond;"
        + " the file is damaged; download it again", tensor: P.tensor([2, 2], strides: [5, 1])),
    .init(
      "size overflows",
      "malformed: m.bin (a/data.pkl) at byte 167, 'w': the size of F32 [1099511627776, 1099511627776] overflows;"
        + " the file is damaged; download it again", tensor: P.tensor([1 << 40, 1 << 40], strides: [1, 1])),
    .init(
      "extent overflows",
      "malformed: m.bin (a/data.pkl) at byte 152, 'w': strides [9223372036854775807] of shape [3] overflow;"
        + " the file is damaged; download it again", tensor: P.tensor([3], strides: [.max])),
    .init(
      "offset overflows",
      "malformed: m.bin (a/data.pkl) at byte 152, 'w': storage '0' has 6 elements, but shape [2] with strides [1] from element 9223372036854775807 reaches beyond;"
        + " the file is damaged; download it again", tensor: P.tensor([2], strides: [1], offset: .max)),
    .init(
      "storage size overflows",
      "malformed: m.bin at byte 242, 'a/data/0': expected more than 2^63 bytes for 9223372036854775807 elements of F32, found 24;"
        + " the file is damaged; download it again", tensor: P.tensor([6], strides: [1], count: .max)),
    .init(
      "storage larger than its record",
      "malformed: m.bin at byte 237, 'a/data/0': expected 28 bytes for 7 elements of F32, found 24;"
        + " the file is damaged; download it again", tensor: P.tensor([6], strides: [1], count: 7)),
    .init(
      "untyped storage, version 2",
      "unsupported: m.bin (a/data.pkl) at byte 157: 'torch._utils._rebuild_tensor_v2': expected a typed storage, found the other kind;"
        + " save the model's state_dict() alone, with torch.save of PyTorch 1.6 or later",
      tensor: P.tensor([6], strides: [1], storage: P.storage("UntypedStorage", count: 24))),
    .init(
      "version 3 without a type",
      "malformed: m.bin (a/data.pkl) at byte 147: 'torch._utils._rebuild_tensor_v3': expected an element type as argument 7;"
        + " torch.save writes no such pickle; download the file again",
      tensor: P.call(
        P.global("torch._utils", "_rebuild_tensor_v3"),
        [
          P.storage("UntypedStorage", count: 24), P.integer(0), P.tuple([]), P.tuple([]), P.no, P.orderedDict,
        ])),
    .init(
      "version 3, complex",
      "unsupported: m.bin (a/data.pkl) at byte 164: tensors of 'torch.complex64' are not read;"
        + " save the model's state_dict() alone, with torch.save of PyTorch 1.6 or later",
      tensor: P.call(
        P.global("torch._utils", "_rebuild_tensor_v3"),
        [
          P.storage("UntypedStorage", count: 24), P.integer(0), P.tuple([]), P.tuple([]), P.no, P.orderedDict,
          P.global("torch", "complex64"),
        ])),
    .init(
      "conjugate",
      "unsupported: m.bin (a/data.pkl) at byte 150: 'torch._utils._rebuild_tensor_v2': the tensor is a lazy conjugate or negative;"
        + " call resolve_conj() and resolve_neg() on it before saving",
      tensor: P.call(
        P.global("torch._utils", "_rebuild_tensor_v2"),
        [
          P.storage(count: 6), P.integer(0), P.tuple([]), P.tuple([]), P.no, P.orderedDict, P.dict(["conj": [0x88]]),
        ])),
  ]
}

@Suite struct PyTorchDefectTests {
  @Test("refuses", arguments: PyTorchDefect.container + PyTorchDefect.program + PyTorchDefect.layout)
  func refuses(_ defect: PyTorchDefect) throws {
    let directory = try TemporaryDirectory()
    let path = try directory.write(defect.bytes, to: "m.bin")
    let refusal = #expect(throws: Refusal.self) { _ = try Checkpoint(pytorch: path) }
    let message = refusal.map { "\($0.category): \($0.description.replacing(directory.path + "/", with: ""))" }
    #expect(message == defect.message)
  }

  /// Programs as long as it takes to reach each budget; all end within seconds, in little memory and on a small stack.
  @Test(
    "keeps to its budgets",
    arguments: [
      (
        [0x4E], 1 << 20,
        " at byte 1048578: the stack is deeper than 1048576 values; torch.save writes no such pickle; download the file again"
      ),
      (
        [0x28], (1 << 20) + 1,
        " at byte 1048579: more than 1048576 marks; torch.save writes no such pickle; download the file again"
      ),
      (
        [0x71, 0], 1 << 22,
        " at byte 8388605: the pickle has more than 4194304 operations;"
          + " save the model's state_dict() alone, with torch.save of PyTorch 1.6 or later"
      ),
      // A tuple in a tuple, a million deep.
      (
        [0x85], 1 << 20,
        ": expected a dict of tensors, found a tuple;"
          + " save the model's state_dict() alone, with torch.save of PyTorch 1.6 or later"
      ),
    ] as [([UInt8], Int, String)])
  func keepsToBudgets(_ piece: [UInt8], _ count: Int, _ message: String) throws {
    let directory = try TemporaryDirectory()
    var pickle = P.none
    pickle.reserveCapacity(piece.count * count + 8)
    for _ in 0..<count { pickle += piece }
    let path = try directory.write(ZipWriter(records: P.records(pickle)).archive, to: "m.bin")
    let refusal = #expect(throws: Refusal.self) { _ = try Checkpoint(pytorch: path) }
    #expect(refusal?.description == "\(path) (a/data.pkl)\(message)")
  }
}
