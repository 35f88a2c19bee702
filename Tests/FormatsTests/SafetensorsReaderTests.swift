import NormFoldFormats
import Testing
import TestSupport

/// A file, what the reference reader (safetensors 0.8.0, whose own tests most rows come from) does with it, and what
/// ours answers. Ours may be stricter, never more lenient.
struct SafetensorsCase: CustomTestStringConvertible {
  enum Reference { case accepts, rejects }

  let name: String
  let bytes: [UInt8]
  let reference: Reference
  let verdict: Verdict
  var testDescription: String { name }

  init(_ name: String, _ bytes: [UInt8], reference: Reference, _ verdict: Verdict) {
    self.name = name
    self.bytes = bytes
    self.reference = reference
    self.verdict = verdict
  }

  /// A header of this text, with its true length, and this many bytes of data.
  init(_ name: String, _ json: String, data: Int = 0, reference: Reference, _ verdict: Verdict) {
    self.init(name, file(Array(json.utf8), data: data), reference: reference, verdict)
  }
}

private func file(_ header: [UInt8], length: UInt64? = nil, data: Int = 0) -> [UInt8] {
  let length = length ?? UInt64(header.count)
  return (0..<8).map { UInt8(truncatingIfNeeded: length >> (8 * $0)) } + header
    + (0..<data).map { UInt8(truncatingIfNeeded: $0) }
}

private func entry(_ type: String, _ shape: String, _ offsets: String) -> String {
  "{\"dtype\":\"\(type)\",\"shape\":\(shape),\"data_offsets\":\(offsets)}"
}

private let square = "{\"test\":{\"dtype\":\"I32\",\"shape\":[2,2],\"data_offsets\":[0,16]}}"

/// Ten tensors that all claim the same bytes.
private let attack =
  "{" + (0..<10).map { "\"weight_\($0)\":" + entry("F32", "[2,2]", "[0,16]") }.joined(separator: ",") + "}"

private func nested(_ depth: Int) -> String {
  "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"x\":"
    + String(repeating: "[", count: depth) + String(repeating: "]", count: depth) + "}}"
}

private let f4 = entry("F32", "[1]", "[0,4]")

