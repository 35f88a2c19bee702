import Dispatch
import FoundationEssentials
import Glibc
import NormFold
import NormFoldFormats
import Synchronization

enum Terminal {
  /// Columns of a terminal that does not say how many it has.
  static let usualWidth = 80

  /// Columns of the terminal that reads standard output; nil where none does.
  static let width = width(of: STDOUT_FILENO)

  static func width(of descriptor: Int32) -> Int? {
    guard isatty(descriptor) == 1 else { return nil }
    var size = winsize()
    guard unsafe ioctl(descriptor, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 else { return usualWidth }
    return Int(size.ws_col)
  }
}

extension String {
  /// Columns that text is laid out for; a narrower terminal has its own.
  static let lineWidth = Swift.min(Terminal.width ?? 100, 100)

  /// A line that begins so is not broken. Unicode has the character, WORD JOINER, for that purpose.
  private static let joiner: Character = "\u{2060}"

  /// The line, for ``wrapped(to:)`` to leave as it is.
  var unbreakable: String { String(Self.joiner) + self }

  /// Lines of at most `width` characters, broken between words; what follows a break stands two columns deeper.
  /// Words longer than a line stay whole, and so do lines that are ``unbreakable``.
  func wrapped(to width: Int = lineWidth) -> String {
    split(separator: "\n", omittingEmptySubsequences: false).map { line in
      if line.first == Self.joiner { return String(line.dropFirst()) }
      guard String(line).columnCount > width else { return String(line) }
      let indentation = String(repeating: " ", count: line.prefix(while: { $0 == " " }).count)
      var lines = [indentation]
      var isEmpty = true
      for word in line.dropFirst(indentation.count).split(separator: " ") {
        if !isEmpty, lines[lines.count - 1].columnCount + 1 + String(word).columnCount > width {
          lines.append(indentation + "  ")
          isEmpty = true
        }
        lines[lines.count - 1] += (isEmpty ? "" : " ") + word
        isEmpty = false
      }
      return lines.joined(separator: "\n")
    }.joined(separator: "\n")
  }
}

enum Interruption {
  private static let isUnderway = Atomic(false)
  /// The status to end with where a signal comes after the work; negative before that.
  private static let finalStatus = Atomic<Int32>(-1)

  /// Never returns once a signal is being handled: files that vanish under a run that goes on are no error of its own.
  static func waitIfUnderway() {
    while isUnderway.load(ordering: .sequentiallyConsistent) { sleep(1) }
  }

  /// From now on a signal ends the process with this status, without a word: its work is over.
  static func endSilently(with status: ExitStatus) {
    finalStatus.store(status.rawValue, ordering: .sequentiallyConsistent)
  }

  /// SIGINT, SIGTERM and SIGHUP remove what was staged and end the run; the destination is as it was, unless the output
  /// was in place already.
  static func removeStagedOutputOnSignals() { _ = unsafe sources }

  private static let signals = [SIGINT, SIGTERM, SIGHUP].filter { number in
    // The default action would end the process before the source sees the signal. A run that was started with nohup
    // goes on when its terminal closes.
    let former = signal(number, SIG_IGN)
    let wasIgnored = unsafe unsafeBitCast(former, to: Int.self) == unsafeBitCast(SIG_IGN, to: Int.self)
    return number != SIGHUP || !wasIgnored
  }

  /// Kept for the life of the process.
  private nonisolated(unsafe) static let sources = signals.map { number in
    let source = DispatchSource.makeSignalSource(signal: number, queue: .global(qos: .userInitiated))
    source.setEventHandler {
      let status = finalStatus.load(ordering: .sequentiallyConsistent)
      if status >= 0 { _exit(status) }
      isUnderway.store(true, ordering: .sequentiallyConsistent)
      let hasPublished = StagedOutput.removeAll()
      StandardError.write(
        "\n\("error:".toned(.bad, for: STDERR_FILENO)) interrupted; \(hasPublished ? "the output was in place already" : "nothing was written")\n"
      )
      // Not `exit`: it would destroy what other threads are computing with.
      _exit(ExitStatus.interrupted.rawValue)
    }
    source.resume()
    return source
  }
}

/// The messages on standard error that say how far a long run is.
final class ProgressLine: Sendable {
  enum Form {
    case none
    /// One line, drawn again and again. Nothing is shown for the first second, nor where standard error is no terminal.
    case bar
    /// One JSON object a line, `{"progress": …}`, for a program that started this one.
    case lines
  }

  private struct Line: Encodable { let progress: ConversionProgress }

  private struct State {
    var stage: ConversionProgress.Stage?
    var stageStart = ContinuousClock.now
    var lastDraw = ContinuousClock.now
    var isDrawn = false
  }

  private let form: Form
  private let width = StandardError.width
  private let start = ContinuousClock.now
  private let state = Mutex(State())

  init(_ form: Form) { self.form = form == .bar && !StandardError.isTerminal ? .none : form }

  var handler: ConversionProgress.Handler { { [self] in show($0) } }

  /// Takes the progress of a measurement, which counts tokens.
  var measuring: @Sendable (_ done: Int, _ total: Int) -> Void {
    { [self] in show(ConversionProgress(stage: .measuring, subject: "text", done: $0, total: $1, unit: "tokens")) }
  }

  private func show(_ progress: ConversionProgress) {
    if form == .none { return }
    state.withLock { state in
      let now = ContinuousClock.now
      if state.stage != progress.stage { (state.stage, state.stageStart) = (progress.stage, now) }
      if form == .lines {
        let isEnd = progress.done >= progress.total
        guard isEnd || state.stageStart == now || now - state.lastDraw > .milliseconds(100) else { return }
        state.lastDraw = now
        if let line = try? JSONEncoder().encode(Line(progress: progress)) {
          StandardError.write(String(decoding: line, as: UTF8.self) + "\n")
        }
        return
      }
      guard now - start > .seconds(1), now - state.lastDraw > .milliseconds(100) else { return }
      state.lastDraw = now
      state.isDrawn = true
      let elapsed = (now - state.stageStart) / .seconds(1)
      let fraction = progress.total > 0 ? Double(progress.done) / Double(progress.total) : 0
      let filled = Int(fraction * 24)
      let bar = String(repeating: "█", count: filled) + String(repeating: "░", count: 24 - filled)
      let rate =
        progress.unit == "bytes" && elapsed > 0 ? "  \(Quantity.bytes(Int(Double(progress.done) / elapsed)))/s" : ""
      let left = fraction > 0.02 ? "  \(Int((elapsed / fraction * (1 - fraction)).rounded(.up))) s left" : ""
      let text =
        "\(progress.stage.rawValue) \(progress.subject.printable)  \(bar) \(Int(fraction * 100))%\(rate)\(left)"
      // A line that the terminal breaks cannot be cleared as one.
      StandardError.write("\r\u{1B}[K" + text.prefix(min(99, width - 1)))
    }
  }

  /// Clears the line, so that what follows stands alone.
  func finish() {
    state.withLock { state in
      if state.isDrawn { StandardError.write("\r\u{1B}[K") }
      state.isDrawn = false
    }
  }
}
