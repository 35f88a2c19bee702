import NormFoldFormats

/// The way in which a checkpoint says that its norms' deviations are fixed, or that they are not. Each dialect is a
/// file in this folder and a line in ``detect(_:)``.
package struct Dialect: Sendable {
  /// For reports: `published LN-removed form (epsilon 1e+12)`.
  package let displayName: String
  /// Is true if the norms are fixed by what the user says, and were computed until now: the network computes another
  /// function than the checkpoint.
  package var changesFunction = false
  /// Is true if a runtime of the files computes the network that is stored, and not exactly the one that is meant.
  var isMeantOtherwise = false
  /// The notes that the user should read.
  var notes: [Message] = []
  /// Turns the network with the norms as they are stored, all of them computed, into the one that is meant.
  var interpret: @Sendable (Network) throws(Refusal) -> Network = { (network) throws(Refusal) in network }

  init(displayName: String) { self.displayName = displayName }

  /// Asks every dialect whether it is the checkpoint's, in this order.
  static func detect(_ reading: inout DialectReading) throws(Refusal) -> Dialect {
    if let dialect = try fakeLayerNorm(&reading) { return dialect }
    if let dialect = try largeEpsilon(&reading) { return dialect }
    if let dialect = try folded(&reading) { return dialect }
    if let dialect = try deviationFile(&reading) { return dialect }
    if let dialect = givenDeviation(reading) { return dialect }
    return .ordinary(reading)
  }

  /// Every norm is computed, or where a network was trained without norms in its blocks the last one.
  private static func ordinary(_ reading: DialectReading) -> Dialect {
    if reading.norms.isEmpty { return Dialect(displayName: "without norms: nothing stands in their places, as told") }
    return Dialect(
      displayName: reading.hyperparameters.isWithoutBlockNorms
        ? "trained without norms in its blocks; the last one is computed" : "ordinary: every norm is computed")
  }
}

/// A checkpoint as dialects read it, with the user's options.
struct DialectReading {
  let checkpoint: Checkpoint
  let hyperparameters: Hyperparameters
  let layout: Layout
  let options: ReadingOptions
  var tensors: NamedTensors
  var parameters: ParameterTable
  /// Is true if buffers of FakeLayerNorms lie beside the norms.
  let hasFakeNorms: Bool

  /// The norms that are stored, each with its bare name, in the order of the layout.
  var norms: [(path: Path, name: String)] {
    layout.slots(blockCount: hyperparameters.blockCount).compactMap { slot in
      guard slot.input == nil, let parameter = slot.parameters.first, parameter.hasSuffix(".weight"),
        parameters[parameter] != nil
      else { return nil }
      let path = Path(String(parameter.dropLast(".weight".count)))
      return layout.normName(at: path).map { (path, $0) }
    }
  }

  /// - Throws: `.usage` where a file of deviations was named, which the checkpoint leaves no room for.
  func refuseDeviationFile(because reason: String) throws(Refusal) {
    guard options.deviations != nil || options.deviation != nil else { return }
    throw Refusal(.usage, subject: "\(.deviations)", reason, advice: "leave it out")
  }

  /// - Throws: `.usage` where every norm is stored, so that there is nothing for `--norms` to say.
  func requireMissingNorms() throws(Refusal) {
    let gains = layout.slots(blockCount: hyperparameters.blockCount).filter {
      $0.isOfNorm && $0.parameters[0].hasSuffix(".weight")
    }
    guard !gains.isEmpty, gains.allSatisfy({ parameters[$0.parameters[0]] != nil }) else { return }
    throw Refusal(
      .usage, subject: "\(.missingNorms)", "every norm of the checkpoint has its tensors, so that none was taken out",
      advice: "leave it out")
  }
}

extension Network {
  /// The network with the deviations that a dialect says. Readers of one norm that read it with different deviations get a
  /// norm each.
  ///
  /// - Parameter deviation: the deviation with which an operation reads a norm.
  package func settingDeviations(
    _ deviation: (_ norm: Path, _ reader: Path) throws(Refusal) -> Norm.Deviation
  ) throws(Refusal) -> Network {
    var result = self
    for (path, norm) in norms {
      var groups: [(deviation: Norm.Deviation, readers: [Path])] = []
      for reader in users(of: path).map(\.path) {
        let own = try deviation(path, reader)
        if let index = groups.firstIndex(where: { $0.deviation == own }) {
          groups[index].readers.append(reader)
        } else {
          groups.append((own, [reader]))
        }
      }
      for (index, group) in groups.enumerated() {
        var own = norm
        own.deviation = group.deviation
        if groups.count > 1 { own.readers = group.readers.map(\.lastComponent) }
        if index == 0 {
          result.replaceOperation(at: path, by: .norm(own))
        } else {
          guard let operand = result.node(at: path)?.operands.first, let first = group.readers.first else { continue }
          let place = path.appending(first.lastComponent)
          for reader in group.readers { result.redirect(reader, from: path, to: operand) }
          result.insert(.norm(own), at: place, on: operand, before: group.readers)
        }
      }
    }
    return result
  }
}
