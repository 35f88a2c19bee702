import Foundation
import NormFold
import NormFoldFormats
import TestSupport

/// Home-made networks with their layout files: what is read, and what is refused of either.
extension UserRow {
  /// A network of `fixtures/layouts` with its layout beside it, which `edit` changes.
  private static func layout(
    _ kind: String, _ reason: String, of name: String = "flat", _ answer: MatrixRow.Answer,
    edit: @escaping @Sendable (String) -> String = { $0 }
  ) -> UserRow {
    let conversion: @Sendable (inout Conversion) -> Void = {
      $0.readingOptions.layout = $0.source + "/layout.json"
      $0.normForm = .unit
    }
    return UserRow(
      "layout: " + kind, reason,
      MatrixRow(0, kind, answer, conversion: conversion) { place in
        let source = place / "in"
        let isArchive = !["fused", "parallel"].contains(name)
        try FileManager.default.createDirectory(atPath: source, withIntermediateDirectories: true)
        try FileManager.default.copyItem(
          atPath: Fixtures.path("layouts/\(name).\(isArchive ? "pt" : "safetensors")"),
          toPath: source + "/" + (isArchive ? "pytorch_model.bin" : "model.safetensors"))
        let text = edit(String(decoding: try Fixtures.bytes("layouts/\(name).json"), as: UTF8.self))
        try Data(text.utf8).write(to: URL(filePath: source + "/layout.json"))
        return MatrixRow.Arrangement(place, source)
      })
  }

  /// The same, with one part of the layout replaced.
  private static func layout(
    _ kind: String, _ reason: String, of name: String = "flat", replacing old: String, by new: String,
    _ answer: MatrixRow.Answer
  ) -> UserRow {
    layout(kind, reason, of: name, answer) { text in
      precondition(text.contains(old), "\(old) is not in the layout of \(name)")
      return text.replacing(old, with: new)
    }
  }

  static let layouts: [UserRow] = read + keys + tensors + checkpoints

  private static let read: [UserRow] = [
    layout("per head", "a Linear for each head", of: "per-head", .accepted()),
    layout("fused", "one matrix, head by head, [in, out]", of: "fused", .accepted()),
    layout("flat", "short names under model_state_dict", .accepted()),
    layout("rotary", "rotary positions, a gate, a dict inside two others", of: "rotary", .accepted()),
    layout("parallel", "both branches behind one norm", of: "parallel", .accepted()),
    layout(
      "norms behind the sums", "which no class of transformers has", of: "post-norm",
      .refused(
        4,
        "'blocks.0.attention.query': no class that the target transformers writes computes this, nor does GPT-2's; use --for onnxruntime"
      )),
  ]

