import Foundation
import NormFoldFormats
import Testing
import TestSupport

/// A path that a user gives, what lies there, and what is opened.
struct LocationCase: CustomTestStringConvertible {
  let testDescription: String
  /// In a directory that is made for it.
  let path: String
  let arrange: @Sendable (TemporaryDirectory) throws -> Void
  let verdict: Verdict

  /// - Parameter files: by their paths; directories are made as needed.
  init(
    _ name: String, open path: String = "in", files: [String: Content], links: [String: String] = [:],
    _ verdict: Verdict
  ) {
    testDescription = name
    self.path = path
    arrange = { directory in
      for (name, content) in files {
        let url = URL(filePath: directory / name)
        try FileManager.default.createDirectory(
          at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
        try content.write(to: url.path(percentEncoded: false))
      }
      for (name, target) in links {
        let path = directory / name
        try FileManager.default.createDirectory(
          at: URL(filePath: path).deletingLastPathComponent(), withIntermediateDirectories: true)
        try FileManager.default.createSymbolicLink(atPath: path, withDestinationPath: target)
      }
    }
    self.verdict = verdict
  }

  enum Content: Sendable {
    /// A safetensors file with these tensors, F32 [2].
    case tensors([String])
    /// An archive of torch.save with the tensor w.
    case archive
    case text(String)
    case bytes([UInt8])
    case directory

    func write(to path: String) throws {
      switch self {
      case .tensors(let names):
        let writer = try TensorWriter(
          safetensors: path, tensors: names.map { .init(name: $0, type: .f32, shape: [2]) })
        for _ in writer.order { try writer.append([0, 0, 0x80, 0x3F, 0, 0, 0, 0x40]) }
        try writer.finish()
      case .archive: try Data(ZipWriter(records: PickleWriter.sound).archive).write(to: URL(filePath: path))
      case .text(let text): try Data(text.utf8).write(to: URL(filePath: path))
      case .bytes(let bytes): try Data(bytes).write(to: URL(filePath: path))
      case .directory: try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
      }
    }
  }
}

extension LocationCase {
  private static let index =
    "{\"weight_map\":{\"a\":\"m-00001-of-00002.safetensors\",\"b\":\"m-00002-of-00002.safetensors\"}}"
  private static let commit = "0123456789abcdef0123456789abcdef01234567"
  private static let other = "89abcdef0123456789abcdef0123456789abcdef"

  /// These of the three parts of a split model.
  private static func gguf(_ names: [String]) -> [String: Content] {
    let parts = GGUFSplitTests.good()
    return Dictionary(uniqueKeysWithValues: names.map { ("in/" + $0, .bytes(parts[$0] ?? [])) })
  }

