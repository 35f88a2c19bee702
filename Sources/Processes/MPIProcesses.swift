import FoundationEssentials
import NormFoldFormats
import Synchronization

#if MPI
  import CNormFoldProcesses
#endif

/// The processes that a launcher of MPI (`mpirun`, `srun`) started this one with.
package enum LaunchedProcesses {
  /// Joins them. To be called once, by the thread that does the work.
  ///
  /// - Throws: `.usage` where there are several, and they could not work together: each would do all of the work, and write, alone.
  package static func join() throws(Refusal) -> any ProcessGroup {
    let launched = launchedCount(ProcessInfo.processInfo.environment)
    #if MPI
      guard let launched else { return SingleProcess() }
      let group = try MPIProcesses()
      guard group.count == launched else {
        throw Refusal(
          .usage, subject: "MPI", "\(launched) processes were started, and this one sees \(group.count)",
          advice: "start it with the launcher of the MPI that the program is linked to: see 'ldd'")
      }
      return group
    #else
      guard let launched, launched > 1 else { return SingleProcess() }
      throw Refusal(
        .usage, subject: "MPI", "is one of \(launched) processes, and this program was built without MPI",
        advice: "build it with the package's trait MPI, or start it alone")
    #endif
  }

  /// The number of processes that the launcher's variables speak of; nil where there was no launcher.
  static func launchedCount(_ environment: [String: String]) -> Int? {
    // Open MPI; MPICH and what is made of it; Slurm, where it starts processes by PMIx.
    for name in ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE"] {
      if let count = environment[name].flatMap({ Int($0) }) { return count }
    }
    guard environment["PMIX_RANK"] != nil else { return nil }
    return environment["SLURM_STEP_NUM_TASKS"].flatMap { Int($0) } ?? 1
  }
}

#if MPI
  /// Processes of MPI, on one machine or on several.
  final class MPIProcesses: ProcessGroup {
    let rank: Int
    let count: Int
    let neighbourCount: Int
    private let reporter = Atomic(0)

    init() throws(Refusal) {
      try Self.require(processes_start(), "cannot be joined")
      (rank, count) = (Int(processes_rank()), Int(processes_count()))
      neighbourCount = Int(processes_neighbours())
    }

    func sum(_ numbers: UnsafeMutableBufferPointer<Double>) throws(Refusal) {
      unsafe try Self.require(processes_sum_doubles(numbers.baseAddress, Int32(numbers.count)), "cannot be summed over")
    }

    func sum(_ numbers: UnsafeMutableBufferPointer<Float>) throws(Refusal) {
      unsafe try Self.require(processes_sum_floats(numbers.baseAddress, Int32(numbers.count)), "cannot be summed over")
    }

    func send(_ bytes: UnsafeMutableRawBufferPointer, from root: Int) throws(Refusal) {
      unsafe try Self.require(
        processes_send(bytes.baseAddress, Int32(bytes.count), Int32(root)), "cannot be sent to")
    }

    func wait() throws(Refusal) { try Self.require(processes_wait(), "cannot be waited for") }

    func leave() { processes_end() }

    var reportingRank: Int { reporter.load(ordering: .relaxed) }

    func setReporter(_ rank: Int) { reporter.store(rank, ordering: .relaxed) }

    /// - Throws: `.interrupted` with MPI's own words where it returned a code.
    private static func require(_ code: Int32, _ problem: String) throws(Refusal) {
      guard code != 0 else { return }
      let text = unsafe [CChar](unsafeUninitializedCapacity: 512) { buffer, count in
        unsafe processes_describe(code, buffer.baseAddress, Int32(buffer.count))
        count = unsafe buffer.firstIndex(of: 0) ?? buffer.count
      }
      throw Refusal(
        .interrupted, subject: "MPI",
        "the other processes \(problem): \(String(decoding: text.map { UInt8(bitPattern: $0) }, as: UTF8.self))")
    }
  }
#endif