extension SafetensorsCase {
  /// The invalid and valid files in the reference implementation's own tests.
  static let upstream: [SafetensorsCase] = [
    .init(
      "ten tensors on the same bytes", attack, data: 16, reference: .rejects,
      .refused(
        "m.safetensors at byte 639, 'weight_1': expected to start at data offset 16, where 'weight_0' ends, found 0; each byte may belong to one tensor only; write the file again"
      )),
    .init(
      "a file behind the file", file(Array(square.utf8), data: 16) + Array("extra_bogus_data_for_polyglot_file".utf8),
      reference: .rejects,
      .refused(
        "m.safetensors at byte 84: expected the end of the file behind the last tensor, found 34 bytes more; cut the file there if you know where they come from, or download it again"
      )),
    .init(
      "two bytes short", square, data: 14, reference: .rejects,
      .refused(
        "m.safetensors at byte 68, 'test': expected 16 bytes, found 14; download the file again; it is incomplete, and has no whole tensor"
      )),
    .init(
      "length with high bytes", [0x3C, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF] + Array(square.utf8), reference: .rejects,
      .refused(
        "m.safetensors at byte 0: header length: expected at most 100000000, found 18446742974197923900; this is not a safetensors file, or its start is damaged"
      )),
    .init(
      "empty file", [] as [UInt8], reference: .rejects,
      .refused(
        "m.safetensors: a safetensors file starts with 8 bytes of header length, found 0; download the file again; it is incomplete"
      )),
    .init(
      "length only", [0x3C, 0, 0, 0, 0, 0, 0, 0], reference: .rejects,
      .refused("m.safetensors at byte 8: header: expected 60 bytes, found 0; download the file again; it is incomplete")
    ),
    .init(
      "header is not UTF-8", [1, 0, 0, 0, 0, 0, 0, 0, 0xFF], reference: .rejects,
      .refused("m.safetensors at byte 8: not valid JSON: expected a value, found byte 0xff")),
    .init(
      "header ends early", [1, 0, 0, 0, 0, 0, 0, 0, 0x7B], reference: .rejects,
      .refused("m.safetensors at byte 9: not valid JSON: expected a key, found the end of the text")),
    .init("white space behind", "{}\r \t\n", reference: .accepts, .accepted("")),
    .init("white space before and behind", "\t\n{}\r ", reference: .accepts, .accepted("")),
    .init(
      "no elements", "{\"test\":" + entry("I32", "[2,0]", "[0, 0]") + "}", reference: .accepts,
      .accepted("test I32 [2, 0]")),
    .init(
      "offsets shorter than the shape", "{\"test\":" + entry("I32", "[2,2]", "[0, 4]") + "}", reference: .rejects,
      .refused("m.safetensors at byte 9, 'test': data_offsets: expected 16 bytes for I32 [2, 2], found 4")),
    .init(
      "extent 2^64-2", "{\"test\":" + entry("I32", "[2,18446744073709551614]", "[0,16]") + "}", data: 16,
      reference: .rejects,
      .refused("m.safetensors at byte 9, 'test': shape: expected whole numbers below 2^63, found 18446744073709551614")),
    .init(
      "extent 2^63-1", "{\"test\":" + entry("I32", "[2,9223372036854775807]", "[0,16]") + "}", data: 16,
      reference: .rejects,
      .refused("m.safetensors at byte 9, 'test': shape: the size of I32 [2, 9223372036854775807] overflows")),
    .init(
      "scalar", "{\"test\":" + entry("I32", "[]", "[0,4]") + "}", data: 4, reference: .accepts, .accepted("test I32 []")
    ),
    .init(
      "a megabyte claimed, one byte there", "{\"test\":" + entry("F32", "[1024,1024]", "[0,4194304]") + "}", data: 1,
      reference: .rejects,
      .refused(
        "m.safetensors at byte 79, 'test': expected 4194304 bytes, found 1; download the file again; it is incomplete, and has no whole tensor"
      )),
    .init(
      "header of 1000 bytes in a tiny file", file(Array("{}".utf8), length: 1000), reference: .rejects,
      .refused(
        "m.safetensors at byte 8: header: expected 1000 bytes, found 2; download the file again; it is incomplete")),
    .init(
      "four bits of three elements", "{\"test\":" + entry("F4", "[1,3]", "[0,2]") + "}", data: 2, reference: .rejects,
      .refused("m.safetensors at byte 9, 'test': shape: F4 [1, 3] does not end on a whole byte")),
    .init(
      "four bits of two elements", "{\"test\":" + entry("F4", "[1,2]", "[0,1]") + "}", data: 1, reference: .accepts,
      .accepted("test F4 [1, 2]")),
  ]

  static let lengths: [SafetensorsCase] = [
    .init(
      "7 bytes", [0, 0, 0, 0, 0, 0, 0], reference: .rejects,
      .refused(
        "m.safetensors: a safetensors file starts with 8 bytes of header length, found 7; download the file again; it is incomplete"
      )),
    .init(
      "length 0", file([]), reference: .rejects,
      .refused("m.safetensors at byte 8: not valid JSON: expected a value, found the end of the text")),
    .init(
      "length 100000000", file(Array("{}".utf8), length: 100_000_000), reference: .rejects,
      .refused(
        "m.safetensors at byte 8: header: expected 100000000 bytes, found 2; download the file again; it is incomplete")
    ),
    .init(
      "length 100000001", file(Array("{}".utf8), length: 100_000_001), reference: .rejects,
      .refused(
        "m.safetensors at byte 0: header length: expected at most 100000000, found 100000001; this is not a safetensors file, or its start is damaged"
      )),
    .init(
      "length 2^64-1", file(Array("{}".utf8), length: .max), reference: .rejects,
      .refused(
        "m.safetensors at byte 0: header length: expected at most 100000000, found 18446744073709551615; this is not a safetensors file, or its start is damaged"
      )),
    .init("no tensor", "{}", reference: .accepts, .accepted("")),
    .init(
      "no tensor but a byte", "{}", data: 1, reference: .rejects,
      .refused(
        "m.safetensors at byte 10: expected the end of the file behind the last tensor, found 1 byte more; cut the file there if you know where they come from, or download it again"
      )),
    .init(
      "git-lfs pointer", Array("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 497774208\n".utf8),
      reference: .rejects,
      .refused("m.safetensors: is a git-lfs pointer, not the file itself; run 'git lfs pull' where it came from")),
  ]

