import Foundation
import Glibc
import NormFold
import NormFoldFormats
import TestSupport

extension MatrixRow {
  /// A sound checkpoint, and a destination with something wrong about it.
  private static func destination(
    _ number: Int, _ name: String, _ answer: Answer, _ arrange: @escaping @Sendable (inout Arrangement) throws -> Void
  ) -> MatrixRow {
    MatrixRow(number, name, answer) { place in
      let source = place / "in"
      try FileManager.default.copyItem(atPath: Fixtures.path("tiny-2x32/lnfree"), toPath: source)
      var arrangement = Arrangement(place, source)
      try arrange(&arrangement)
      return arrangement
    }
  }

  static let outputs: [MatrixRow] = [
    MatrixRow(
      57, "it exists", copyOf: "lnfree",
      .refused(8, "out: exists already; choose another destination, or replace it with --force"),
      conversion: { $0.replacesDestination = false }, change: { _ in }),
    destination(
      57, "it exists, and is someone's work",
      .refused(
        8,
        "out, '.git': expected a model directory to replace, found this directory in it; remove it yourself, or choose another destination"
      )
    ) {
      try FileManager.default.createDirectory(atPath: $0.destination + "/.git", withIntermediateDirectories: false)
    },
    destination(
      58, "it is the input",
      .refused(8, "in/model.safetensors: is a file of the input, and would be replaced; choose another destination")
    ) { $0.destination = $0.source },
    destination(
      58, "it holds a hard link to the input",
      .refused(8, "out/same: is a file of the input, and would be replaced; choose another destination")
    ) {
      guard link($0.source + "/model.safetensors", $0.destination + "/same") == 0 else {
        throw CocoaError(.fileWriteUnknown)
      }
    },
    destination(
      58, "it holds a link to the input",
      .refused(8, "out/same: is a file of the input, and would be replaced; choose another destination")
    ) {
      guard symlink("../in/model.safetensors", $0.destination + "/same") == 0 else {
        throw CocoaError(.fileWriteUnknown)
      }
    },
    MatrixRow(
      58, "it holds a shard of the input",
      .refused(
        8,
        "out/model-00002-of-00003.safetensors: is a file of the input, and would be replaced; choose another destination"
      )
    ) { place in
      let source = place / "in"
      try FileManager.default.copyItem(atPath: Fixtures.path("tiny-2x32/lnfree-sharded"), toPath: source)
      let shard = "model-00002-of-00003.safetensors"
      guard link(source + "/" + shard, place / "out/" + shard) == 0 else { throw CocoaError(.fileWriteUnknown) }
      return Arrangement(place, source)
    },
    destination(
      60, "its directory is a link to nowhere",
      .refused(8, "none/out: cannot write to 'none': No such file or directory; choose another destination")
    ) {
      guard symlink("nowhere", $0.place / "none") == 0 else { throw CocoaError(.fileWriteUnknown) }
      $0.destination = $0.place / "none/out"
    },
    destination(
      60, "its directory is a file",
      .refused(8, "out/config.json/deeper: 'out/config.json' is not a directory; choose another destination")
    ) { $0.destination = $0.place / "out/config.json/deeper" },
    destination(
      60, "it is a file",
      .refused(8, "out/config.json: expected a directory or nothing, found a file; choose another destination")
    ) { $0.destination = $0.place / "out/config.json" },
    destination(
      60, "it is a FIFO",
      .refused(8, "pipe: expected a directory or nothing, found a pipe, socket or device; choose another destination")
    ) {
      $0.destination = $0.place / "pipe"
      guard mkfifo($0.destination, 0o600) == 0 else { throw CocoaError(.fileWriteUnknown) }
    },
    destination(
      60, "it is standard output",
      .refused(8, "/dev/stdout: expected a directory or nothing, found a link; choose another destination")
    ) { $0.destination = "/dev/stdout" },
    destination(
      60, "a file system that cannot be written",
      .refused(8, "/proc/out: cannot write to '/proc': No such file or directory; choose another destination")
    ) { $0.destination = "/proc/out" },
    destination(
      66, "it is a link to a directory",
      .refused(8, "link: expected a directory or nothing, found a link; choose another destination")
    ) {
      $0.destination = $0.place / "link"
      guard symlink("out", $0.destination) == 0 else { throw CocoaError(.fileWriteUnknown) }
    },
    destination(
      66, "it is a link to nothing",
      .refused(8, "link: expected a directory or nothing, found a link; choose another destination")
    ) {
      $0.destination = $0.place / "link"
      guard symlink("nothing", $0.destination) == 0 else { throw CocoaError(.fileWriteUnknown) }
    },
    MatrixRow(
      60, "the input is a FIFO",
      .refused(3, "in: expected a regular file, found a pipe, socket or device; save its content to a file first")
    ) { place in
      guard mkfifo(place / "model.safetensors", 0o600) == 0 else { throw CocoaError(.fileWriteUnknown) }
      return Arrangement(place, place / "model.safetensors")
    },
    MatrixRow(
      60, "the input is a device",
      .refused(3, "in: expected a regular file, found a pipe, socket or device; save its content to a file first")
    ) { Arrangement($0, "/dev/zero") },
    MatrixRow(60, "the input does not exist", .refused(3, "in: there is no such file or directory; check the path")) {
      Arrangement($0, $0 / "in")
    },
  ]
}
