import Glibc
import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks

extension AttentionRecord {
  /// Adds one attention of a pass.
  ///
  /// - Parameters:
  ///   - operands: queries and keys as they are multiplied, and values.
  ///   - probes: the sequences of the pass.
  mutating func add<Scalar: ArithmeticScalar>(
    _ attention: Attention, at path: Path, operands: [Matrix<Scalar>], probes: [Probe], sinkThreshold: Double
  ) {
    guard let block = path.block else { return }
    add(
      query: operands[0].doubles(), key: operands[1].doubles(), dHead: operands[0].columnCount / attention.headCount,
      lengths: probes.map(\.tokens.count), block: block, headCount: attention.headCount,
      keyValueHeadCount: attention.keyValueHeadCount, scale: attention.scale, sinkThreshold: sinkThreshold)
  }
}

/// A record of what each head of each block attends to: sums over queries, [block][head].
struct AttentionRecord: Sendable {
  private var heads: [[Head]] = []

  private struct Head {
    var queryCount = 0
    var entropy = 0.0
    var sinkAttention = 0.0
    var sinkQueryCount = 0

    /// - Parameters:
    ///   - scores: the products of one query with the keys of every position that it sees.
    mutating func add(_ scores: UnsafeMutableBufferPointer<Double>, sinkThreshold: Double) {
      var largest = -Double.infinity
      for index in 0..<scores.count { largest = unsafe max(largest, scores[index]) }
      var total = 0.0
      var weighted = 0.0
      for index in 0..<scores.count {
        let shifted = unsafe scores[index] - largest
        let weight = exp(shifted)
        total += weight
        // 0 · ∞ where a score has fallen out of all range; its limit is 0.
        if weight > 0 { weighted += weight * shifted }
      }
      let sink = unsafe exp(scores[0] - largest) / total
      queryCount += 1
      // −Σ p ln p with ln p = shifted − ln total
      entropy += log(total) - weighted / total
      sinkAttention += sink
      if sink > sinkThreshold { sinkQueryCount += 1 }
    }

    mutating func add(_ other: Head) {
      queryCount += other.queryCount
      entropy += other.entropy
      sinkAttention += other.sinkAttention
      sinkQueryCount += other.sinkQueryCount
    }
  }

  /// The number of queries that are scored against all keys at a time: against a context of 1,024 that is 1 MiB of
  /// scores, which stays in a cache.
  private static let queryBlock = 128

  /// - Parameters:
  ///   - query: [tokens of all sequences, headCount · dHead]
  ///   - key: [tokens of all sequences, keyValueHeadCount · dHead]
  ///   - lengths: the lengths of the sequences.
  mutating func add(
    query: [Double], key: [Double], dHead: Int, lengths: [Int], block: Int, headCount: Int, keyValueHeadCount: Int,
    scale: Double, sinkThreshold: Double
  ) {
    while heads.count <= block { heads.append([]) }
    while heads[block].count < headCount { heads[block].append(Head()) }
    let (width, keyWidth) = (headCount * dHead, keyValueHeadCount * dHead)
    let longest = lengths.max() ?? 0
    let scores = UnsafeMutablePointer<Double>.allocate(capacity: Self.queryBlock * longest)
    defer { unsafe scores.deallocate() }
    unsafe query.withUnsafeBufferPointer { query in
      unsafe key.withUnsafeBufferPointer { key in
        guard let query = query.baseAddress, let key = key.baseAddress else { return }
        var start = 0
        for length in lengths {
          for head in 0..<headCount {
            let corner = start * width + head * dHead
            let keyCorner = start * keyWidth + head * keyValueHeadCount / headCount * dHead
            for first in stride(from: 0, to: length, by: Self.queryBlock) {
              let end = min(first + Self.queryBlock, length)
              unsafe Double.multiply(
                rows: end - first, columns: end, inner: dHead, query + corner + first * width, strideA: width,
                key + keyCorner, strideB: keyWidth, isTransposed: true, factor: scale, beta: 0, into: scores,
                strideC: end)
              for row in first..<end {
                unsafe heads[block][head].add(
                  UnsafeMutableBufferPointer(start: scores + (row - first) * end, count: row + 1),
                  sinkThreshold: sinkThreshold)
              }
            }
          }
          start += length
        }
      }
    }
  }

  mutating func add(_ other: AttentionRecord) {
    for (block, row) in other.heads.enumerated() {
      while heads.count <= block { heads.append([]) }
      for (head, sums) in row.enumerated() {
        if heads[block].count <= head { heads[block].append(Head()) }
        heads[block][head].add(sums)
      }
    }
  }

  /// - Parameter tokensBefore: for each query, how many positions it sees besides its own.
  func summary(
    tokensBefore: [Int], sinkThreshold: Double, collapseThreshold: Double
  ) -> DiagnosisReport.Attention {
    func means(_ value: (Head) -> Double) -> [[Double]] { heads.map { $0.map { value($0) / Double($0.queryCount) } } }
    let entropy = means(\.entropy)
    let sinks = means(\.sinkAttention)
    let shares = means { Double($0.sinkQueryCount) }
    let uniform = tokensBefore.reduce(0) { $0 + log(Double($1 + 1)) } / Double(tokensBefore.count)
    let headCount = Double(entropy.joined().count)
    var quarters = [0, 0, 0, 0]
    for value in entropy.joined() where value.isFinite {
      quarters[min(3, max(0, Int(4 * value / uniform)))] += 1
    }
    return DiagnosisReport.Attention(
      entropy: entropy, uniformEntropy: uniform, sinkAttention: sinks, sinkQueryShare: shares,
      sinkThreshold: sinkThreshold, sinkRate: Double(sinks.joined().count { $0 >= sinkThreshold }) / headCount,
      sinkQueryRate: shares.joined().reduce(0, +) / headCount, headCountByQuarter: quarters,
      collapsedHeadCount: entropy.joined().count { $0 < collapseThreshold * uniform },
      collapseThreshold: collapseThreshold)
  }
}