  static let shards: [LocationCase] = [
    .init(
      "a shard whose index lies beside it", open: "in/m-00002-of-00002.safetensors",
      files: [
        "in/m.safetensors.index.json": .text(index), "in/m-00001-of-00002.safetensors": .tensors(["a"]),
        "in/m-00002-of-00002.safetensors": .tensors(["b"]),
      ],
      .accepted(
        "in: a F32 [2], b F32 [2]",
        warnings: [
          "in/m-00002-of-00002.safetensors: is one of the shards of in/m.safetensors.index.json; reading all of them"
        ])),
    .init(
      "a shard of PyTorch whose index lies beside it", open: "in/m-00001-of-00001.bin",
      files: [
        "in/m.bin.index.json": .text("{\"weight_map\":{\"w\":\"m-00001-of-00001.bin\"}}"),
        "in/m-00001-of-00001.bin": .archive,
      ],
      .accepted(
        "in: w F32 [2, 3]",
        warnings: ["in/m-00001-of-00001.bin: is one of the shards of in/m.bin.index.json; reading all of them"])),
    .init(
      "a shard that the index beside it does not name", open: "in/m-00003-of-00003.safetensors",
      files: ["in/m.safetensors.index.json": .text(index), "in/m-00003-of-00003.safetensors": .tensors(["b"])],
      .accepted(
        "in: b F32 [2]",
        warnings: [
          "in/m-00003-of-00003.safetensors: is not named in in/m.safetensors.index.json; reading this file alone"
        ])),
    .init(
      "a shard without an index", open: "in/m-00002-of-00002.safetensors",
      files: ["in/m-00002-of-00002.safetensors": .tensors(["b"])], .accepted("in: b F32 [2]")),
    .init(
      "a shard whose index is damaged", open: "in/m-00002-of-00002.safetensors",
      files: ["in/m.safetensors.index.json": .text("{"), "in/m-00002-of-00002.safetensors": .tensors(["b"])],
      .refused("in/m.safetensors.index.json at byte 1: not valid JSON: expected a key, found the end of the text")),
    .init(
      "a later part of a split GGUF model", open: "in/m-00003-of-00003.gguf",
      files: gguf(GGUFSplitTests.names),
      .accepted(
        "in: a F32 [4], b F32 [4], c F32 [4]",
        warnings: [
          "in/m-00003-of-00003.gguf: is shard 3 of 3; reading the model from the first, in/m-00001-of-00003.gguf"
        ])),
    .init(
      "a later part of a split GGUF model without the first", open: "in/m-00003-of-00003.gguf",
      files: gguf([GGUFSplitTests.names[2]]),
      .refused("in/m-00003-of-00003.gguf: is shard 3 of 3; open the first one, 'in/m-00001-of-00003.gguf'")),
    .init(
      "a whole GGUF model that is named like a later part", open: "in/m-00002-of-00003.gguf",
      files: gguf([GGUFSplitTests.names[0]]).merging(
        ["in/m-00002-of-00003.gguf": .bytes(GGUFSplitTests.shard(nil, of: nil, tensors: nil, name: "x"))]) { $1 },
      .accepted("in: x F32 [4]")),
    .init(
      "a directory with the only shard of a model", files: ["in/m-00001-of-00001.safetensors": .tensors(["a"])],
      .refused(
        "in: holds no checkpoint under a name that is known; if m-00001-of-00001.safetensors is the one, give that file: in/m-00001-of-00001.safetensors"
      )),
    .init(
      "a directory with later parts only", files: gguf([GGUFSplitTests.names[1], GGUFSplitTests.names[2]]),
      .refused(
        "in: holds m-00002-of-00003.gguf, by its name a later part of a split model, but not the first; download m-00001-of-00003.gguf into it"
      )),
    .init(
      "an index of another name",
      files: [
        "in/m.safetensors.index.fp16.json": .text(index.replacing("m-", with: "m.fp16-")),
        "in/m.fp16-00001-of-00002.safetensors": .tensors(["a"]),
        "in/m.fp16-00002-of-00002.safetensors": .tensors(["b"]),
      ],
      .refused(
        "in: holds no checkpoint under a name that is known; if m.safetensors.index.fp16.json is the one, give that file: in/m.safetensors.index.fp16.json"
      )),
    .init(
      "an index of another name, given", open: "in/m.safetensors.index.fp16.json",
      files: [
        "in/m.safetensors.index.fp16.json": .text(index.replacing("m-", with: "m.fp16-")),
        "in/m.fp16-00001-of-00002.safetensors": .tensors(["a"]),
        "in/m.fp16-00002-of-00002.safetensors": .tensors(["b"]),
      ], .accepted("in: a F32 [2], b F32 [2]")),
    .init(
      "a directory of shards without an index",
      files: ["in/m-00001-of-00002.safetensors": .tensors(["a"]), "in/m-00002-of-00002.safetensors": .tensors(["b"])],
      .refused(
        "in: holds shards, m-00001-of-00002.safetensors and 1 more, but not their index; download m.safetensors.index.json into it"
      )),
  ]