  static let json: [SafetensorsCase] = [
    .init(
      "array", "[]", reference: .rejects,
      .refused("m.safetensors at byte 8: header: expected a JSON object, found an array")),
    .init(
      "null", "null", reference: .rejects,
      .refused("m.safetensors at byte 8: header: expected a JSON object, found null")),
    .init(
      "padded with NUL", "{}\0\0", reference: .rejects,
      .refused("m.safetensors at byte 10: not valid JSON: expected nothing after the value, found byte 0x0")),
    .init(
      "text behind the object", "{}x", reference: .rejects,
      .refused("m.safetensors at byte 10: not valid JSON: expected nothing after the value, found 'x'")),
    .init(
      "byte order mark", "\u{FEFF}{}", reference: .rejects,
      .refused("m.safetensors at byte 8: the JSON starts with a byte order mark; save it as UTF-8 without one")),
    .init(
      "not a number", "{\"a\":" + entry("F32", "[NaN]", "[0,4]") + "}", data: 4, reference: .rejects,
      .refused(
        "m.safetensors at byte 37: not valid JSON: expected a value, and NaN and Infinity are none; write a number, or null, in its place"
      )),
    .init(
      "trailing comma", "{\"a\":" + f4 + ",}", data: 4, reference: .rejects,
      .refused("m.safetensors at byte 62: not valid JSON: expected a key, found '}'")),
    .init(
      "leading zero", "{\"a\":" + entry("F32", "[01]", "[0,4]") + "}", data: 4, reference: .rejects,
      .refused("m.safetensors at byte 38: not valid JSON: expected ',' or ']', found '1'")),
    .init(
      "single quotes", "{'a':" + f4 + "}", data: 4, reference: .rejects,
      .refused("m.safetensors at byte 9: not valid JSON: expected a key, found '''")),
    .init(
      "control character in a name", "{\"a\n\":" + f4 + "}", data: 4, reference: .rejects,
      .refused("m.safetensors at byte 11: not valid JSON: control character 0xa in a string")),
    .init(
      "lone surrogate", "{\"\\ud800\":" + f4 + "}", data: 4, reference: .rejects,
      .refused("m.safetensors at byte 12: not valid JSON: half of a surrogate pair")),
    .init(
      "surrogate as UTF-8", file(Array("{\"".utf8) + [0xED, 0xA0, 0x80] + Array("\":\(f4)}".utf8), data: 4),
      reference: .rejects, .refused("m.safetensors at byte 9: not valid JSON: the string is not valid UTF-8")),
    .init(
      "overlong UTF-8", file(Array("{\"".utf8) + [0xC0, 0xAF] + Array("\":\(f4)}".utf8), data: 4), reference: .rejects,
      .refused("m.safetensors at byte 9: not valid JSON: the string is not valid UTF-8")),
    .init(
      "nested 30 deep", nested(30), data: 1, reference: .accepts,
      .accepted("a U8 [1]", warnings: ["m.safetensors, 'a': the field 'x' is not part of the format and is ignored"])),
    .init(
      "nested 31 deep", nested(31), data: 1, reference: .accepts,
      .refused("m.safetensors at byte 94: the JSON is nested deeper than 32 levels")),
    .init(
      "nested 200 deep", nested(200), data: 1, reference: .rejects,
      .refused("m.safetensors at byte 94: the JSON is nested deeper than 32 levels")),
    .init(
      "nested 100000 deep", nested(100_000), data: 1, reference: .rejects,
      .refused("m.safetensors at byte 94: the JSON is nested deeper than 32 levels")),
  ]