  private static let keys: [UserRow] = [
    layout(
      "an unknown key", "a slip of the pen", replacing: "\"heads\"", by: "\"headz\"",
      .refused(3, "in/layout.json at byte 222, 'headz': there is no such key; did you mean heads?")),
    layout(
      "no heads", "the tensors do not say them", replacing: "\"heads\": 4,", by: "",
      .refused(3, "in/layout.json, 'heads': is missing; say how many heads the queries have")),
    layout(
      "heads that do not divide", "a wrong number", replacing: "\"heads\": 4", by: "\"heads\": 5",
      .refused(3, "in/layout.json, 'heads': 5 heads do not divide the width 32")),
    layout(
      "another activation", "no program's word", replacing: "\"gelu\"", by: "\"mish\"",
      .refused(
        4,
        "in/layout.json, 'activation': the activation 'mish' is unknown; known are gelu_new gelu_pytorch_tanh gelu_fast gelu gelu_python relu leaky_relu silu swish tanh"
      )),
    layout(
      "another norm", "none of the two", replacing: "\"layer\"", by: "\"batch\"",
      .refused(4, "in/layout.json, 'norm': expected layer or rms, found \"batch\"")),
    layout(
      "another block", "a word of a paper", of: "parallel", replacing: "\"parallel\"", by: "\"sandwich\"",
      .refused(4, "in/layout.json, 'block': expected pre-norm or post-norm or parallel, found \"sandwich\"")),
    layout(
      "no epsilon", "it is not known", replacing: "\"epsilon\": 1e-3", by: "\"epsilon\": 0",
      .refused(3, "in/layout.json, 'epsilon': expected a positive, finite number, found 0")),
    layout(
      "another size", "the layout of another network", replacing: "\"heads\": 4,", by: "\"heads\": 4, \"hidden\": 57,",
      .refused(
        3,
        "in/layout.json, 'hidden': says 57, but the tensors have 56; the config belongs to another checkpoint, or tensors are missing"
      )),
    layout(
      "positions that are said not to be learned", "two words for one thing", replacing: "\"learned\"", by: "\"none\"",
      .refused(3, "in/layout.json, 'positions': says that they are not learned, but 'wpe' holds them")),
    layout(
      "no context", "no table says it", of: "rotary", replacing: "\"context\": 24,", by: "",
      .refused(3, "in/layout.json, 'context': is missing; no table of positions says how long a text may be")),
    layout(
      "a value that is to be filled in", "the draft as it is", replacing: "1e-3", by: "\"? under the root\"",
      .refused(
        3,
        "in/layout.json: 1 value is to be filled in: epsilon (under the root); what no tensor tells stands in the code that trained the network"
      )),
    layout(
      "no JSON", "YAML, say", .refused(3, "in/layout.json at byte 0: not valid JSON: expected a value, found 'h'")
    ) { _ in "heads: 4\n" },
    layout(
      "no tensors", "half of a file", .refused(3, "in/layout.json, 'tensors': expected an object, found nothing")
    ) { _ in "{\"heads\": 4}" },
  ]

  private static let tensors: [UserRow] = [
    layout(
      "an unknown parameter", "a slip of the pen", replacing: "attention.query.weight", by: "attention.qurey.weight",
      .refused(
        3,
        "in/layout.json at byte 500, 'h#_wq': holds 'blocks.#.attention.qurey.weight', which is no parameter; did you mean blocks.#.attention.query.weight?"
      )),
    layout(
      "an unknown key of a tensor", "a slip of the pen", replacing: "\"axes\"", by: "\"axis\"",
      .refused(3, "in/layout.json at byte 500, 'h#_wq': there is no key 'axis'; did you mean axes?")),
    layout(
      "no axes", "nothing says how a square matrix lies",
      replacing: "\"h#_wq\": {\"holds\": \"blocks.#.attention.query.weight\", \"axes\": [\"output\", \"input\"]}",
      by: "\"h#_wq\": {\"holds\": \"blocks.#.attention.query.weight\"}",
      .refused(
        4,
        "in/layout.json at byte 500, 'h#_wq': says no axes; a Linear of torch stores [\"output\", \"input\"], a product x W [\"input\", \"output\"]"
      )),
    layout(
      "axes that no matrix has", "three factors for two axes", of: "fused",
      replacing: "[\"input\", [\"head\", \"part\", \"headFeature\"]]", by: "[\"head\", \"part\"]",
      .refused(
        4,
        "in/layout.json at byte 609, 'layer.#.attn.w_qkv': no matrix here has these axes; an axis of outputs is output, part and output, or of queries, keys and values also head, headFeature and part in any order, where they have as many heads"
      )),
    layout(
      "axes the other way", "x W, not a Linear",
      replacing: "\"blocks.#.mlp.input.weight\", \"axes\": [\"output\", \"input\"]",
      by: "\"blocks.#.mlp.input.weight\", \"axes\": [\"input\", \"output\"]",
      .refused(
        3,
        "in/pytorch_model.bin, 'h0_w1': expected shape [32, 56], found [56, 32]; this is the transpose: home-made GPT stores [in, out]"
      )),
    layout(
      "one parameter twice", "copied and not changed", replacing: "attention.key.bias", by: "attention.query.bias",
      .refused(3, "in/layout.json, 'blocks.#.attention.query.bias': is held by 'h#_bq' and by 'h#_bk'")),
    layout(
      "one tensor under two names", "a name with a number in it", replacing: "\"lnf_g\"", by: "\"h0_ln1_g\"",
      .refused(
        3,
        "in/layout.json, 'h0_ln1_g': two names of the file mean this tensor; a tensor is named once, with all that it holds"
      )),
    layout(
      "a bias without its weight", "a line that was lost",
      replacing:
        "    \"h#_wo\": {\"holds\": \"blocks.#.attention.output.weight\", \"axes\": [\"output\", \"input\"]},\n",
      by: "",
      .refused(3, "in/layout.json, 'blocks.#.attention.output.bias': no tensor holds the weight that belongs to it")),
    layout(
      "no mark for the block", "the name of one block", replacing: "\"h#_wv\"", by: "\"h0_wv\"",
      .refused(3, "in/layout.json at byte 786, 'h0_wv': expected one mark # for the number of the block, found 0")),
    layout(
      "a mark for heads where there are none", "an output map has none of its own", replacing: "\"h#_wo\"",
      by: "\"h#_wo@\"",
      .refused(
        3,
        "in/layout.json at byte 931, 'h#_wo@': @ stands for the number of a head once, and for queries, keys and values only"
      )),
    layout(
      "neighbours in a fused matrix", "its rows would be those of values, too", of: "fused",
      .refused(
        4,
        "in/layout.json at byte 606, 'layer.#.attn.w_qkv': neighbours are rotated together only where queries and keys have tensors of their own, with an axis of output"
      )
    ) {
      $0.replacing("    \"emb.pos\": {\"holds\": \"embedding.positions.weight\"},\n", with: "").replacing(
        "\"learned\"", with: "{\"rotary\": {\"base\": 10, \"pairs\": \"neighbours\"}}, \"context\": 24")
    },
  ]

