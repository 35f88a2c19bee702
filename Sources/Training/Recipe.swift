import Glibc
import NormFoldFormats
import NormFoldNetworks

/// Everything that a removal is told besides the network and the text. A removal is a function of these and of the step.
///
/// A recipe file is a JSON object; `Documentation/Removal.md` has its keys.
///
///     var recipe = try Recipe(named: "gpt2-small-aux")
///     recipe.steps = 100
///     print(recipe.tokensPerStep, recipe.rate(atStep: 50))
public struct Recipe: Sendable, Equatable, Encodable {
  /// Tokens in a sequence.
  public var context = 1_024
  /// Sequences in a micro-batch: what goes through the network at a time.
  public var batch = 1
  /// Micro-batches in a step of the optimiser.
  public var microBatches = 1
  public var steps = 1
  /// The step at which the rate would be at its lowest; a run may stop before.
  public var plannedSteps: Int?
  /// The rate behind the warm-up.
  public var rate = 0.0
  /// The rate at the end of the plan.
  public var lowestRate = 0.0
  /// Steps in which the rate rises from 0.
  public var warmup = 0
  public var betas = [0.9, 0.999]
  public var adamEpsilon = 1e-8
  /// The weight decay of matrices; vectors do not decay.
  public var weightDecay = 0.0
  /// The largest norm of the gradient.
  public var clip = 1.0
  /// The share of its old value that the moving mean of a deviation keeps at each step.
  public var momentum = 0.0
  /// The weight of the term that makes the deviations before the last norm alike.
  public var auxiliaryWeight = 0.0
  /// A token that is read but never to be predicted.
  public var maskedTarget: Int?
  /// The token that ends a text: it does not count in the mean deviation of the auxiliary term.
  public var endOfText: Int?
  public var schedule: Schedule?
  /// The seed by which sequences are shuffled; nil to read them in order.
  public var shuffle: Int?
  /// The loss above the mean of the steps before at which a step counts as lost, and how many such steps in a row end the
  /// run; nil for none.
  public var abort: Abort?

  /// The text that is held out, and how often the loss on it is measured; nil where none is.
  public var validation: Validation?
  /// Steps in which a norm goes over from what it computes to its constant (arXiv 2602.10408); 0 for at once.
  public var taper = 0

  /// The last sequences of the text, which are not trained on.
  ///
  ///     recipe.validation = .init(sequences: 16, every: 20)
  public struct Validation: Sendable, Equatable, Encodable {
    public var sequences: Int
    /// Steps from one measurement to the next. The first is before any step, the last behind all of them.
    public var every: Int

    public init(sequences: Int, every: Int) { (self.sequences, self.every) = (sequences, every) }
  }

  public struct Abort: Sendable, Equatable, Encodable {
    public var above: Double
    public var steps: Int
  }

  public init() {}

  public var sequencesPerStep: Int { batch * microBatches }
  public var tokensPerStep: Int { sequencesPerStep * context }

  /// The rate of a step: it rises from 0, then follows a cosine to the lowest (transformers' `cosine_with_min_lr`).
  public func rate(atStep step: Int) -> Double {
    if step < warmup { return rate * Double(step) / Double(max(1, warmup)) }
    let x = Double(step - warmup) / Double(max(1, (plannedSteps ?? steps) - warmup))
    let lowest = rate > 0 ? lowestRate / rate : 0
    return rate * (0.5 * (1 + cos(Double.pi * x)) * (1 - lowest) + lowest)
  }
}

// MARK: Reading

extension Recipe {
  /// Reads a recipe file.
  ///
  /// - Throws: `.malformed` with the key that is missing, unknown or out of range.
  package init(file path: String) throws(Refusal) {
    let json = try MappedFile(path: path).parse { (bytes) throws(Refusal) in
      try JSONValue(parsing: bytes, file: path)
    }
    try self.init(json, file: path)
  }

