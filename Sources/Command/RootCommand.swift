import ArgumentParser
import NormFold
import NormFoldArithmetic

@main
struct RootCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "normfold",
    abstract: "Turns a transformer whose norms have become linear into one without norms, and proves it.",
    discussion: """
      Reads a GPT-2 whose LayerNorms were removed by fine-tuning, folds each norm's fixed scale and bias into the \
      weights that read it, verifies that the logits are the same, and writes the result for the runtime you name.

      EXAMPLES
        normfold inspect gpt2-lnfree/
        normfold convert gpt2-lnfree/ out/ --for transformers
        normfold verify gpt2-lnfree/ out/
        normfold eval out/ --text book.txt --compare gpt2-lnfree/
        normfold generate out/ --prompt "Once upon a time"

      EXIT STATUS
         0  done, and every claim holds
         2  the arguments are wrong
         3  an input is malformed
         4  an input, or what a target would need, is not supported
         5  a norm cannot be folded
         6  NaN, infinity or overflow
         7  the logits are not the same
         8  the destination exists or cannot be written
         9  interrupted
        10  an error of this program
      """,
    version: Tool.nameAndVersion,
    subcommands: [
      InspectCommand.self, PlanCommand.self, ConvertCommand.self, RemoveCommand.self, TransferCommand.self,
      VerifyCommand.self,
      EvalCommand.self,
      CalibrateCommand.self, DiagnoseCommand.self, GenerateCommand.self, TokenizeCommand.self,
    ])

  static func main() {
    StandardStreams.reserveClosed()
    restartWhereOpenBLASIsTooOld()
    StandardStreams.turnSignalsIntoErrors()
    Interruption.removeStagedOutputOnSignals()
    prepareProcessForArithmetic()
    do {
      var command = try parseAsRoot()
      try command.run()
    } catch {
      ExitStatus.exit(with: error)
    }
  }
}
