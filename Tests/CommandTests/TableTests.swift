import Testing

@testable import NormFoldCommand

@Suite struct TableTests {
  /// The norms of a LLaMA, as `inspect` shows them.
  private static func norms(blocks: Int) -> Table {
    var table = Table([
      "norm": .left, "kind": .left, "deviation": .left, "γ/σ, or γ": .right, "|β| ≤": .right, "foldable": .left,
    ])
    for block in 0..<blocks {
      for name in ["input_layernorm", "post_attention_layernorm"] {
        table.add("model.layers.\(block).\(name)", "RMSNorm", "computed (epsilon 1e-05)", "0.586 … 1.44", "0", "no")
      }
    }
    table.add("model.norm", "RMSNorm", "computed (epsilon 1e-05)", "0.369 … 1.33", "0", "no")
    table.footnote = "γ gain, β bias, σ deviation: what a norm multiplies by, adds, and divides by"
    return table
  }

  @Test("A table fits the terminal, and its rows can be told apart", arguments: [80, 90, 100, 120])
  func fits(width: Int) throws {
    let lines = Self.norms(blocks: 32).text(width: width).wrapped().split(separator: "\n").map(String.init)
    #expect(lines.filter { $0.count > width } == [])
    // A header, a rule, 65 norms and a footnote: no line was broken.
    #expect(lines.count == 68)
    #expect(Set(lines).count == 68)
    for line in lines[2..<67] {
      #expect(line.hasSuffix("0 no") || line.hasSuffix("0  no"))
      #expect(line.contains("0.586 … 1.44") || line.contains("0.369 … 1.33"), "a number was cut")
    }
    try expectColumns(lines.dropLast())
    #expect(lines.contains { $0.contains("model.layers.31.post_attention_layernorm ") } == (width >= 103))
  }

  @Test("The table at 80 columns")
  func at80() {
    #expect(
      Self.norms(blocks: 1).text(width: 80).wrapped() == """
          norm                 kind    deviation                γ/σ, or γ |β| ≤ foldable
          ──────────────────── ─────── ───────────────────── ──────────── ───── ────────
          model.layers.0.inpu… RMSNorm computed (epsilon 1e… 0.586 … 1.44     0 no
          model.layers.0.post… RMSNorm computed (epsilon 1e… 0.586 … 1.44     0 no
          model.norm           RMSNorm computed (epsilon 1e… 0.369 … 1.33     0 no
          γ gain, β bias, σ deviation: what a norm multiplies by, adds, and divides by
        """)
  }

  @Test("Nothing is cut or broken where no terminal reads it")
  func whole() throws {
    var table = Table(["tensor": .left, "type": .left, "shape": .left])
    let name = "model.layers.31.mlp." + String(repeating: "experts.", count: 20) + "weight"
    table.add(name, "BF16", "[4096, 11008]")
    table.add("model.norm.weight", "BF16", "[4096]")
    let lines = table.text(width: nil).wrapped().split(separator: "\n").map(String.init)
    #expect(lines.count == 4)
    #expect(lines[2] == "  \(name) BF16 [4096, 11008]")
    #expect(lines[3].hasSuffix(" BF16 [4096]") && lines[3].count == lines[2].count - 7)
    try expectColumns(ArraySlice(lines))
  }

  @Test("Names that share their beginnings are cut where they differ")
  func distinct() {
    var table = Table(["tensor": .left])
    let stem = "a_very_long_prefix_that_all_of_them_share."
    for suffix in ["queries", "keys", "values"] { table.add(stem + suffix) }
    let lines = table.text(width: 30).wrapped().split(separator: "\n")
    #expect(Set(lines).count == 5)
    #expect(lines.allSatisfy { $0.count <= 30 })
  }

  @Test("Numbers are never cut, whatever the width")
  func numbers() {
    var table = Table(["name": .left, "value": .right])
    table.add("wte", "123456789.123456789")
    #expect(table.text(width: 10).wrapped().contains("123456789.123456789"))
  }

  /// Under each gap of the rule there is a gap in every row.
  private func expectColumns(_ lines: ArraySlice<String>) throws {
    let rule = Array(try #require(lines.dropFirst().first))
    let gaps = rule.indices.filter { rule[$0] == " " }
    #expect(gaps.count > 2)
    for line in lines {
      let characters = Array(line)
      #expect(gaps.allSatisfy { $0 >= characters.count || characters[$0] == " " }, "\(line)")
    }
  }
}