  static let fields: [SafetensorsCase] = [
    .init(
      "no dtype", "{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", data: 4, reference: .rejects,
      .refused("m.safetensors at byte 9, 'a': dtype: expected a string, found nothing")),
    .init(
      "no shape", "{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", data: 4, reference: .rejects,
      .refused("m.safetensors at byte 9, 'a': shape: expected an array of whole numbers, found nothing")),
    .init(
      "no offsets", "{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", data: 4, reference: .rejects,
      .refused("m.safetensors at byte 9, 'a': data_offsets: expected an array of whole numbers, found nothing")),
    .init(
      "a field too many", "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"x\":1}}", data: 4,
      reference: .accepts,
      .accepted("a F32 [1]", warnings: ["m.safetensors, 'a': the field 'x' is not part of the format and is ignored"])),
    .init(
      "three fields too many",
      "{\"a\":{\"y\":1,\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"x\":1,\"z\":1}}", data: 4,
      reference: .accepts,
      .accepted(
        "a F32 [1]",
        warnings: ["m.safetensors, 'a': the field 'y' is not part of the format and is ignored, as are 2 others"])),
    .init(
      "array instead of object", "{\"a\":[\"F32\",[1],[0,4]]}", data: 4, reference: .accepts,
      .refused("m.safetensors at byte 9, 'a': expected an object with dtype, shape and data_offsets, found an array")),
    .init(
      "string instead of object", "{\"a\":\"F32\"}", reference: .rejects,
      .refused("m.safetensors at byte 9, 'a': expected an object with dtype, shape and data_offsets, found \"F32\"")),
    .init(
      "unknown type", "{\"a\":" + entry("F8_E4M3FN", "[4]", "[0,4]") + "}", data: 4, reference: .rejects,
      .refused(
        "m.safetensors at byte 9, 'a': dtype: 'F8_E4M3FN' is not an element type of safetensors; known are BOOL F4 F6_E2M3 F6_E3M2 U8 I8 F8_E5M2 F8_E4M3 F8_E8M0 F8_E4M3FNUZ F8_E5M2FNUZ I16 U16 F16 BF16 I32 U32 F32 C64 F64 I64 U64"
      )),
    .init(
      "type in lower case", "{\"a\":" + entry("f32", "[1]", "[0,4]") + "}", data: 4, reference: .rejects,
      .refused(
        "m.safetensors at byte 9, 'a': dtype: 'f32' is not an element type of safetensors; known are BOOL F4 F6_E2M3 F6_E3M2 U8 I8 F8_E5M2 F8_E4M3 F8_E8M0 F8_E4M3FNUZ F8_E5M2FNUZ I16 U16 F16 BF16 I32 U32 F32 C64 F64 I64 U64"
      )),
    .init(
      "type null", "{\"a\":{\"dtype\":null,\"shape\":[1],\"data_offsets\":[0,4]}}", data: 4, reference: .rejects,
      .refused("m.safetensors at byte 9, 'a': dtype: expected a string, found null")),
    .init(
      "the same field twice", "{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
      data: 4, reference: .rejects,
      .refused(
        "m.safetensors at byte 28: the key 'dtype' occurs twice; a name must mean one thing; write the file again")),
    .init(
      "negative extent", "{\"a\":" + entry("F32", "[-1]", "[0,4]") + "}", data: 4, reference: .rejects,
      .refused("m.safetensors at byte 9, 'a': shape: expected whole numbers below 2^63, found -1")),
    .init(
      "extent -0", "{\"a\":" + entry("F32", "[-0]", "[0,0]") + "}", reference: .rejects,
      .refused("m.safetensors at byte 9, 'a': shape: expected whole numbers below 2^63, found -0")),
    .init(
      "extent 1.0", "{\"a\":" + entry("F32", "[1.0]", "[0,4]") + "}", data: 4, reference: .rejects,
      .refused("m.safetensors at byte 9, 'a': shape: expected whole numbers below 2^63, found 1.0")),
    .init(
      "extent 1e0", "{\"a\":" + entry("F32", "[1e0]", "[0,4]") + "}", data: 4, reference: .rejects,
      .refused("m.safetensors at byte 9, 'a': shape: expected whole numbers below 2^63, found 1e0")),
    .init(
      "extent as string", "{\"a\":" + entry("F32", "[\"1\"]", "[0,4]") + "}", data: 4, reference: .rejects,
      .refused("m.safetensors at byte 9, 'a': shape: expected whole numbers below 2^63, found \"1\"")),
    .init(
      "extent true", "{\"a\":" + entry("F32", "[true]", "[0,4]") + "}", data: 4, reference: .rejects,
      .refused("m.safetensors at byte 9, 'a': shape: expected whole numbers below 2^63, found true")),
    .init(
      "shape is a number", "{\"a\":" + entry("F32", "1", "[0,4]") + "}", data: 4, reference: .rejects,
      .refused("m.safetensors at byte 9, 'a': shape: expected an array of whole numbers, found 1")),
    .init(
      "extent 2^64", "{\"a\":" + entry("F32", "[18446744073709551616]", "[0,4]") + "}", data: 4, reference: .rejects,
      .refused("m.safetensors at byte 9, 'a': shape: expected whole numbers below 2^63, found 18446744073709551616")),
    .init(
      "0 times two huge extents",
      "{\"a\":" + entry("F32", "[0,18446744073709551615,18446744073709551615]", "[0,0]") + "}", reference: .accepts,
      .refused("m.safetensors at byte 9, 'a': shape: expected whole numbers below 2^63, found 18446744073709551615")),
    .init(
      "two huge extents times 0",
      "{\"a\":" + entry("F32", "[18446744073709551615,18446744073709551615,0]", "[0,0]") + "}", reference: .rejects,
      .refused("m.safetensors at byte 9, 'a': shape: expected whole numbers below 2^63, found 18446744073709551615")),
    .init(
      "2^61 elements of 8 bytes", "{\"a\":" + entry("F64", "[2305843009213693952]", "[0,0]") + "}", reference: .rejects,
      .refused("m.safetensors at byte 9, 'a': shape: the size of F64 [2305843009213693952] overflows")),
    .init(
      "one offset", "{\"a\":" + entry("F32", "[1]", "[0]") + "}", data: 4, reference: .rejects,
      .refused("m.safetensors at byte 9, 'a': data_offsets: expected 2 numbers, found 1")),
    .init(
      "three offsets", "{\"a\":" + entry("F32", "[1]", "[0,4,4]") + "}", data: 4, reference: .rejects,
      .refused("m.safetensors at byte 9, 'a': data_offsets: expected 2 numbers, found 3")),
    .init(
      "end before start", "{\"a\":" + entry("F32", "[1]", "[4,0]") + "}", data: 4, reference: .rejects,
      .refused("m.safetensors at byte 9, 'a': data_offsets: the end 0 lies before the start 4")),
    .init(
      "offset 2^63-1", "{\"a\":" + entry("F32", "[0]", "[9223372036854775807,9223372036854775807]") + "}",
      reference: .rejects,
      .refused("m.safetensors at byte 9, 'a': data_offsets: 9223372036854775807 is beyond any file")),
    .init(
      "8 axes", "{\"a\":" + entry("U8", "[1,1,1,1,1,1,1,1]", "[0,1]") + "}", data: 1, reference: .accepts,
      .accepted("a U8 [1, 1, 1, 1, 1, 1, 1, 1]")),
    .init(
      "9 axes", "{\"a\":" + entry("U8", "[1,1,1,1,1,1,1,1,1]", "[0,1]") + "}", data: 1, reference: .accepts,
      .refused("m.safetensors at byte 9, 'a': shape: expected at most 8 axes, found 9")),
  ]

