import Foundation
import Glibc
import NormFoldFormats
import TestSupport

extension MatrixRow {
  private typealias Pickle = PickleWriter

  private static func archive(
    _ number: Int, _ name: String, _ records: [ZipWriter.Record], _ answer: Answer
  ) -> MatrixRow {
    MatrixRow(number, name, files: ["pytorch_model.bin": ZipWriter(records: records).archive], answer)
  }

  private static func pickle(_ number: Int, _ name: String, _ pickle: [UInt8], _ answer: Answer) -> MatrixRow {
    archive(number, name, Pickle.records(pickle), answer)
  }

  private static func zstd(
    _ number: Int, _ name: String, _ answer: Answer, _ change: @escaping @Sendable ([UInt8]) -> [UInt8]
  ) -> MatrixRow {
    MatrixRow(number, name, answer) { place in
      let source = place / "in"
      try FileManager.default.createDirectory(atPath: source, withIntermediateDirectories: true)
      for file in ["config.json"] {
        try FileManager.default.copyItem(atPath: Fixtures.path("tiny-2x32/lnfree/" + file), toPath: source + "/" + file)
      }
      let packed = try Data(contentsOf: URL(filePath: Fixtures.path("pytorch/types.safetensors.zst")))
      try Data(change([UInt8](packed))).write(to: URL(filePath: source + "/model.safetensors.zst"))
      return Arrangement(place, source)
    }
  }

  /// A sound model as an archive of torch.save, perhaps changed.
  private static func model(
    _ number: Int, _ name: String, under key: String? = nil, _ answer: Answer,
    change: @escaping @Sendable (inout ZipWriter) -> Void = { _ in }
  ) -> MatrixRow {
    MatrixRow(number, name, answer) { place in
      let source = place / "in"
      try FileManager.default.createDirectory(atPath: source, withIntermediateDirectories: true)
      try FileManager.default.copyItem(
        atPath: Fixtures.path("tiny-2x32/lnfree/config.json"), toPath: source + "/config.json")
      let checkpoint = try Checkpoint(safetensors: Fixtures.path("tiny-2x32/lnfree/model.safetensors"))
      var writer = Pickle.archive(of: EditableTensors(of: checkpoint), under: key)
      change(&writer)
      try Data(writer.archive).write(to: URL(filePath: source + "/pytorch_model.bin"))
      return Arrangement(place, source)
    }
  }

