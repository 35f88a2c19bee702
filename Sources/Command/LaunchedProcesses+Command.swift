import Dispatch
import FoundationEssentials
import Glibc
import NormFold
import NormFoldArithmetic
import NormFoldProcesses
import NormFoldTraining
import Synchronization

extension LaunchedProcesses {
  /// Joins the processes that a launcher started, does what they do together, and leaves them. One of them says what went wrong,
  /// and all end with the status of that.
  ///
  /// - Parameter body: what each process does; returns its exit status.
  static func run(_ body: (any ProcessGroup) throws -> ExitStatus) throws {
    let processes = try join()
    let status: ExitStatus
    do {
      status = try body(processes)
    } catch {
      guard processes.rank != processes.reportingRank, let refusal = error as? Refusal else {
        processes.leave()
        throw error
      }
      // A launcher ends the others when one has ended, and drops what they say meanwhile: the one that speaks goes first.
      Interruption.endSilently(with: ExitStatus(refusal.category))
      processes.leave()
      sleep(2)
      throw ExitStatus.Verdict(status: ExitStatus(refusal.category))
    }
    processes.leave()
    if status != .success { throw ExitStatus.Verdict(status: status) }
  }
}

extension ProgressLine {
  /// Takes the progress of a measurement, of which process 0 alone reports.
  func measuring(in processes: any ProcessGroup) -> @Sendable (_ done: Int, _ total: Int) -> Void {
    guard processes.rank == 0 else { return { _, _ in } }
    return measuring
  }
}

extension ProcessGroup {
  /// The threads of this process. Launchers may have given it some of the cores; otherwise those of the machine are shared
  /// with the processes beside it.
  var workers: Workers {
    let given = ProcessInfo.processInfo.activeProcessorCount
    let isBound = given < sysconf(Int32(_SC_NPROCESSORS_ONLN))
    return Workers(count: isBound ? given : max(1, given / neighbourCount))
  }

  /// A sentence about cores that would stand idle during a long run; nil where all of them work.
  var bindingNotice: String? {
    let (given, online) = (ProcessInfo.processInfo.activeProcessorCount, sysconf(Int32(_SC_NPROCESSORS_ONLN)))
    guard count > 1, given * neighbourCount < online else { return nil }
    return "the launcher gave each process \(given) of \(online) cores, and \(neighbourCount) processes run here: "
      + "with Open MPI, '--map-by slot:PE=\(online / neighbourCount) --bind-to core' gives them all"
  }
}

/// SIGUSR1, which batch systems send before they end a job, asks a run to save its state and end.
enum StopRequest {
  private static let wasMade = Atomic(false)

  /// Kept for the life of the process.
  private nonisolated(unsafe) static let source = {
    signal(SIGUSR1, SIG_IGN)
    let source = DispatchSource.makeSignalSource(signal: SIGUSR1, queue: .global(qos: .userInitiated))
    source.setEventHandler { wasMade.store(true, ordering: .relaxed) }
    source.resume()
    return source
  }()

  /// Begins to listen when it is called for the first time.
  static let isMade: @Sendable () -> Bool = {
    _ = unsafe source
    return wasMade.load(ordering: .relaxed)
  }
}

/// Ends the process where no step ends any more: a link that is down keeps the others waiting for ever. The launcher then
/// ends all of them, and the run can go on from its last checkpoint.
final class Watchdog: Sendable {
  private struct State {
    var durations: [Double] = []
    var step = -1
    var last = ContinuousClock.now
    var isResting = false
  }

  private let state = Mutex(State())
  private nonisolated(unsafe) let timer = DispatchSource.makeTimerSource(queue: .global(qos: .utility))

  /// - Parameter interval: seconds from one look to the next.
  init(lookingEvery interval: Double = 10) {
    unsafe timer.schedule(deadline: .now() + interval, repeating: interval)
    unsafe timer.setEventHandler { [weak self] in self?.look() }
    unsafe timer.resume()
  }

  deinit { unsafe timer.cancel() }

  /// The seconds that a step may take: ten times the median so far, and ten minutes at least, since a checkpoint may be
  /// written meanwhile.
  static func limit(after durations: [Double]) -> Double {
    let median = durations.isEmpty ? .infinity : durations.sorted()[durations.count / 2]
    return durations.isEmpty ? .infinity : max(600, 10 * median)
  }

  /// Says that a step has ended.
  func note(_ step: Int) {
    state.withLock { state in
      let now = ContinuousClock.now
      // The first one includes what the run began with.
      if state.step >= 0 { state.durations.append((now - state.last) / .seconds(1)) }
      (state.step, state.last) = (step, now)
    }
  }

  /// Says that no step follows.
  func rest() { state.withLock { $0.isResting = true } }

  private func look() {
    let (step, waited) = state.withLock { state in
      let waited = (ContinuousClock.now - state.last) / .seconds(1)
      return (state.step, !state.isResting && waited > Self.limit(after: state.durations) ? waited : nil)
    }
    guard let waited else { return }
    StandardError.write(
      "error: step \(step + 2) has not ended for \(Quantity.duration(waited)): another process, or the network between "
        + "them, does not answer; go on from the last checkpoint with --resume\n")
    _exit(ExitStatus.interrupted.rawValue)
  }
}