  static let names: [SafetensorsCase] = [
    .init(
      "the same name and entry twice", "{\"a\":\(f4),\"a\":\(f4)}", data: 4, reference: .accepts,
      .refused("m.safetensors at byte 62: the key 'a' occurs twice; a name must mean one thing; write the file again")),
    .init(
      "the same name, other offsets", "{\"a\":\(f4),\"a\":" + entry("F32", "[1]", "[4,8]") + "}", data: 8,
      reference: .rejects,
      .refused("m.safetensors at byte 62: the key 'a' occurs twice; a name must mean one thing; write the file again")),
    .init(
      "the same name, the last one valid", "{\"a\":" + entry("F32", "[2]", "[4,8]") + ",\"a\":\(f4)}", data: 4,
      reference: .accepts,
      .refused("m.safetensors at byte 62: the key 'a' occurs twice; a name must mean one thing; write the file again")),
    .init(
      "the same name by an escape", "{\"a\":\(f4),\"\\u0061\":\(f4)}", data: 4, reference: .accepts,
      .refused("m.safetensors at byte 62: the key 'a' occurs twice; a name must mean one thing; write the file again")),
    .init(
      "the same name in another Unicode spelling", "{\"é\":\(f4),\"e\u{301}\":" + entry("F32", "[1]", "[4,8]") + "}",
      data: 8, reference: .accepts,
      .refused("m.safetensors, 'é': the name occurs twice; a name must mean one tensor; write the checkpoint again")),
    .init(
      "empty name", "{\"\":\(f4)}", data: 4, reference: .accepts,
      .refused("m.safetensors at byte 9, '': a tensor has an empty name; rename the tensor and write the file again")),
    .init(
      "NUL in a name", "{\"a\\u0000b\":\(f4)}", data: 4, reference: .accepts,
      .refused(
        "m.safetensors at byte 9, 'a\\u{0}b': the tensor's name holds a NUL; rename the tensor and write the file again"
      )),
    .init(
      "name of 1024 bytes", "{\"\(String(repeating: "n", count: 1_024))\":\(f4)}", data: 4, reference: .accepts,
      .accepted("nnnnnnnnnnnnnnnn F32 [1]")),
    .init(
      "name of 1 MiB", "{\"\(String(repeating: "n", count: 1 << 20))\":\(f4)}", data: 4, reference: .accepts,
      .refused(
        "m.safetensors at byte 9, 'nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn': the tensor's name has 1048576 bytes, expected at most 1024; rename the tensor and write the file again"
      )),
    .init(
      "name that looks like a path", "{\"../../etc/passwd\":\(f4)}", data: 4, reference: .accepts,
      .accepted("../../etc/passwd F32 [1]")),
    .init(
      "terminal codes in a name", "{\"a\\u001b[31m\":" + entry("F32", "[2]", "[0,4]") + "}", data: 4,
      reference: .rejects,
      .refused("m.safetensors at byte 9, 'a\\u{1b}[31m': data_offsets: expected 8 bytes for F32 [2], found 4")),
  ]