  package init(_ json: JSONValue, file path: String) throws(Refusal) {
    guard let members = json.members else {
      throw Refusal(.malformed, file: path, "expected an object, found \(json.kind)")
    }
    var known: Set<String> = []
    func refusal(_ key: String, _ expected: String) -> Refusal {
      Refusal(.malformed, file: path, subject: key, "expected \(expected), found \(json[key]?.kind ?? "nothing")")
    }
    func value(_ key: String) -> JSONValue? {
      known.insert(key)
      return json[key].flatMap { $0.isNull ? nil : $0 }
    }
    func whole(_ key: String, from least: Int, to most: Int = 1 << 40) throws(Refusal) -> Int? {
      guard let value = value(key) else { return nil }
      guard let number = value.count, number >= least, number <= most else {
        throw refusal(key, "a whole number from \(least) to \(most)")
      }
      return number
    }
    func required(_ key: String, from least: Int, to most: Int = 1 << 20) throws(Refusal) -> Int {
      guard let number = try whole(key, from: least, to: most) else {
        throw refusal(key, "a whole number from \(least) to \(most)")
      }
      return number
    }
    func number(_ key: String, in range: ClosedRange<Double>, or usual: Double?) throws(Refusal) -> Double {
      guard let found = value(key)?.double ?? (json[key] == nil ? usual : nil), range.contains(found) else {
        throw refusal(key, "a number from \(range.lowerBound) to \(range.upperBound)")
      }
      return found
    }
    context = try required("context", from: 2)
    batch = try required("batch", from: 1)
    microBatches = try required("micro_batches", from: 1)
    steps = try required("steps", from: 1, to: 1 << 30)
    plannedSteps = try whole("planned_steps", from: 1)
    rate = try number("lr", in: 0...1, or: nil)
    lowestRate = try number("min_lr", in: 0...max(0, rate), or: 0)
    warmup = try whole("warmup", from: 0) ?? 0
    if let found = value("betas") {
      guard let numbers = found.array?.compactMap(\.double), numbers.count == 2,
        numbers.allSatisfy({ $0 >= 0 && $0 < 1 })
      else { throw refusal("betas", "two numbers from 0 to below 1") }
      betas = numbers
    }
    adamEpsilon = try number("adam_eps", in: 0...1, or: 1e-8)
    weightDecay = try number("weight_decay", in: 0...1, or: 0)
    clip = try number("clip", in: 1e-6...1e6, or: 1)
    momentum = try number("momentum", in: 0...1, or: 0)
    auxiliaryWeight = try number("aux_weight", in: 0...1e6, or: 0)
    maskedTarget = try whole("masked_target", from: 0)
    endOfText = try whole("end_of_text", from: 0)
    shuffle = try whole("shuffle", from: 0)
    if let found = value("abort") {
      guard let above = found["above"]?.double, above > 0, let steps = found["for"]?.count, steps > 0 else {
        throw refusal("abort", "an object such as {\"above\": 1.5, \"for\": 20}")
      }
      abort = Abort(above: above, steps: steps)
    }
    if let found = value("validation") {
      guard let sequences = found["sequences"]?.count, (1...1 << 20).contains(sequences),
        let every = found["every"]?.count, every > 0, found.members?.count == 2
      else { throw refusal("validation", "an object such as {\"sequences\": 16, \"every\": 20}") }
      validation = Validation(sequences: sequences, every: every)
    }
    taper = try whole("taper", from: 0, to: 1 << 20) ?? 0
    if let found = value("schedule") { schedule = try Schedule(found, file: path) }
    if let member = members.first(where: { !known.contains($0.key) }) {
      throw Refusal(
        .malformed, file: path, at: member.byteOffset, subject: member.key, "is no key of a recipe",
        advice: "known are \(known.sorted().joined(separator: ", "))")
    }
    if let plan = plannedSteps, plan < steps {
      throw Refusal(
        .malformed, file: path, subject: "planned_steps", "expected \(steps) or more, the steps, found \(plan)")
    }
  }

  /// The recipe as JSON, with every key: what a checkpoint keeps.
  package var json: JSONValue {
    func whole(_ number: Int?) -> JSONValue { number.map { .number($0) } ?? .null }
    func number(_ value: Double) -> JSONValue { .number("\(value)") }
    return .object([
      "context": whole(context), "batch": whole(batch), "micro_batches": whole(microBatches), "steps": whole(steps),
      "planned_steps": whole(plannedSteps), "lr": number(rate), "min_lr": number(lowestRate), "warmup": whole(warmup),
      "betas": .array(betas.map(number)), "adam_eps": number(adamEpsilon), "weight_decay": number(weightDecay),
      "clip": number(clip), "momentum": number(momentum), "aux_weight": number(auxiliaryWeight),
      "masked_target": whole(maskedTarget), "end_of_text": whole(endOfText), "shuffle": whole(shuffle),
      "abort": abort.map { .object(["above": number($0.above), "for": whole($0.steps)]) } ?? .null,
      "validation": validation.map { .object(["sequences": whole($0.sequences), "every": whole($0.every)]) } ?? .null,
      "taper": whole(taper), "schedule": schedule?.json ?? .null,
    ])
  }
}