  static let hub: [LocationCase] = [
    .init(
      "the cache of a model", open: "in/models--org--name",
      files: [
        "in/models--org--name/refs/main": .text(commit), "in/models--org--name/blobs/1": .tensors(["a"]),
        "in/models--org--name/snapshots/\(other)/model.safetensors": .tensors(["b"]),
      ],
      links: ["in/models--org--name/snapshots/\(commit)/model.safetensors": "../../blobs/1"],
      .accepted(
        "in/models--org--name/snapshots/\(commit): a F32 [2]",
        warnings: ["in/models--org--name: reading the snapshot \(commit), which refs/main names"])),
    .init(
      "the cache with a slash at its end and a line feed in its reference", open: "in/models--org--name/",
      files: [
        "in/models--org--name/refs/main": .text(commit + "\n"),
        "in/models--org--name/snapshots/\(commit)/model.safetensors": .tensors(["a"]),
      ],
      .accepted(
        "in/models--org--name/snapshots/\(commit): a F32 [2]",
        warnings: ["in/models--org--name: reading the snapshot \(commit), which refs/main names"])),
    .init(
      "no reference, one snapshot",
      files: ["in/snapshots/\(other)/model.safetensors": .tensors(["a"]), "in/refs/v1": .text(other)],
      .accepted(
        "in/snapshots/\(other): a F32 [2]", warnings: ["in: reading the snapshot \(other), the only one"])),
    .init(
      "no reference, two snapshots",
      files: [
        "in/snapshots/\(other)/model.safetensors": .tensors(["a"]),
        "in/snapshots/\(commit)/model.safetensors": .tensors(["a"]),
      ],
      .refused(
        "in: holds 2 snapshots and no refs/main that names one; give the one that is meant: in/snapshots/\(commit) or in/snapshots/\(other)"
      )),
    .init(
      "no snapshot", files: ["in/refs/main": .text(commit), "in/snapshots/x": .text("")],
      .refused("in/refs/main: names the snapshot \(commit), which is not there; download the model again")),
    .init(
      "another snapshot than the reference names",
      files: ["in/refs/main": .text(commit), "in/snapshots/\(other)/model.safetensors": .tensors(["a"])],
      .refused(
        "in/refs/main: names the snapshot \(commit), which is not there; download the model again, or give in/snapshots/\(other)"
      )),
    .init(
      "a reference that leads out",
      files: [
        "in/refs/main": .text("../../elsewhere"), "in/snapshots/x/y": .text(""),
        "elsewhere/model.safetensors": .tensors(["a"]),
      ],
      .refused(
        "in/refs/main: expected a commit in hexadecimal digits, found '../../elsewhere'; download the model again")),
    .init(
      "an empty reference", files: ["in/refs/main": .text(""), "in/snapshots/x/y": .text("")],
      .refused("in/refs/main: expected a commit in hexadecimal digits, found ''; download the model again")),
    .init(
      "a long reference",
      files: ["in/refs/main": .text(String(repeating: "a", count: 5_000)), "in/snapshots/x/y": .text("")],
      .refused("in/refs/main: expected a commit in hexadecimal digits, found 5000 bytes; download the model again")),
    .init(
      "a snapshot that is a link",
      files: [
        "in/refs/main": .text(commit), "in/snapshots/x/y": .text(""), "elsewhere/model.safetensors": .tensors(["a"]),
      ],
      links: ["in/snapshots/\(commit)": "../../elsewhere"],
      .refused(
        "in/refs/main: names the snapshot \(commit), which is not there; download the model again, or give in/snapshots/x"
      )),
    .init(
      "a snapshot without weights",
      files: ["in/refs/main": .text(commit), "in/snapshots/\(commit)/config.json": .text("{}")],
      .refused(
        "in/snapshots/\(commit): holds no checkpoint; expected model.safetensors, model.safetensors.index.json, pytorch_model.bin, pytorch_model.bin.index.json, ckpt.pt, model.pt, model.gguf, or one .gguf file"
      )),
    .init(
      "a checkpoint beside snapshots", files: ["in/snapshots/x/y": .text(""), "in/model.safetensors": .tensors(["a"])],
      .accepted("in: a F32 [2]")),
    .init(
      "a GGUF model beside snapshots",
      files: [
        "in/snapshots/x/model.safetensors": .tensors(["a"]),
        "in/x.gguf": .bytes(GGUFSplitTests.shard(nil, of: nil, tensors: nil, name: "x")),
      ], .accepted("in: x F32 [4]")),
    .init(
      "the whole cache",
      files: [
        "in/models--gpt2/refs/main": .text(commit), "in/models--org--name/x": .text(""), "in/datasets--x/y": .text(""),
      ],
      .refused(
        "in: holds no checkpoint itself, but the Hub's cache of 2 models; give the one that is meant: in/models--gpt2 or in/models--org--name"
      )),
    .init(
      "the snapshots of a model",
      files: ["in/\(commit)/model.safetensors": .tensors(["a"]), "in/\(other)/config.json": .text("{}")],
      .refused("in: holds no checkpoint itself, but its directory \(commit) does; give in/\(commit)")),
  ]