  static let coverage: [SafetensorsCase] = [
    .init(
      "hole at the start", "{\"a\":" + entry("F32", "[1]", "[4,8]") + "}", data: 8, reference: .rejects,
      .refused(
        "m.safetensors at byte 62, 'a': 4 bytes before this tensor belong to no tensor; a safetensors file may have no gaps; write the file again"
      )),
    .init(
      "hole in the middle", "{\"a\":\(f4),\"b\":" + entry("F32", "[1]", "[8,12]") + "}", data: 12, reference: .rejects,
      .refused(
        "m.safetensors at byte 120, 'b': 4 bytes before this tensor belong to no tensor; a safetensors file may have no gaps; write the file again"
      )),
    .init(
      "overlap by two bytes", "{\"a\":\(f4),\"b\":" + entry("F32", "[1]", "[2,6]") + "}", data: 6, reference: .rejects,
      .refused(
        "m.safetensors at byte 117, 'b': expected to start at data offset 4, where 'a' ends, found 2; each byte may belong to one tensor only; write the file again"
      )),
    .init(
      "not in the order of the offsets", "{\"b\":" + entry("F32", "[1]", "[4,8]") + ",\"a\":\(f4)}", data: 8,
      reference: .accepts, .accepted("b F32 [1], a F32 [1]")),
    .init(
      "three empty tensors at one offset",
      "{\"a\":" + entry("F32", "[0]", "[0,0]") + ",\"b\":" + entry("U8", "[0]", "[0,0]") + ",\"c\":\(f4),\"d\":"
        + entry("F32", "[0]", "[4,4]") + "}", data: 4, reference: .accepts,
      .accepted("a F32 [0], b U8 [0], c F32 [1], d F32 [0]")),
    .init(
      "empty tensor inside another", "{\"a\":\(f4),\"b\":" + entry("F32", "[0]", "[2,2]") + "}", data: 4,
      reference: .rejects,
      .refused(
        "m.safetensors at byte 117, 'b': expected to start at data offset 4, where 'a' ends, found 2; each byte may belong to one tensor only; write the file again"
      )),
    .init(
      "empty tensor behind the data", "{\"a\":\(f4),\"b\":" + entry("F32", "[0]", "[8,8]") + "}", data: 4,
      reference: .rejects,
      .refused(
        "m.safetensors at byte 119, 'b': 4 bytes before this tensor belong to no tensor; a safetensors file may have no gaps; write the file again"
      )),
    .init(
      "unaligned", "{\"a\":" + entry("U8", "[1]", "[0,1]") + ",\"b\":" + entry("F32", "[1]", "[1,5]") + "}", data: 5,
      reference: .accepts, .accepted("a U8 [1], b F32 [1]")),
    .init(
      "second tensor incomplete", "{\"a\":\(f4),\"b\":" + entry("F32", "[2]", "[4,12]") + "}", data: 9,
      reference: .rejects,
      .refused(
        "m.safetensors at byte 120, 'b': expected 8 bytes, found 5; download the file again; it is incomplete, and its last whole tensor is 'a'"
      )),
    .init(
      "BOOL with the value 2", file(Array(("{\"a\":" + entry("BOOL", "[3]", "[0,3]") + "}").utf8), data: 3),
      reference: .accepts, .accepted("a BOOL [3]")),
  ]