  private static let checkpoints: [UserRow] = [
    layout(
      "a tensor without a place", "the head was forgotten",
      replacing: ",\n    \"head_w\": {\"holds\": \"unembedding.weight\", \"axes\": [\"output\", \"input\"]}", by: "",
      .refused(3, "in/layout.json, 'tensors': nothing holds unembedding.weight")),
    layout(
      "a tensor without a place, tied", "the head was forgotten, and the network said to be tied",
      .refused(
        4,
        "in/pytorch_model.bin: in/layout.json has no place for 1 tensor: head_w; say in it what is held, or list under ignore what takes no part in the network"
      )
    ) {
      $0.replacing(
        ",\n    \"head_w\": {\"holds\": \"unembedding.weight\", \"axes\": [\"output\", \"input\"]}", with: ""
      ).replacing("\"tied\": false", with: "\"tied\": true")
    },
    layout(
      "a name that no tensor has", "the layout of another version", replacing: "\"h#_b1\"", by: "\"h#_c1\"",
      .refused(
        3,
        "in/pytorch_model.bin: 2 tensors that in/layout.json names are missing: h0_c1, h1_c1; name in it what the checkpoint has, and nothing else"
      )),
    layout(
      "more tensors than there are", "a pattern for each of many heads", of: "per-head", replacing: "\"heads\": 4",
      by: "\"heads\": 1024",
      .refused(
        3,
        "in/pytorch_model.bin: in/layout.json names 3082 tensors of each of 2 blocks, but there are 50 tensors; name in it what the checkpoint has, and nothing else"
      )),
    layout(
      "keys of a dict that is not there", "the run's own name for it", of: "rotary", replacing: "\"weights\"",
      by: "\"model\"",
      .refused(
        3, "in/pytorch_model.bin (rotary/data.pkl), 'run.model': there is no such key; dicts lie under 'weights'")),
    layout(
      "keys that lead to no dict", "a number beside it", of: "rotary", replacing: "\"weights\"", by: "\"seed\"",
      .refused(3, "in/pytorch_model.bin (rotary/data.pkl), 'run.seed': expected a dict, found 1")),
    layout(
      "keys for a safetensors file", "which has no dicts", of: "fused", replacing: "\"tied\": true",
      by: "\"stateDict\": \"model\", \"tied\": true",
      .refused(
        2,
        "in/model.safetensors, 'model': only PyTorch archives have dicts inside each other; leave the keys of the state dict out"
      )),
  ]
}
