import NormFoldArithmetic
import NormFoldFormats
import NormFoldProcesses

extension TrainingRun {
  /// Gives every process the parameters that the others have taken a step with.
  func exchangeParameters() throws(Refusal) {
    guard parameters.sharesMoments else { return }
    for rank in 0..<processes.count {
      let range = parameters.share(ofProcess: rank)
      unsafe try processes.send(all: UnsafeMutableBufferPointer(rebasing: parameters.allValues[range]), from: rank)
    }
  }

  /// - Throws: `.mismatch` where processes do not hold the same parameters, which is a defect, of the program or of memory.
  package func requireSameParameters() throws(Refusal) {
    guard processes.count > 1 else { return }
    // Both halves fit into the 53 bits of a Double.
    let own = parameters.checksum(workers: workers)
    let sums = try processes.sums(
      of: (0..<processes.count).flatMap {
        $0 == processes.rank ? [Double(own >> 32), Double(own & 0xFFFF_FFFF)] : [0, 0]
      })
    for rank in 1..<processes.count where sums[2 * rank] != sums[0] || sums[2 * rank + 1] != sums[1] {
      throw Refusal(
        .mismatch, subject: "step \(step)", "process \(rank) holds other parameters than process 0",
        advice: "go on from the last checkpoint; where it happens again, look at that machine's memory")
    }
  }

  /// Shows the moments of some of the numbers, part by part, to every process, whoever keeps them.
  func forEachMoment(
    in range: Range<Int>, isFirst: Bool, _ body: (UnsafeMutableBufferPointer<Scalar>) -> Void
  ) throws(Refusal) {
    let (moments, own) = (isFirst ? parameters.firstMoments : parameters.secondMoments, parameters.momentRange)
    guard parameters.sharesMoments else {
      return unsafe body(UnsafeMutableBufferPointer(rebasing: moments.values[range]))
    }
    let room = Matrix<Scalar>(rows: 1, columns: Self.momentsAtATime)
    for rank in 0..<processes.count {
      let share = parameters.share(ofProcess: rank).clamped(to: range)
      for start in stride(from: share.lowerBound, to: share.upperBound, by: Self.momentsAtATime) {
        let part = start..<min(start + Self.momentsAtATime, share.upperBound)
        let buffer = unsafe UnsafeMutableBufferPointer(rebasing: room.values[..<part.count])
        if rank == processes.rank {
          for index in part { unsafe buffer[index - start] = unsafe moments.start[index - own.lowerBound] }
        }
        unsafe try processes.send(all: buffer, from: rank)
        unsafe body(buffer)
      }
    }
  }

  private static var momentsAtATime: Int { 1 << 20 }
}

extension ProcessGroup {
  /// The sums of a step over all processes, which all measure the same norms.
  func sum<Scalar: ArithmeticScalar>(_ own: TrainingStep<Scalar>.Sums) throws(Refusal) -> TrainingStep<Scalar>.Sums {
    let names = own.deviations.keys.sorted()
    var numbers = [own.loss, own.auxiliary]
    for name in names {
      let deviation = own.deviations[name] ?? (0, 0)
      numbers += [deviation.sum, Double(deviation.count)]
    }
    numbers = try sums(of: numbers)
    var result = TrainingStep<Scalar>.Sums(loss: numbers[0], auxiliary: numbers[1])
    for (index, name) in names.enumerated() {
      result.deviations[name] = (numbers[2 + 2 * index], Int(numbers[3 + 2 * index]))
    }
    return result
  }
}