  static let directories: [LocationCase] = [
    .init(
      "checkpoints of a run",
      files: [
        "in/checkpoint-500/x": .text(""), "in/checkpoint-1500/x": .text(""), "in/checkpoint-1000/x": .text(""),
        "in/runs/x": .text(""), "in/trainer_state.json": .text("{}"),
      ],
      .refused(
        "in: holds no checkpoint itself, but 3 directories of a training run by their names; give the one that is meant, such as the last: in/checkpoint-1500"
      )),
    .init(
      "one checkpoint of a run", files: ["in/checkpoint-500/model.safetensors": .tensors(["a"])],
      .refused(
        "in: holds no checkpoint itself, but one directory of a training run by its name; give that: in/checkpoint-500")
    ),
    .init(
      "steps of DeepSpeed",
      files: ["in/latest": .text("global_step20"), "in/global_step9/x": .text(""), "in/global_step20/x": .text("")],
      .refused(
        "in: holds no checkpoint itself, but 2 directories of a training run by their names; give the one that is meant, such as the last: in/global_step20"
      )),
    .init(
      "a number beyond all numbers", files: ["in/checkpoint-99999999999999999999/x": .text("")],
      .refused(
        "in: holds no checkpoint; expected model.safetensors, model.safetensors.index.json, pytorch_model.bin, pytorch_model.bin.index.json, ckpt.pt, model.pt, model.gguf, or one .gguf file"
      )),
    .init(
      "directories with checkpoints",
      files: [
        "in/final/model.safetensors": .tensors(["a"]), "in/best/pytorch_model.bin": .archive, "in/logs/x": .text(""),
      ],
      .refused(
        "in: holds no checkpoint itself, but its directories best and final do; give the one that is meant: in/best or in/final"
      )),
    .init(
      "one file of another name", files: ["in/epoch=3-step=100.ckpt": .archive, "in/hparams.yaml": .text("")],
      .refused(
        "in: holds no checkpoint under a name that is known; if epoch=3-step=100.ckpt is the one, give that file: in/epoch=3-step=100.ckpt"
      )),
    .init(
      "one safetensors file of another name", files: ["in/weights.safetensors": .tensors(["a"])],
      .refused(
        "in: holds no checkpoint under a name that is known; if weights.safetensors is the one, give that file: in/weights.safetensors"
      )),
    .init(
      "one compressed file of another name", files: ["in/weights.pt.zst": .bytes([0x28, 0xB5, 0x2F, 0xFD])],
      .refused(
        "in: holds no checkpoint under a name that is known; if weights.pt.zst is the one, give that file: in/weights.pt.zst"
      )),
    .init(
      "one file beside those of the optimizer",
      files: [
        "in/policy.pt": .archive, "in/optimizer.pt": .archive, "in/scheduler.pt": .archive,
        "in/rng_state.pth": .archive,
        "in/training_args.bin": .archive, "in/rng_state_0.pth": .archive,
      ],
      .refused(
        "in: holds no checkpoint under a name that is known; if policy.pt is the one, give that file: in/policy.pt")),
    .init(
      "files of DeepSpeed",
      files: [
        "in/mp_rank_00_model_states.pt": .archive, "in/zero_pp_rank_0_mp_rank_00_optim_states.pt": .archive,
        "in/bf16_zero_pp_rank_1_mp_rank_00_optim_states.pt": .archive,
      ],
      .refused(
        "in: holds no checkpoint under a name that is known; if mp_rank_00_model_states.pt is the one, give that file: in/mp_rank_00_model_states.pt"
      )),
    .init(
      "several files of other names",
      files: [
        "in/a.pt": .archive, "in/b.pth": .archive, "in/c.ckpt": .archive, "in/d.pt": .archive, "in/e.pt": .archive,
      ],
      .refused(
        "in: holds no checkpoint under a name that is known; give the file that is meant: in/a.pt, in/b.pth, in/c.ckpt or 2 more"
      )),
    .init(
      "files of tokens, which are no checkpoints",
      files: ["in/train.bin": .bytes([1, 2, 3, 4]), "in/val.bin": .bytes([])],
      .refused(
        "in: holds no checkpoint; expected model.safetensors, model.safetensors.index.json, pytorch_model.bin, pytorch_model.bin.index.json, ckpt.pt, model.pt, model.gguf, or one .gguf file"
      )),
    .init(
      "Meta's own form",
      files: ["in/consolidated.00.pth": .archive, "in/consolidated.01.pth": .archive, "in/params.json": .text("{}")],
      .refused(
        "in: holds consolidated.00.pth, by its name a part of a model in Meta's own form, which is not read; give the model in the form of transformers, which its convert_llama_weights_to_hf.py writes"
      )),
    .init(
      "a file of Meta's own form", open: "in/consolidated.00.pth", files: ["in/consolidated.00.pth": .archive],
      .refused(
        "in/consolidated.00.pth: is by its name a part of a model in Meta's own form, which is not read, and has no config.json beside it; give the model in the form of transformers, which its convert_llama_weights_to_hf.py writes"
      )),
    .init(
      "a file that is only named like Meta's", open: "in/consolidated.00.pth",
      files: ["in/consolidated.00.pth": .archive, "in/config.json": .text("{}")], .accepted("in: w F32 [2, 3]")),
    .init(
      "Mistral's own form", files: ["in/consolidated.safetensors": .tensors(["a"]), "in/params.json": .text("{}")],
      .refused(
        "in: holds consolidated.safetensors, by its name a model in Mistral's own form, which is not read; give the model in the form of transformers, with its config.json"
      )),
    .init(
      "an adapter", files: ["in/adapter_model.safetensors": .tensors(["a"]), "in/adapter_config.json": .text("{}")],
      .refused(
        "in: holds adapter_model.safetensors, by its name an adapter of peft, which is no whole model; give its base model, and this directory with adapters"
      )),
    .init(
      "weights of TensorFlow", files: ["in/tf_model.h5": .bytes([0x89]), "in/config.json": .text("{}")],
      .refused(
        "in: holds tf_model.h5, by its name the weights of a TensorFlow model, which are not read; load them in transformers 4 with from_tf=True and save the model again"
      )),
    .init(
      "weights of JAX", files: ["in/flax_model.msgpack": .bytes([0x89]), "in/config.json": .text("{}")],
      .refused(
        "in: holds flax_model.msgpack, by its name the weights of a JAX model, which are not read; load them in transformers 4 with from_flax=True and save the model again"
      )),
    .init(
      "an empty directory", files: ["in": .directory],
      .refused(
        "in: holds no checkpoint; expected model.safetensors, model.safetensors.index.json, pytorch_model.bin, pytorch_model.bin.index.json, ckpt.pt, model.pt, model.gguf, or one .gguf file"
      )),
    .init(
      "a directory under a known name", files: ["in/model.safetensors/x": .text("")],
      .refused("in/model.safetensors: expected a file, found a directory")),
    .init("nothing", open: "in", files: [:], .refused("in: there is no such file or directory; check the path")),
  ]
}

@Suite struct CheckpointLocationTests {
  @Test("opens or refuses", arguments: LocationCase.shards + LocationCase.hub + LocationCase.directories)
  func rows(_ row: LocationCase) throws {
    let directory = try TemporaryDirectory()
    try row.arrange(directory)
    let verdict = Verdict(in: directory.path) {
      let location = try CheckpointLocation(path: directory / row.path)
      let checkpoint = try location.open()
      let place = location.directory.replacing(directory.path + "/", with: "")
      #expect(location.configurationPath == location.directory + "/config.json")
      return ("\(place): \(checkpoint.summary)", location.warnings + checkpoint.warnings)
    }
    #expect(verdict == row.verdict, "ROW|\(row.testDescription)|\(verdict)|END")
  }

