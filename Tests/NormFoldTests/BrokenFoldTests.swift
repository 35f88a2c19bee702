import NormFold
import NormFoldFolding
import NormFoldFormats
import NormFoldNetworks
import NormFoldVerify
import Testing
import TestSupport

/// A fold with a mistake that people make: done to the network first, so that the fold proper then does the wrong thing.
struct BrokenFold: CustomTestStringConvertible, Sendable {
  let testDescription: String
  var leavesOutMeans = false
  let alter: @Sendable (inout Network) -> Void

  static let all: [BrokenFold] = [
    BrokenFold(testDescription: "centred before scaling") { network in
      for (path, norm) in network.norms where path != "final.norm" {
        network[norm: path]?.kind = .rms
        for reader in network.users(of: path).map(\.path) {
          guard let map = network[linear: reader] else { continue }
          // The bias stays right, so that nothing but the order is wrong.
          let shift = norm.bias?.projected(through: map.weight)
          network[linear: reader] = LinearMap(
            weight: map.weight.centred(axis: 0),
            bias: map.bias.flatMap { own in shift.map { own.adding($0) } } ?? shift)
        }
        network[norm: path]?.bias = nil
      }
    },
    BrokenFold(testDescription: "β divided by σ") { network in
      network.changeNorms { _, norm in
        if case .fixed(let deviation) = norm.deviation { norm.bias = norm.bias?.divided(by: deviation) }
      }
    },
    BrokenFold(testDescription: "the vocabulary bias left out") { $0[norm: "final.norm"]?.bias = nil },
    BrokenFold(testDescription: "block 1 skipped: its norms are gone, its weights as they were") { network in
      for (path, _) in network.norms where path.block == 1 { network[norm: path] = nil }
    },
    BrokenFold(testDescription: "not centred at all", leavesOutMeans: true) { network in
      // The last one may be kept, and then no stock GPT-2 could hold it.
      network.changeNorms { path, norm in if path != "final.norm" { norm.kind = .rms } }
    },
    BrokenFold(testDescription: "the values of block 0 not folded") {
      $0[norm: $0.splitValueNorm(ofBlock: 0)] = nil
    },
    BrokenFold(testDescription: "one gain wrong by a thousandth") { network in
      network.changeNorms { path, norm in
        if path == "blocks.0.mlp.norm" { norm.gain = norm.gain.multiplied(by: 1.001) }
      }
    },
  ]
}

@Suite struct BrokenFoldTests {
  @Test("A broken fold is caught, and nothing is written", arguments: BrokenFold.all, ["transformers", "gpt2"])
  func caught(_ broken: BrokenFold, target: String) throws {
    let place = try Workplace()
    try place.directory.write([1, 2, 3], to: "bystander")
    let before = try place.content()
    let report = try place.convert(Fixtures.path("tiny-2x32/lnfree"), to: [target]) { conversion in
      conversion.fold = { (network, options) throws(Refusal) in
        var altered = network
        broken.alter(&altered)
        return try FoldingPlan(folding: altered, options: options)
      }
    }
    #expect(!report.holds)
    #expect(!report.published)
    // Each of these two claims finds it alone: the parts of the file, and the algebra before anything was rounded.
    let claims = try #require(report.verification).targets[0]
    // The norms of the stock class subtract the mean, so that its file is right where the fold alone left that out.
    #expect(claims.partsHold == (target == "gpt2" && broken.leavesOutMeans))
    #expect(!claims.algebraHolds)
    #expect(try place.content() == before)
  }

  @Test("With the right fold in the same place everything holds", arguments: ["transformers", "gpt2"])
  func control(target: String) throws {
    let place = try Workplace()
    let report = try place.convert(Fixtures.path("tiny-2x32/lnfree"), to: [target]) { conversion in
      conversion.fold = { (network, options) throws(Refusal) in try FoldingPlan(folding: network, options: options) }
    }
    #expect(report.holds)
    #expect(try !place.content().isEmpty)
  }

  @Test("One broken target of two keeps both from being published")
  func oneOfTwo() throws {
    let place = try Workplace()
    let report = try place.convert(Fixtures.path("tiny-2x32/lnfree"), to: ["transformers", "gpt2"]) { conversion in
      conversion.fold = { (network, options) throws(Refusal) in
        var altered = network
        if !options.keptNorms.isEmpty { BrokenFold.all[1].alter(&altered) }
        return try FoldingPlan(folding: altered, options: options)
      }
    }
    #expect((try #require(report.verification)).targets.map(\.algebraHolds) == [true, false])
    #expect(!report.published)
    #expect(try place.content().isEmpty)
  }

  @Test("With --force the old output stays whole when the verification fails, or the input is refused")
  func force() throws {
    let place = try Workplace()
    try place.convert(Fixtures.path("tiny-2x32/lnfree"))
    let before = try place.content()
    let report = try place.convert(Fixtures.path("tiny-2x32/lnfree-bf16")) { conversion in
      conversion.replacesDestination = true
      conversion.fold = { (network, options) throws(Refusal) in
        var altered = network
        altered[norm: "final.norm"]?.bias = nil
        return try FoldingPlan(folding: altered, options: options)
      }
    }
    #expect(!report.holds)
    #expect(try place.content() == before)
    let refusal = try place.refusal(Fixtures.path("tiny-2x32/vanilla")) { $0.replacesDestination = true }
    #expect(refusal?.category == .notFoldable)

    // And is replaced when everything holds.
    let good = try place.convert(Fixtures.path("tiny-2x32/lnfree-bf16"), to: ["gpt2"]) { $0.replacesDestination = true }
    #expect(good.published)
    let after = try place.content()
    #expect(after["out/config.json"] != before["out/config.json"])
    #expect(after["out/modeling_gpt2_lnfree.py"] == nil)
    #expect(after.keys.allSatisfy { !$0.hasPrefix(".") })
  }
}