  static let metadata: [SafetensorsCase] = [
    .init("metadata of strings", "{\"__metadata__\":{\"format\":\"pt\"}}", reference: .accepts, .accepted("")),
    .init("metadata null", "{\"__metadata__\":null}", reference: .accepts, .accepted("")),
    .init(
      "metadata with a number", "{\"__metadata__\":{\"format\":1}}", reference: .rejects,
      .refused("m.safetensors at byte 25, '__metadata__.format': expected a string, found 1")),
    .init(
      "metadata a string", "{\"__metadata__\":\"pt\"}", reference: .rejects,
      .refused("m.safetensors at byte 9, '__metadata__': expected an object of strings, found \"pt\"")),
    .init(
      "metadata twice", "{\"__metadata__\":{},\"__metadata__\":{}}", reference: .rejects,
      .refused(
        "m.safetensors at byte 27: the key '__metadata__' occurs twice; a name must mean one thing; write the file again"
      )),
    .init(
      "the same metadata key twice", "{\"__metadata__\":{\"k\":\"1\",\"k\":\"2\"}}", reference: .accepts,
      .refused("m.safetensors at byte 33: the key 'k' occurs twice; a name must mean one thing; write the file again")),
  ]

  static let all = upstream + lengths + json + fields + names + coverage + metadata
}

@Test("safetensors reader", arguments: SafetensorsCase.all)
func safetensorsReader(_ row: SafetensorsCase) throws {
  let directory = try TemporaryDirectory()
  let path = try directory.write(row.bytes, to: "m.safetensors")
  let verdict = Verdict(in: directory.path) {
    let checkpoint = try Checkpoint(safetensors: path)
    return (checkpoint.summary, checkpoint.warnings)
  }
  #expect(verdict == row.verdict, "ROW|\(row.name)|\(verdict)|END")
  #expect(row.reference == .accepts || !verdict.isAccepted, "more lenient than the reference")
}