  /// A reference is a few bytes of a stranger: whatever they are, they lead to a snapshot or to nothing.
  @Test("a damaged reference leads to a snapshot or to a refusal", arguments: 0..<4)
  func references(seed: Int) throws {
    var random = SeededGenerator(seed: UInt64(seed))
    let directory = try TemporaryDirectory()
    let commit = "0123456789abcdef0123456789abcdef01234567"
    try FileManager.default.createDirectory(atPath: directory / "in/refs", withIntermediateDirectories: true)
    try FileManager.default.createDirectory(
      atPath: directory / "in/snapshots/\(commit)", withIntermediateDirectories: true)
    try LocationCase.Content.tensors(["a"]).write(to: directory / "in/snapshots/\(commit)/model.safetensors")
    var outcomes = (opened: 0, refused: 0)
    for _ in 0..<200 {
      var bytes = Array(commit.utf8)
      for _ in 0..<Int.random(in: 0...2, using: &random) where !bytes.isEmpty {
        let place = Int.random(in: bytes.indices, using: &random)
        switch Int.random(in: 0..<4, using: &random) {
        case 0: bytes[place] = UInt8.random(in: 0...255, using: &random)
        case 1: bytes[place] = Array("../\n\0 ".utf8).randomElement(using: &random) ?? 0
        case 2: bytes.insert(contentsOf: Array("../".utf8), at: place)
        default: bytes.removeLast(Int.random(in: 1...bytes.count, using: &random))
        }
      }
      try directory.write(bytes, to: "in/refs/main")
      do throws(Refusal) {
        let location = try CheckpointLocation(path: directory / "in")
        #expect(location.directory == directory / "in/snapshots/\(commit)")
        outcomes.opened += 1
      } catch {
        #expect(error.category == .malformed)
        outcomes.refused += 1
      }
    }
    #expect(outcomes.opened > 0 && outcomes.refused > 50, "\(outcomes)")
  }
}
