import NormFoldFormats
import TestSupport

extension MatrixRow {
  private typealias File = GGUFBytes

  private static func file(_ number: Int, _ name: String, _ bytes: GGUFBytes, _ answer: Answer) -> MatrixRow {
    MatrixRow(number, name, files: ["model.gguf": bytes.bytes], answer)
  }

  private static func two(at offset: UInt64, data: Int = 96) -> GGUFBytes {
    File(tensors: 2).tensor("x", [8]).tensor("y", [4], offset: offset).data(data)
  }

  static let gguf: [MatrixRow] = [
    file(
      13, "2^63 − 1 pairs", File(pairs: .max),
      .refused(
        3,
        "in/model.gguf at byte 16: pair count: expected at most 0 in what is left of the file, found 9223372036854775807; the file is incomplete or damaged; download it again"
      )),
    file(
      13, "2^63 − 1 tensors", File(tensors: .max),
      .refused(
        3,
        "in/model.gguf at byte 8: tensor count: expected at most 0 in what is left of the file, found 9223372036854775807; the file is incomplete or damaged; download it again"
      )),
    file(
      13, "an array of 2^62", File(pairs: 1).pair("k", type: 9, []).number(Int32(4)).number(UInt64(1) << 62),
      .refused(
        3,
        "in/model.gguf at byte 41, 'k': element count: expected at most 0 in what is left of the file, found 4611686018427387904; the file is incomplete or damaged; download it again"
      )),
    file(
      14, "a string longer than the file", File(pairs: 1).pair("k", type: 8, UInt64(1) << 40),
      .refused(
        3,
        "in/model.gguf at byte 37, 'k': length of value: expected at most 0 bytes, found 1099511627776; the file is incomplete or damaged; download it again"
      )),
    file(
      14, "an array longer than the file",
      File(pairs: 1).pair("k", type: 9, []).number(Int32(4)).number(UInt64(3)).raw([UInt8](repeating: 0, count: 11)),
      .refused(
        3,
        "in/model.gguf at byte 41, 'k': element count: expected at most 2 in what is left of the file, found 3; the file is incomplete or damaged; download it again"
      )),
    file(
      15, "an array of arrays", File(pairs: 1).pair("k", type: 9, []).number(Int32(9)).number(UInt64(0)),
      .refused(
        3,
        "in/model.gguf at byte 37, 'k': element type: arrays of arrays are not allowed; flatten it and write the file again"
      )),
    file(
      16, "alignment 0", File(pairs: 1).pair("general.alignment", type: 4, UInt32(0)),
      .refused(
        3,
        "in/model.gguf at byte 53, 'general.alignment': expected a power of two from 1 to 1048576, found 0; write the file again, aligned to 32"
      )),
    file(
      16, "alignment 13", File(pairs: 1).pair("general.alignment", type: 4, UInt32(13)),
      .refused(
        3,
        "in/model.gguf at byte 53, 'general.alignment': expected a power of two from 1 to 1048576, found 13; write the file again, aligned to 32"
      )),
    file(
      16, "alignment as i32", File(pairs: 1).pair("general.alignment", type: 5, Int32(32)),
      .refused(
        3, "in/model.gguf at byte 49, 'general.alignment': value type: expected u32, found i32; write the file again")),
    file(
      16, "alignment 2^31", File(pairs: 1).pair("general.alignment", type: 4, UInt32(1) << 31),
      .refused(
        3,
        "in/model.gguf at byte 53, 'general.alignment': expected a power of two from 1 to 1048576, found 2147483648; write the file again, aligned to 32"
      )),
    file(
      17, "version 1", File(version: 1),
      .refused(
        4,
        "in/model.gguf at byte 4: version: expected 2 or 3, found 1, whose counts are 32 bits wide; convert the original model again; llama.cpp dropped this version, too"
      )),
    file(
      17, "big-endian", File(version: UInt32(3).byteSwapped),
      .refused(
        4,
        "in/model.gguf at byte 4: version: expected 2 or 3, found 3 in big-endian order: the file is for a big-endian host; convert it with gguf-py's gguf_convert_endian.py"
      )),
    file(
      18, "a gap", two(at: 64),
      .refused(
        3,
        "in/model.gguf at byte 82, 'y': offset: expected 32, after 'x', found 64, which leaves a gap; write the file again; its tensors must follow each other, aligned to 32 bytes"
      )),
    file(
      18, "an overlap", two(at: 0),
      .refused(
        3,
        "in/model.gguf at byte 82, 'y': offset: expected 32, after 'x', found 0, which overlaps an earlier tensor or is out of order; write the file again; its tensors must follow each other, aligned to 32 bytes"
      )),
    file(
      18, "out of order", File(tensors: 2).tensor("x", [8], offset: 32).tensor("y", [4], offset: 0).data(64),
      .refused(
        3,
        "in/model.gguf at byte 49, 'x': offset: expected 0, as the first tensor, found 32, which leaves a gap; write the file again; its tensors must follow each other, aligned to 32 bytes"
      )),
    file(
      19, "a name of 64 bytes", File(tensors: 1).tensor(String(repeating: "n", count: 64), [4]).data(32),
      .refused(
        3,
        "in/model.gguf at byte 24, 'nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn': the tensor's name has 64 bytes, expected at most 63; rename the tensor and write the file again"
      )),
    file(
      19, "a name with NUL", File(tensors: 1).tensor("a\0b", [4]).data(32),
      .refused(
        3,
        "in/model.gguf at byte 24, 'a\\u{0}b': the tensor's name holds a NUL, where other readers would end it; rename the tensor and write the file again"
      )),
    file(
      20, "a type that was removed", File(tensors: 1).tensor("x", [32], type: 31).data(32),
      .refused(
        4,
        "in/model.gguf at byte 45, 'x': type 31 was removed from ggml (Q4_0_4_4); quantise the original model again, to Q4_0 for example"
      )),
    file(
      20, "a type of the future", File(tensors: 1).tensor("x", [32], type: 77).data(32),
      .refused(
        4,
        "in/model.gguf at byte 45, 'x': type 77 is newer than this tool, which knows 0 to 42; quantise the original model to a type such as Q8_0, or convert it to F16"
      )),
    file(
      21, "another architecture", File(pairs: 1).pair("general.architecture", type: 8, GGUFBytes().text("mamba").bytes),
      .refused(
        4,
        "in/model.gguf, 'general.architecture': 'mamba' is not supported yet; supported are gpt2, llama, mistral, qwen2, qwen3, gemma, gemma2, phi3, olmo2, phi, gpt_neox, opt, torchscale, normformer, retnet, eye-tracking-roberta, bert, roberta, distilbert and vit"
      )),
  ]
}
