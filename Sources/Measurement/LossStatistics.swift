import Glibc

extension LossStatistics {
  /// Bins of a quarter of a nat up to 20 nats; a uniform guess among GPT-2's 50,257 tokens loses 10.8.
  private static let binWidth = 0.25
  private static let binCount = 80

  /// - Parameters:
  ///   - losses: of each scored token; NaN where the network is not finite.
  ///   - positions: of each token that is predicted.
  init(losses: [Double], positions: [Int]) {
    let finite = losses.filter(\.isFinite)
    let sorted = finite.sorted()
    let count = Double(finite.count)
    let mean = finite.reduce(0, +) / count
    let squares = finite.reduce(0) { $0 + ($1 - mean) * ($1 - mean) }
    var histogram = Histogram(
      binWidth: Self.binWidth, counts: [Int](repeating: 0, count: Self.binCount), beyondCount: 0)
    for loss in finite {
      // Rounding may leave a certain token a loss just below 0.
      let bin = max(0, loss / Self.binWidth)
      if bin < Double(Self.binCount) { histogram.counts[Int(bin)] += 1 } else { histogram.beyondCount += 1 }
    }
    var sums: [(count: Int, sum: Double)] = []
    for (loss, position) in zip(losses, positions) where loss.isFinite {
      while sums.count <= position { sums.append((0, 0)) }
      sums[position].count += 1
      sums[position].sum += loss
    }
    self.init(
      tokenCount: losses.count, nonFiniteTokenCount: losses.count - finite.count, mean: mean,
      standardError: finite.count > 1 ? (squares / (count - 1) / count).squareRoot() : .nan, perplexity: exp(mean),
      median: sorted.quantile(0.5), smallest: sorted.first ?? .nan, largest: sorted.last ?? .nan,
      central95: Interval(lower: sorted.quantile(0.025), upper: sorted.quantile(0.975)),
      central999: Interval(lower: sorted.quantile(0.0005), upper: sorted.quantile(0.9995)), histogram: histogram,
      byPosition: sums.enumerated().filter { $1.count > 0 }.map {
        PositionMean(position: $0, tokenCount: $1.count, mean: $1.sum / Double($1.count))
      })
  }
}

extension [Double] {
  /// Returns a quantile of sorted values, interpolated between neighbours, as NumPy does by default.
  func quantile(_ share: Double) -> Double {
    guard !isEmpty else { return .nan }
    let place = share * Double(count - 1)
    let below = Int(place)
    let above = Swift.min(below + 1, count - 1)
    return self[below] + (self[above] - self[below]) * (place - Double(below))
  }
}
