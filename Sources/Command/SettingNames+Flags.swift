import NormFoldFolding
import NormFoldFormats

extension SettingNames {
  /// The flags of this command, for messages to its user.
  static let flags = SettingNames { setting, value in
    switch (setting, value) {
    // These are flags without a value, one for each rule.
    case (.rules, let rule?): "--\(rule)"
    case (.rules, nil): setting.flags.joined(separator: " or ")
    // As `ReadingOptions.Tokenizer.init(argument:)` reads it.
    case (.tokenizer, "absent"): "--tokenizer none"
    default: setting.flags[0] + (value.map { " \($0)" } ?? "")
    }
  }
}

extension Setting {
  /// The names that the command has for the setting; the rules are several flags.
  var flags: [String] {
    switch self {
    case .adapters: ["--adapter"]
    case .assumesEndOfTextDisabled: ["--assume-eot-disabled"]
    case .deviationAxis: ["--deviation-axis"]
    case .deviations: ["--deviations"]
    case .head: ["--head"]
    case .ignoredTensors: ["--ignore"]
    case .layout: ["--layout"]
    case .missingNorms: ["--norms"]
    case .normScaling: ["--norm-scaling"]
    case .permutesHeadScales: ["--permuted-head-scales"]
    case .modality: ["--modality"]
    case .removalStep: ["--removal-step"]
    case .strippedPrefixes: ["--strip-prefix"]
    case .task: ["--task"]
    case .tokenizer: ["--tokenizer"]
    case .allowsApproximateActivation: ["--allow-approximate-activation"]
    case .allowsPartial: ["--allow-partial"]
    case .normForm: ["--to-norm"]
    case .onnxForm: ["--onnx-form"]
    case .onnxLength: ["--onnx-length"]
    case .replacesDestination: ["--force"]
    case .rules: FoldingRule.allCases.map { "--\($0.rawValue)" }
    case .targets: ["--for"]
    case .type: ["--type"]
    case .probeLength: ["--probe-length"]
    case .contextLength: ["--context"]
    case .integers: ["--arithmetic"]
    case .other: ["--compare"]
    case .keepsRemainder: ["--keep-remainder"]
    case .precision: ["--precision"]
    case .prependsEndOfText: ["--prepend-eot"]
    case .stride: ["--stride"]
    case .text: ["--text"]
    case .tokenLimit: ["--limit"]
    case .recipe: ["--recipe"]
    case .resumes: ["--resume"]
    case .sites: ["--sites"]
    case .format: ["--format"]
    }
  }
}

extension Message {
  /// The message for the user of the command, with what a terminal would obey spelt out.
  var printable: String { text(naming: .flags).printable }
}
