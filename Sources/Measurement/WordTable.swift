import NormFoldFormats

/// Sentences word by word, with numbers of each word and what was measured of it: a CSV file with a word a line.
package struct WordTable {
  struct Word {
    /// The word, or the ids of its tokens.
    let text: String
    let features: [Double]
    let targets: [Double]
    let line: Int
  }

  /// The numbers that the network predicts, in this order, as the task of CMCL 2021 names it: the number of fixations, the duration of the first one,
  /// the time until the eyes go on, the time in all, the share of readers who looked at the word.
  static let knownTargets = ["nFix", "FFD", "GPT", "TRT", "fixProp"]

  let targetNames: [String]
  /// Is true if the table has ids of tokens in the place of words.
  let isOfTokens: Bool
  /// The words of each sentence, in the order of the file.
  let sentences: [[Word]]

  /// - Parameters:
  ///   - featureCount: how many numbers of each word the network reads.
  ///   - targetCount: how many it predicts.
  /// - Throws: `.malformed` for a header that does not fit the network, with the columns that there are, and for a field that is no
  ///   number, with its line.
  package init(file path: String, featureCount: Int, targetCount: Int) throws(Refusal) {
    let table = try CommaSeparatedValues(file: path)
    let header = table.header
    func column(_ name: String) -> Int? { header.firstIndex(of: name) }
    guard let sentence = column("sentence_id") else {
      throw Refusal(
        .malformed, file: path, "has no column sentence_id", advice: "its columns are \(header.listed(limit: 32))")
    }
    let (word, tokens) = (column("word"), column("tokens"))
    guard let text = tokens ?? word else {
      throw Refusal(
        .malformed, file: path, "has neither a column word nor a column tokens",
        advice: "its columns are \(header.listed(limit: 32))")
    }
    let targets = Self.knownTargets.filter { column($0) != nil }
    guard targets.count == targetCount else {
      throw Refusal(
        .malformed, file: path,
        "expected \(targetCount) of the columns \(Self.knownTargets.listed(limit: 5)), as many as the network predicts, found \(targets.count)"
      )
    }
    let others = [sentence, word, tokens, column("word_id")].compactMap(\.self) + targets.compactMap(column)
    let features = header.indices.filter { !others.contains($0) }
    guard features.count == featureCount else {
      throw Refusal(
        .malformed, file: path,
        "expected \(featureCount) columns of numbers of each word, as many as the network reads, found \(features.count): "
          + features.map { header[$0] }.listed(limit: 32))
    }
    var sentences: [[Word]] = []
    var last: String?
    for record in table.records {
      func number(_ column: Int) throws(Refusal) -> Double {
        guard let value = Double(record.fields[column]), value.isFinite else {
          throw Refusal(
            .malformed, file: path, subject: "line \(record.line)",
            "\(header[column]): expected a number, found '\(record.fields[column])'")
        }
        return value
      }
      var (read, measured): ([Double], [Double]) = ([], [])
      for column in features { read.append(try number(column)) }
      for name in targets { measured.append(try number(column(name) ?? 0)) }
      let word = Word(text: record.fields[text], features: read, targets: measured, line: record.line)
      if record.fields[sentence] == last {
        sentences[sentences.count - 1].append(word)
      } else {
        sentences.append([word])
      }
      last = record.fields[sentence]
    }
    guard !sentences.isEmpty else { throw Refusal(.malformed, file: path, "has no words") }
    (targetNames, isOfTokens, self.sentences) = (targets, tokens != nil, sentences)
  }
}