  static let archives: [MatrixRow] = [
    pickle(
      26, "os.system", Pickle.call(Pickle.global("os", "system"), [Pickle.string("id")]),
      .refused(
        3,
        "in/pytorch_model.bin (a/data.pkl) at byte 2: the global 'os.system' is not allowed; nothing of the file was executed; if you trust it, save the model's state_dict() alone, with torch.save of PyTorch 1.6 or later"
      )),
    pickle(
      26, "builtins.eval", Pickle.call(Pickle.global("builtins", "eval"), [Pickle.string("1")]),
      .refused(
        3,
        "in/pytorch_model.bin (a/data.pkl) at byte 2: the global 'builtins.eval' is not allowed; nothing of the file was executed; if you trust it, save the model's state_dict() alone, with torch.save of PyTorch 1.6 or later"
      )),
    pickle(
      26, "STACK_GLOBAL", Pickle.string("os") + Pickle.string("system") + [0x93],
      .refused(
        3,
        "in/pytorch_model.bin (a/data.pkl) at byte 20: the global 'os.system' is not allowed (STACK_GLOBAL); nothing of the file was executed; if you trust it, save the model's state_dict() alone, with torch.save of PyTorch 1.6 or later"
      )),
    pickle(
      26, "INST", Array("(ios\nsystem\n".utf8),
      .refused(
        3,
        "in/pytorch_model.bin (a/data.pkl) at byte 3: the global 'os.system' is not allowed (INST); nothing of the file was executed; if you trust it, save the model's state_dict() alone, with torch.save of PyTorch 1.6 or later"
      )),
    archive(
      27, "a wrong CRC",
      Pickle.records(Pickle.dict(["w": Pickle.tensor([2, 3], strides: [3, 1])])).map { record in
        record.name == "a/data.pkl" ? record.with { $0.crc = 7 } : record
      },
      .refused(
        3,
        "in/pytorch_model.bin at byte 40, 'a/data.pkl': CRC-32: expected 00000007, found 73e2d73a; the bytes have changed since they were written; download the file again"
      )),
    MatrixRow(
      27, "a weight that changed since it was written", copyOf: "fakeln",
      .refused(
        3,
        "in/pytorch_model.bin at byte 98304, 'pytorch_model/data/15': CRC-32: expected 34711712, found d6cca48e; the bytes have changed since they were written; download the file again"
      ),
      change: { source in
        let url = URL(filePath: source + "/pytorch_model.bin")
        var bytes = try Data(contentsOf: url)
        bytes[bytes.count / 2] ^= 1
        try bytes.write(to: url)
      }),
    model(
      27, "no CRCs",
      .accepted([
        "in/pytorch_model.bin: 31 of its 31 records have no checksum (a CRC-32 of 0, as torch.save writes it when told to compute none), so damage to them is not noticed"
      ])
    ) { writer in
      for index in writer.records.indices { writer.records[index].crc = 0 }
    },
    pickle(
      28, "strides that overlap", Pickle.dict(["w": Pickle.tensor([2, 3], strides: [1, 1])]),
      .refused(
        3,
        "in/pytorch_model.bin (a/data.pkl) at byte 157, 'w': elements share bytes: axis 1 of shape [2, 3] with strides [1, 1] steps by 1, expected more than 1; call contiguous() on the tensor before saving"
      )),
    pickle(
      28, "strides of zero", Pickle.dict(["w": Pickle.tensor([2, 3], strides: [0, 0])]),
      .refused(
        3,
        "in/pytorch_model.bin (a/data.pkl) at byte 157, 'w': elements share bytes: axis 0 of shape [2, 3] with strides [0, 0] steps by 0, expected more than 0; call contiguous() on the tensor before saving"
      )),
    pickle(
      28, "an offset behind the storage", Pickle.dict(["w": Pickle.tensor([2, 3], strides: [3, 1], offset: 1)]),
      .refused(
        3,
        "in/pytorch_model.bin (a/data.pkl) at byte 157, 'w': storage '0' has 6 elements, but shape [2, 3] with strides [3, 1] from element 1 reaches beyond; the file is damaged; download it again"
      )),
    archive(
      29, "a record that is there twice",
      Pickle.records(Pickle.dict(["w": Pickle.tensor([6], strides: [1])])) + [.init("a/version", Array("4\n".utf8))],
      .refused(
        3,
        "in/pytorch_model.bin at byte 340, 'a/version': the record occurs twice; a name must mean one record; write the archive again"
      )),
    archive(
      29, "a name that leads out",
      Pickle.records(
        Pickle.dict(["w": Pickle.tensor([6], strides: [1], storage: Pickle.storage(key: "../../x", count: 6))])),
      .refused(
        3,
        "in/pytorch_model.bin (a/data.pkl) at byte 103: storage: expected a key of digits, found '../../x'; torch.save writes no such pickle; download the file again"
      )),
    archive(
      29, "a record that says it expands to 4 GB",
      Pickle.records(Pickle.dict(["w": Pickle.tensor([6], strides: [1])])).map { record in
        record.name == "a/data/0" ? record.deflated.with { $0.byteCount = 4_000_000_000 } : record
      },
      .refused(
        3,
        "in/pytorch_model.bin at byte 237, 'a/data/0': expected 24 bytes for 6 elements of F32, found 4000000000; the file is damaged; download it again"
      )),
    pickle(
      30, "two to the hundred lists by reference",
      Array("]q".utf8) + [0] + (0..<100).flatMap { [0x68, UInt8($0), 0x86, 0x71, UInt8($0 + 1)] },
      .refused(
        4,
        "in/pytorch_model.bin (a/data.pkl): expected a dict of tensors, found a tuple; save the model's state_dict() alone, with torch.save of PyTorch 1.6 or later"
      )),
    model(31, "a state dict alone", .accepted()),
    model(31, "a state dict as in PyTorch's tutorial", under: "model_state_dict", .accepted()),
    model(31, "a state dict of preference optimisation", under: "state", .accepted()),
    model(31, "a state dict of DeepSpeed", under: "module", .accepted()),
    model(
      31, "a state dict under another key", under: "net",
      .accepted(["in/pytorch_model.bin (a/data.pkl): reading the state dict under 'net'"])),
    MatrixRow(
      31, "the state of an optimizer",
      .refused(
        4,
        "in (optimizer/data.pkl), 'param_groups': this is the state of an optimizer, not of a model; give the file that holds the model's state dict"
      ),
      arrange: { place in
        try FileManager.default.copyItem(atPath: Fixtures.path("pytorch/optimizer.pt"), toPath: place / "optimizer.pt")
        return Arrangement(place, place / "optimizer.pt")
      }),
    MatrixRow(
      31, "the format before 1.6",
      .refused(
        4,
        "in at byte 0: this is the format that PyTorch wrote before 1.6; load it with torch.load(path, weights_only=True) and save the state dict with torch.save"
      ),
      arrange: { place in
        try FileManager.default.copyItem(atPath: Fixtures.path("pytorch/legacy.pt"), toPath: place / "legacy.pt")
        return Arrangement(place, place / "legacy.pt")
      }),
    MatrixRow(
      31, "TorchScript",
      .refused(
        4,
        "in at byte 649, 'torchscript/code/__torch__/torch/nn/modules/linear.py': this is a TorchScript program, not a checkpoint; load it with torch.jit.load and save its state_dict() with torch.save"
      ),
      arrange: { place in
        try FileManager.default.copyItem(atPath: Fixtures.path("pytorch/torchscript.pt"), toPath: place / "script.pt")
        return Arrangement(place, place / "script.pt")
      }),
    zstd(
      32, "zstd, cut",
      .refused(
        3,
        "in/model.safetensors.zst at byte 979: the file ends inside the frame that starts at byte 0; download the file again; it is incomplete"
      )
    ) { Array($0.dropLast(1)) },
    zstd(
      32, "zstd, and something behind it",
      .refused(
        3,
        "in/model.safetensors.zst at byte 980: 4 bytes follow the last frame; cut the file at byte 980 if you know where they come from"
      )
    ) { $0 + [1, 2, 3, 4] },
    zstd(
      32, "zstd with a window of 2 GiB",
      .refused(
        3,
        "in/model.safetensors.zst at byte 0: window: expected at most 134217728 bytes, found 2147483648; compress the file again with --long=27 or without --long"
      )
    ) { _ in [0x28, 0xB5, 0x2F, 0xFD, 0, 0xA8, 1, 0, 0] },
    zstd(
      32, "zstd that expands to 2 GiB",
      .refused(
        3,
        "in/model.safetensors.zst at byte 0: the file expands to more than 1073742112 bytes: a frame of 2147483648 after 0; that is the limit for 18 compressed bytes; if you trust the file, expand it with zstd -d"
      )
    ) { _ in
      [0x28, 0xB5, 0x2F, 0xFD, 0xC0, 0x38] + little(UInt64(2) << 30)
        + little(UInt32(1 | 1 << 1 | 131_072 << 3)).prefix(3) + [0]
    },
    zstd(
      32, "zstd of what is no checkpoint of this network",
      .refused(
        4,
        "in/model.safetensors.zst: no tensor is named like a block of Hugging Face GPT-2 (h.0.ln_1.weight); the names found are uint64, int64, float64 and 24 more; is this a GPT-2? --layout describes a network with names of its own"
      )
    ) { $0 },
  ]
}
