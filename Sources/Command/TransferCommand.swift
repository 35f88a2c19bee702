import ArgumentParser
import NormFold
import NormFoldFormats

struct TransferCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "transfer",
    abstract: "Copies what one architecture shares with another into a checkpoint of the other's shape.",
    usage: "normfold transfer SOURCE TEMPLATE DESTINATION --map NAME|FILE [OPTIONS]",
    discussion: """
      The template has every tensor of the other architecture, such as one that was just initialised. Those that the map \
      names are replaced by the source's, bit for bit; the report and the metadata of the file name the origin of each. \
      Nothing is computed. A network whose norms were folded is not mixed with one whose norms were not.

      MAPS
        pythia-retnet         Pythia into the RetNet of XATL (arXiv 2404.02684), in the
                              names of lit-gpt; attention where a hybrid has it
        pythia-retnet-hf      the same in the names of its Hugging Face class
        pythia-striped-mamba  Pythia into its StripedMamba hybrids

      A file holds a JSON object of names in the template, each with the name in the source; # stands for the number of a \
      block: {"transformer.h.#.norm_1.weight": "gpt_neox.layers.#.input_layernorm.weight"}

      EXAMPLES
        normfold transfer pythia-410m/ retnet-random/ out/ --map pythia-retnet
        normfold transfer a/ b/ out/ --map names.json --json
      """)

  @Argument(help: .checkpoint, completion: .file())
  var source: String

  @Argument(help: "A checkpoint of the other architecture, likewise.", completion: .file())
  var template: String

  @Argument(help: "The directory to create.", completion: .directory)
  var destination: String

  @Option(help: ArgumentHelp("Which tensors become which.", valueName: "name|file"), completion: .file())
  var map: String

  @Flag(help: "Replace an existing directory.")
  var force = false

  @OptionGroup var output: OutputOptions

  func run() throws {
    var transfer = Transfer(source: source, template: template, destination: destination, map: map)
    transfer.replacesDestination = force
    let report = try transfer.run()
    try output.print(
      report, as: report.text, options: transfer, verdict: report.summary, advice: "the output itself is in place")
  }
}

extension TransferReport {
  fileprivate var summary: String {
    let copied = tensors.count { $0.origin == .source }
    return
      "\(destination.printable): \(copied) tensors of the source and \(tensors.count - copied) of the template, bit for bit."
  }

  fileprivate var text: String {
    var table = Table(["tensor": .left, "type": .left, "shape": .left, "from": .left, "as": .left])
    for tensor in tensors {
      table.add(
        tensor.name.printable, tensor.type, "\(tensor.shape)", tensor.origin.rawValue,
        tensor.originalName == tensor.name ? "" : tensor.originalName.printable)
    }
    var lines = [summary, "", table.text]
    if !unusedTensors.isEmpty {
      lines.append("  Not used of the source: \(unusedTensors.joined(separator: ", ").printable)")
    }
    return (lines + notes.map { "  Note: \($0.printable)" }).joined(separator: "\n")
  }
}
