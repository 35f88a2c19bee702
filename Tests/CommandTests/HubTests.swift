import Foundation
import Testing
import TestSupport

/// A cache as huggingface_hub lays it out, with one model.
private struct Cache {
  static let commit = "0123456789abcdef0123456789abcdef01234567"
  let directory: TemporaryDirectory
  var root: String { directory / "hub" }
  var model: String { root + "/models--maker--small" }

  init() throws {
    directory = try TemporaryDirectory()
    let snapshot = model + "/snapshots/" + Self.commit
    for folder in [snapshot, model + "/blobs", model + "/refs"] {
      try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    }
    for name in ["config.json", "model.safetensors"] {
      try FileManager.default.copyItem(
        atPath: Fixtures.path("tiny-2x32/lnfree/\(name)"), toPath: model + "/blobs/" + name)
      try FileManager.default.createSymbolicLink(
        atPath: snapshot + "/" + name, withDestinationPath: "../../blobs/" + name)
    }
    try Data(Self.commit.utf8).write(to: URL(filePath: model + "/refs/main"))
    try Data("fedcba9".utf8).write(to: URL(filePath: model + "/refs/lost"))
  }

  /// The variables of the user are not to be seen.
  func run(_ arguments: String..., variables: [String: String]? = nil) throws -> Command.Result {
    let none = [
      "HF_HUB_CACHE": "", "HUGGINGFACE_HUB_CACHE": "", "HF_HOME": "", "XDG_CACHE_HOME": "", "HOME": directory.path,
    ]
    return try Command.run(
      arguments, environment: none.merging(variables ?? ["HF_HUB_CACHE": root]) { $1 })
  }
}

@Suite("Models of the Hub")
struct HubTests {
  @Test("Are found in the cache by their ids, wherever the variables put it")
  func variables() throws {
    let cache = try Cache()
    #expect(try cache.run("inspect", "maker/small").status == 0)
    #expect(try cache.run("inspect", "maker/small", variables: ["HF_HOME": cache.directory.path]).status == 0)
    #expect(try cache.run("inspect", "maker/small", variables: ["XDG_CACHE_HOME": cache.directory.path]).status == 3)
    let usual = cache.directory / ".cache/huggingface"
    try FileManager.default.createDirectory(atPath: usual, withIntermediateDirectories: true)
    try FileManager.default.createSymbolicLink(atPath: usual + "/hub", withDestinationPath: cache.root)
    #expect(try cache.run("inspect", "maker/small", variables: [:]).status == 0)
  }

  @Test("Have revisions: names and commits, also short ones")
  func revisions() throws {
    let cache = try Cache()
    for revision in ["main", Cache.commit, "0123456"] {
      let result = try cache.run("inspect", "maker/small@\(revision)", "--json")
      #expect(result.status == 0)
      #expect(
        try result.json()["warnings"] as? [String] == [
          "maker/small: reading \(cache.model)/snapshots/\(Cache.commit) of the Hub's cache"
        ])
    }
    for revision in ["other", "012345", "lost", "../blobs"] {
      let result = try cache.run("inspect", "maker/small@\(revision)", "--json")
      #expect(result.status == 3)
      let error = try #require(try result.json()["error"] as? [String: Any])
      #expect(error["problem"] as? String == "holds no snapshot of '\(revision)'")
      #expect(
        (error["advice"] as? String)?.hasPrefix("run 'hf download maker/small' with the revision '\(revision)'") == true
      )
    }
  }

  @Test(
    "That are not in the cache are refused with what fetches them",
    arguments: [
      ("maker/large", "'hf download maker/large'"), ("gpt2", "'hf download gpt2'"),
      ("maker/large@v1", "'hf download maker/large' with the revision 'v1'"),
    ])
  func absence(id: String, command: String) throws {
    let result = try Cache().run("inspect", id)
    #expect(result.status == 3)
    #expect(
      result.error
        == "error: \(id): there is no such file or directory; check the path, or run \(command) if it is a model of "
        + "the Hub\n")
  }

  @Test(
    "What can only be a path is taken for one", arguments: ["a/b/c", "./gpt2", "model.safetensors", "/x", "a--b", "a@"])
  func paths(path: String) throws {
    #expect(
      try Cache().run("inspect", path).error == "error: \(path): there is no such file or directory; check the path\n")
  }

  @Test("Give their ids to what is written, and to the card beside it")
  func names() throws {
    let cache = try Cache()
    let out = cache.directory / "some/where/out"
    let result = try cache.run("convert", "maker/small", out, "--for", "llama.cpp", "gpt2", "--tokenizer", "none")
    #expect(result.status == 0)
    let file = try Data(contentsOf: URL(filePath: out + "/llama.cpp/model.gguf"))
    #expect(file.range(of: Data("maker/small".utf8)) != nil)
    #expect(file.range(of: Data(Cache.commit.utf8)) == nil)
    let card = try String(contentsOfFile: out + "/gpt2/README.md", encoding: .utf8)
    #expect(card.hasPrefix("---\nbase_model: maker/small\ntags:\n- normfold\n---\n\n# maker/small, written for gpt2\n"))
    #expect(card.contains("| folded weights compute the source's logits (float64) | "))
    #expect(card.contains(" | holds |\n"))
  }
}
