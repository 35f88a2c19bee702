import FoundationEssentials
import Glibc
import NormFoldFormats

/// The descriptors that a process is started with, some of which may be closed, full or broken.
enum StandardStreams {
  /// A closed descriptor would be given to the next file that is opened, and messages would be written into that file.
  /// The file that is put in its place can be opened, not written.
  static func reserveClosed() {
    while true {
      let descriptor = unsafe open("/dev/null", O_RDONLY | O_CLOEXEC)
      guard descriptor <= STDERR_FILENO else {
        close(descriptor)
        return
      }
      guard descriptor >= 0 else { return }
    }
  }

  /// A file that grows beyond a limit, and a pipe whose reader has gone, are errors to be reported, not signals that end
  /// the run wherever it is.
  static func turnSignalsIntoErrors() {
    signal(SIGXFSZ, SIG_IGN)
    signal(SIGPIPE, SIG_IGN)
  }

  /// - Returns: the error number, or 0.
  fileprivate static func write(_ bytes: some Sequence<UInt8>, to descriptor: Int32) -> Int32 {
    var remaining = ArraySlice(bytes)
    while !remaining.isEmpty {
      let count = unsafe remaining.withUnsafeBytes { unsafe Glibc.write(descriptor, $0.baseAddress, $0.count) }
      if count >= 0 {
        remaining = remaining.dropFirst(count)
      } else if errno == EAGAIN {
        // The stream is shared with a program that made it non-blocking.
        var entry = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        _ = unsafe poll(&entry, 1, -1)
      } else if errno != EINTR {
        return errno
      }
    }
    return 0
  }
}

enum StandardError {
  static let isTerminal = isatty(STDERR_FILENO) == 1

  /// Columns of the terminal that reads it; without end in a file or a pipe, where no line is broken.
  static let width = Terminal.width(of: STDERR_FILENO) ?? .max

  /// Writes a text. One that cannot be written is lost; there is nowhere left to say so.
  static func write(_ text: String) { _ = StandardStreams.write(text.utf8, to: STDERR_FILENO) }
}

enum StandardOutput {
  /// Writes one text and a line break.
  ///
  /// - Parameter advice: what a reader should know who does not get to see it.
  /// - Throws: ``Refusal`` where it cannot be written whole. Where its reader has gone, the process ends as if
  ///   it had not ignored the signal, which is what the shell and the reader expect.
  static func print(_ text: String, advice: Message = "") throws(Refusal) {
    try write((text + "\n").utf8, advice: advice)
  }

  /// Writes bytes as they are.
  ///
  /// - Throws: as ``print(_:advice:)``.
  static func write(_ bytes: some Sequence<UInt8>, advice: Message = "") throws(Refusal) {
    let code = StandardStreams.write(bytes, to: STDOUT_FILENO)
    if code == EPIPE {
      signal(SIGPIPE, SIG_DFL)
      raise(SIGPIPE)
    }
    guard code == 0 else {
      throw Refusal(.output, "standard output cannot be written: \(String(errno: code))", advice: advice)
    }
  }

  private static let isTerminal = isatty(STDOUT_FILENO) == 1

  /// Returns what a model wrote, without what a terminal would obey; as it is where no terminal reads it.
  static func harmless(_ bytes: [UInt8]) -> [UInt8] {
    guard isTerminal else { return bytes }
    return bytes.map { ($0 < 0x20 && ![0x09, 0x0A].contains($0)) || $0 == 0x7F ? UInt8(ascii: "?") : $0 }
  }

  /// One JSON document; NaN and infinities as strings, which JSON has no numbers for.
  ///
  /// - Parameter options: what the command was told, defaults included.
  static func print(
    json value: some Encodable, options: (any Encodable)? = nil, advice: Message = ""
  ) throws {
    try print(Document(content: value, options: options).text, advice: advice)
  }
}
