import Foundation
import Glibc
import NormFold
import NormFoldFormats
import NormFoldNetworks
import TestSupport

/// A header of this text, with its true length or another one, and this many bytes of data.
private func file(_ header: String, length: UInt64? = nil, data: Int = 0, behind: [UInt8] = []) -> [UInt8] {
  little(length ?? UInt64(header.utf8.count)) + Array(header.utf8) + [UInt8](repeating: 0, count: data) + behind
}

private func entry(_ name: String, _ offsets: String, type: String = "F32", shape: String = "[1]") -> String {
  "\"\(name)\":{\"dtype\":\"\(type)\",\"shape\":\(shape),\"data_offsets\":\(offsets)}"
}

private let pointer = Array(
  "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 548105171\n"
    .utf8)

extension MatrixRow {
  private static func header(_ number: Int, _ name: String, _ bytes: [UInt8], _ answer: Answer) -> MatrixRow {
    MatrixRow(number, name, files: ["model.safetensors": bytes], answer)
  }

  static let safetensors: [MatrixRow] = [
    header(
      1, "empty file", [],
      .refused(
        3,
        "in/model.safetensors: a safetensors file starts with 8 bytes of header length, found 0; download the file again; it is incomplete"
      )),
    header(
      1, "seven bytes", [UInt8](repeating: 0, count: 7),
      .refused(
        3,
        "in/model.safetensors: a safetensors file starts with 8 bytes of header length, found 7; download the file again; it is incomplete"
      )),
    header(
      2, "header of 100 MB and a byte", file("{}", length: 100_000_001),
      .refused(
        3,
        "in/model.safetensors at byte 0: header length: expected at most 100000000, found 100000001; this is not a safetensors file, or its start is damaged"
      )),
    header(
      2, "header longer than the file", file("{}", length: 60),
      .refused(
        3,
        "in/model.safetensors at byte 8: header: expected 60 bytes, found 2; download the file again; it is incomplete")
    ),
    header(
      2, "header length 2^64 − 1", file("{}", length: .max),
      .refused(
        3,
        "in/model.safetensors at byte 0: header length: expected at most 100000000, found 18446744073709551615; this is not a safetensors file, or its start is damaged"
      )),
    header(
      3, "git-lfs pointer", pointer,
      .refused(
        3, "in/model.safetensors: is a git-lfs pointer, not the file itself; run 'git lfs pull' where it came from")),
    MatrixRow(
      3, "git-lfs pointer for a tokenizer", copyOf: "lnfree",
      .refused(
        3, "in/tokenizer.json: is a git-lfs pointer, not the file itself; run 'git lfs pull' where it came from"),
      change: { try Data(pointer).write(to: URL(filePath: $0 + "/tokenizer.json")) }),
    MatrixRow(
      3, "git-lfs pointer for a config", copyOf: "lnfree",
      .refused(3, "in/config.json: is a git-lfs pointer, not the file itself; run 'git lfs pull' where it came from"),
      change: { try Data(pointer).write(to: URL(filePath: $0 + "/config.json")) }),
    MatrixRow(
      4, "a checkpoint cut by one byte", copyOf: "lnfree",
      .refused(
        3,
        "in/model.safetensors at byte 112680, 'transformer.wte.weight': expected 65536 bytes, found 65535; download the file again; it is incomplete, and its last whole tensor is 'transformer.wpe.weight'"
      ),
      change: { source in
        let size = try MappedFile(path: source + "/model.safetensors").byteCount
        guard truncate(source + "/model.safetensors", size - 1) == 0 else { throw CocoaError(.fileWriteUnknown) }
      }),
    header(
      4, "second tensor incomplete", file("{\(entry("a", "[0,4]")),\(entry("b", "[4,8]"))}", data: 7),
      .refused(
        3,
        "in/model.safetensors at byte 119, 'b': expected 4 bytes, found 3; download the file again; it is incomplete, and its last whole tensor is 'a'"
      )),
    header(
      5, "a zip behind the tensors", file("{\(entry("a", "[0,4]"))}", data: 4, behind: Array("PK\u{5}\u{6}".utf8)),
      .refused(
        3,
        "in/model.safetensors at byte 66: expected the end of the file behind the last tensor, found 4 bytes more; cut the file there if you know where they come from, or download it again"
      )),
    header(
      6, "a hole", file("{\(entry("a", "[0,4]")),\(entry("b", "[8,12]"))}", data: 12),
      .refused(
        3,
        "in/model.safetensors at byte 120, 'b': 4 bytes before this tensor belong to no tensor; a safetensors file may have no gaps; write the file again"
      )),
    header(
      6, "an overlap", file("{\(entry("a", "[0,4]")),\(entry("b", "[2,6]"))}", data: 6),
      .refused(
        3,
        "in/model.safetensors at byte 117, 'b': expected to start at data offset 4, where 'a' ends, found 2; each byte may belong to one tensor only; write the file again"
      )),
    header(
      6, "a hole at the start", file("{\(entry("a", "[4,8]"))}", data: 8),
      .refused(
        3,
        "in/model.safetensors at byte 62, 'a': 4 bytes before this tensor belong to no tensor; a safetensors file may have no gaps; write the file again"
      )),
    header(
      7, "a name twice", file("{\(entry("a", "[0,4]")),\(entry("a", "[4,8]"))}", data: 8),
      .refused(
        3, "in/model.safetensors at byte 62: the key 'a' occurs twice; a name must mean one thing; write the file again"
      )),
    header(
      7, "a name twice, once escaped", file("{\(entry("a", "[0,4]")),\(entry("\\u0061", "[4,8]"))}", data: 8),
      .refused(
        3, "in/model.safetensors at byte 62: the key 'a' occurs twice; a name must mean one thing; write the file again"
      )),
    header(
      8, "elements overflow", file("{\(entry("a", "[0,4]", shape: "[4294967296,4294967296]"))}", data: 4),
      .refused(3, "in/model.safetensors at byte 9, 'a': shape: the size of F32 [4294967296, 4294967296] overflows")),
    header(
      8, "an extent of 2^64", file("{\(entry("a", "[0,4]", shape: "[18446744073709551616]"))}", data: 4),
      .refused(
        3, "in/model.safetensors at byte 9, 'a': shape: expected whole numbers below 2^63, found 18446744073709551616")),
    MatrixRow(
      9, "a norm without elements",
      .refused(3, "in/model.safetensors, 'transformer.ln_f.bias': expected shape [32], found [0]"),
      alter: { $0.tensors["transformer.ln_f.bias"] = .init([], shape: [0]) }),
    MatrixRow(
      9, "an unknown tensor without elements",
      .refused(
        4,
        "in/model.safetensors: 1 tensor of unknown meaning: extra; if they take no part in the network, pass --ignore with their names"
      ),
      alter: { $0.tensors["extra"] = .init([], shape: [0, 4]) }),
    MatrixRow(
      9, "an unknown tensor without elements, ignored", .accepted(),
      conversion: { $0.readingOptions.ignoredTensors = ["extra"] },
      alter: { $0.tensors["extra"] = .init([], shape: [0, 4]) }),
    header(
      10, "type F8_E4M3FN", file("{\(entry("a", "[0,1]", type: "F8_E4M3FN"))}", data: 1),
      .refused(
        4,
        "in/model.safetensors at byte 9, 'a': dtype: 'F8_E4M3FN' is not an element type of safetensors; known are BOOL F4 F6_E2M3 F6_E3M2 U8 I8 F8_E5M2 F8_E4M3 F8_E8M0 F8_E4M3FNUZ F8_E5M2FNUZ I16 U16 F16 BF16 I32 U32 F32 C64 F64 I64 U64"
      )),
    header(
      10, "type I4", file("{\(entry("a", "[0,1]", type: "I4"))}", data: 1),
      .refused(
        4,
        "in/model.safetensors at byte 9, 'a': dtype: 'I4' is not an element type of safetensors; known are BOOL F4 F6_E2M3 F6_E3M2 U8 I8 F8_E5M2 F8_E4M3 F8_E8M0 F8_E4M3FNUZ F8_E5M2FNUZ I16 U16 F16 BF16 I32 U32 F32 C64 F64 I64 U64"
      )),
    header(
      10, "type Q8", file("{\(entry("a", "[0,1]", type: "Q8"))}", data: 1),
      .refused(
        4,
        "in/model.safetensors at byte 9, 'a': dtype: 'Q8' is not an element type of safetensors; known are BOOL F4 F6_E2M3 F6_E3M2 U8 I8 F8_E5M2 F8_E4M3 F8_E8M0 F8_E4M3FNUZ F8_E5M2FNUZ I16 U16 F16 BF16 I32 U32 F32 C64 F64 I64 U64"
      )),
    MatrixRow(
      10, "a known type that is not folded",
      .refused(
        4,
        "in/model.safetensors, 'transformer.ln_f.bias': elements of type F8_E4M3 cannot be read as numbers; save the checkpoint in F32, BF16 or F16"
      ),
      alter: {
        $0.tensors["transformer.ln_f.bias"] = .init(type: .f8e4m3, shape: [32], bytes: [UInt8](repeating: 0, count: 32))
      }),
    MatrixRow(
      10, "a matrix of integers, as quantisers write them",
      .refused(
        4,
        "in/model.safetensors, 'transformer.h.1.mlp.c_fc.weight': elements of type I8 are no weights; if the checkpoint is quantised, save it in F32, BF16 or F16"
      ),
      alter: {
        $0.tensors["transformer.h.1.mlp.c_fc.weight"] = .init(
          type: .i8, shape: [32, 128], bytes: [UInt8](repeating: 1, count: 32 * 128))
      }),
    MatrixRow(
      10, "masks of truth values and integers, which take no part", .accepted(),
      alter: {
        $0.tensors["transformer.h.0.attn.bias"] = .init(
          type: .bool, shape: [1, 1, 64, 64], bytes: [UInt8](repeating: 1, count: 64 * 64))
        $0.tensors["transformer.h.1.attn.bias"] = .init(
          type: .u8, shape: [1, 1, 64, 64], bytes: [UInt8](repeating: 1, count: 64 * 64))
      }),
    MatrixRow(
      10, "a buffer of a fixed norm in a type that is not decoded", of: "fakeln-safetensors",
      .refused(
        4,
        "in/model.safetensors, 'transformer.h.0.ln_1.bos_std_buffer': elements of type F8_E5M2 cannot be read as numbers; save the checkpoint in F32, BF16 or F16"
      ),
      alter: {
        $0.tensors["transformer.h.0.ln_1.bos_std_buffer"] = .init(
          type: .f8e5m2, shape: [32], bytes: [UInt8](repeating: 0, count: 32))
      }),
    MatrixRow(
      10, "deviations of a fixed norm in a type that is not decoded", of: "fakeln-safetensors",
      .refused(
        4,
        "in/model.safetensors, 'transformer.h.0.ln_1.average_std_buffer': elements of type C64 cannot be read as numbers; save the checkpoint in F32, BF16 or F16"
      ),
      alter: {
        $0.tensors["transformer.h.0.ln_1.average_std_buffer"] = .init(
          type: .c64, shape: [32], bytes: [UInt8](repeating: 0, count: 256))
      }),
    header(
      11, "a name that is not UTF-8",
      little(UInt64(10)) + Array("{\"".utf8) + [0xFF] + Array("\":1}   ".utf8),
      .refused(3, "in/model.safetensors at byte 9: not valid JSON: the string is not valid UTF-8")),
    header(
      11, "a name with NUL", file("{\(entry("a\\u0000b", "[0,4]"))}", data: 4),
      .refused(
        3,
        "in/model.safetensors at byte 9, 'a\\u{0}b': the tensor's name holds a NUL; rename the tensor and write the file again"
      )),
    header(
      11, "an empty name", file("{\(entry("", "[0,4]"))}", data: 4),
      .refused(
        3, "in/model.safetensors at byte 9, '': a tensor has an empty name; rename the tensor and write the file again")
    ),
    header(
      11, "a name of 1,025 bytes", file("{\(entry(String(repeating: "n", count: 1_025), "[0,4]"))}", data: 4),
      .refused(
        3,
        "in/model.safetensors at byte 9, 'nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn': the tensor's name has 1025 bytes, expected at most 1024; rename the tensor and write the file again"
      )),
    MatrixRow(
      11, "names that are paths and commands of a terminal",
      .refused(
        4,
        "in/model.safetensors: 2 tensors of unknown meaning: \\u{1b}]0;owned\\u{7}\\u{202e}, ../../etc/passwd; if they take no part in the network, pass --ignore with their names"
      ),
      alter: {
        $0.tensors["../../etc/passwd"] = .init([1], shape: [1])
        $0.tensors["\u{1B}]0;owned\u{7}\u{202E}"] = .init([1], shape: [1])
      }),
    header(
      12, "a header of 100,000 brackets", file(String(repeating: "[", count: 100_000)),
      .refused(3, "in/model.safetensors at byte 40: the JSON is nested deeper than 32 levels")),
    MatrixRow(
      12, "a config of 100,000 brackets",
      files: [
        "config.json": Array(("{\"a\":" + String(repeating: "[", count: 100_000)).utf8),
        "model.safetensors": file("{}"),
      ],
      .refused(3, "in/config.json at byte 36: the JSON is nested deeper than 32 levels")),
    MatrixRow(
      12, "an index of 100,000 brackets",
      files: ["model.safetensors.index.json": Array(String(repeating: "{\"a\":", count: 100_000).utf8)],
      .refused(3, "in/model.safetensors.index.json at byte 160: the JSON is nested deeper than 32 levels")),
  ]
}
