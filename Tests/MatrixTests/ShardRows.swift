import Foundation
import NormFoldFormats
import TestSupport

extension MatrixRow {
  private static let indexName = "model.safetensors.index.json"

  /// The sharded fixture, its index changed as text.
  private static func index(
    _ number: Int, _ name: String, _ answer: Answer,
    _ change: @escaping @Sendable (_ text: inout String, _ source: String) throws -> Void
  ) -> MatrixRow {
    MatrixRow(
      number, name, copyOf: "lnfree-sharded", answer,
      change: { source in
        let url = URL(filePath: source + "/" + indexName)
        var text = try String(contentsOf: url, encoding: .utf8)
        try change(&text, source)
        try text.write(to: url, atomically: false, encoding: .utf8)
      })
  }

  private static let first = "model-00001-of-00003.safetensors"
  private static let second = "model-00002-of-00003.safetensors"

  static let shards: [MatrixRow] = [
    index(
      22, "a shard above the directory",
      .refused(
        3,
        "in/model.safetensors.index.json, '../model-00001-of-00003.safetensors': a shard must be a plain file name that ends in '.safetensors'; an index may not lead out of its directory"
      )
    ) { text, source in
      try FileManager.default.copyItem(atPath: source + "/" + first, toPath: source + "/../" + first)
      text = text.replacing("\"" + first, with: "\"../" + first)
    },
    index(
      22, "an absolute path",
      .refused(
        3,
        "in/model.safetensors.index.json, '/tmp/model-00001-of-00003.safetensors': a shard must be a plain file name that ends in '.safetensors'; an index may not lead out of its directory"
      )
    ) { text, _ in text = text.replacing("\"" + first, with: "\"/tmp/" + first) },
    index(
      22, "a path with a drive",
      .refused(
        3,
        "in/model.safetensors.index.json, 'C:model-00001-of-00003.safetensors': a shard must be a plain file name that ends in '.safetensors'; an index may not lead out of its directory"
      )
    ) { text, _ in text = text.replacing("\"" + first, with: "\"C:" + first) },
    index(
      22, "a link out of the directory",
      .refused(
        3,
        "in/model.safetensors.index.json, 'model-00001-of-00003.safetensors': this shard is a link that leaves the directory; copy the file itself there"
      )
    ) { _, source in
      try FileManager.default.moveItem(atPath: source + "/" + first, toPath: source + "/../" + first)
      try FileManager.default.createSymbolicLink(atPath: source + "/" + first, withDestinationPath: "../" + first)
    },
    MatrixRow(
      22, "a tokenizer that is a link out of the directory", copyOf: "lnfree",
      .refused(
        3,
        "in/tokenizer.json: is a link that leaves the directory, and would be copied into the output; copy the file itself there, or remove the link"
      ),
      change: {
        try FileManager.default.createSymbolicLink(atPath: $0 + "/tokenizer.json", withDestinationPath: "/etc/hostname")
      }),
    index(
      23, "a shard is missing",
      .refused(
        3,
        "in/model.safetensors.index.json, 'model-00002-of-00003.safetensors': this shard is missing; download it into the directory of the index"
      )
    ) { _, source in try FileManager.default.removeItem(atPath: source + "/" + second) },
    index(
      23, "a tensor in another shard than the index says",
      .refused(
        3,
        "in/model.safetensors.index.json, 'transformer.h.0.attn.c_attn.bias': expected in model-00002-of-00003.safetensors, found in model-00001-of-00003.safetensors; the index and the shards are of different checkpoints; download them again"
      )
    ) { text, _ in
      text = text.replacing(first + "\",\n", with: second + "\",\n", maxReplacements: 1)
    },
    index(
      23, "a tensor in two shards",
      .refused(
        3,
        "in/model.safetensors.index.json, 'transformer.h.0.attn.c_attn.bias': expected in model-00001-of-00003.safetensors, found in model-00002-of-00003.safetensors; the index and the shards are of different checkpoints; download them again"
      )
    ) { _, source in
      try FileManager.default.removeItem(atPath: source + "/" + second)
      try FileManager.default.copyItem(atPath: source + "/" + first, toPath: source + "/" + second)
    },
    index(
      23, "a tensor that the index does not have",
      .refused(
        3,
        "in/model-00001-of-00003.safetensors, 'transformer.h.0.attn.c_attn.bias': this tensor is not in in/model.safetensors.index.json; the index and the shards are of different checkpoints; download them again"
      )
    ) { text, _ in
      text = text.replacing("transformer.h.0.attn.c_attn.bias", with: "transformer.h.0.attn.c_attn.other")
    },
    index(
      23, "a name twice",
      .refused(
        3,
        "in/model.safetensors.index.json at byte 2136: the key 'transformer.wte.weight' occurs twice; a name must mean one thing; write the file again"
      )
    ) { text, _ in
      text = text.replacing("\"weight_map\": {", with: "\"weight_map\": {\"transformer.wte.weight\": \"\(second)\",")
    },
    index(
      23, "a tied head that no shard has",
      .accepted(["in/model.safetensors.index.json: names 1 tensor that no shard holds: lm_head.weight"])
    ) { text, _ in
      text = text.replacing("\"weight_map\": {", with: "\"weight_map\": {\"lm_head.weight\": \"\(first)\",")
    },
    MatrixRow(
      24, "a shard whose index lies beside it",
      .accepted(["in: is one of the shards of model/model.safetensors.index.json; reading all of them"]),
      arrange: { place in
        try FileManager.default.copyItem(atPath: Fixtures.path("tiny-2x32/lnfree-sharded"), toPath: place / "model")
        return Arrangement(place, place / "model/" + second)
      }),
    MatrixRow(
      24, "the directory of a model in the Hub's cache",
      .accepted(["in: reading the snapshot 0123456789abcdef, which refs/main names"]),
      arrange: { place in
        let root = place / "models--org--name"
        for name in ["refs", "blobs", "snapshots/0123456789abcdef"] {
          try FileManager.default.createDirectory(atPath: root + "/" + name, withIntermediateDirectories: true)
        }
        for name in ["config.json", "model.safetensors"] {
          try FileManager.default.copyItem(
            atPath: Fixtures.path("tiny-2x32/lnfree/" + name), toPath: root + "/blobs/" + name)
          try FileManager.default.createSymbolicLink(
            atPath: root + "/snapshots/0123456789abcdef/" + name, withDestinationPath: "../../blobs/" + name)
        }
        try place.write(Array("0123456789abcdef".utf8), to: "models--org--name/refs/main")
        return Arrangement(place, root)
      }),
    MatrixRow(
      24, "the checkpoints of a run",
      .refused(
        4,
        "in: holds no checkpoint itself, but 2 directories of a training run by their names; give the one that is meant, such as the last: in/checkpoint-1000"
      ),
      arrange: { place in
        for name in ["checkpoint-500", "checkpoint-1000"] {
          try FileManager.default.createDirectory(
            atPath: place / "run/" + name, withIntermediateDirectories: true)
        }
        return Arrangement(place, place / "run")
      }),
    MatrixRow(
      24, "one file and an index beside it", copyOf: "lnfree",
      .refused(
        4,
        "in: holds model.safetensors and model.safetensors.index.json; name the file that counts: in/model.safetensors"),
      change: { source in
        for name in [indexName, first, second, "model-00003-of-00003.safetensors"] {
          try FileManager.default.copyItem(
            atPath: Fixtures.path("tiny-2x32/lnfree-sharded/" + name), toPath: source + "/" + name)
        }
      }),
    index(
      25, "a wrong total size",
      .accepted(["in/model.safetensors.index.json: total_size says 7 bytes, the shards hold 175616"])
    ) { text, _ in
      text = text.replacing(try Regex("\"total_size\": [0-9]+"), with: "\"total_size\": 7")
    },
    index(25, "no metadata", .accepted()) { text, _ in
      text = text.replacing("\"metadata\"", with: "\"metadata_of_another_kind\"")
    },
  ]
}
