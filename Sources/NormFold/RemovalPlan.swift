import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks
import NormFoldTraining

/// The work and the needs of a removal, known before any text is read.
///
///     let plan = try RemovalPlan(of: removal)
///     print(plan.tokenCount, plan.operationCount, plan.byteCount, plan.hours(cores: 64))
public struct RemovalPlan: Sendable, Encodable {
  /// When the sites of a kind are fixed.
  public struct Switches: Sendable, Encodable {
    /// `ln_1.qk`, as recipes spell it.
    public let kind: String
    public let firstStep: Int
    public let lastStep: Int
  }

  public let source: String
  public let parameterCount: Int
  public let stepCount: Int
  public let tokensPerStep: Int
  public let tokenCount: Int
  public let switches: [Switches]
  /// Floating-point operations of the matrix products for one token, the way back included.
  public let operationsPerToken: Double
  public let operationCount: Double
  /// Parameters, gradients, moments, and what a micro-batch keeps for the way back.
  public let byteCount: Int
  /// The gradient, which processes add up in every step.
  public let gradientByteCount: Int
  /// Multiplications and additions in a second that each core of this machine does now while all of them multiply, in products of
  /// the size of GPT-2's.
  public let operationsPerSecond: Double

  /// The share of a product's speed that a training step is taken to reach.
  private static let efficiency = 5.0 / 6

  /// The time that the run takes on so many cores like this machine's, if a step reaches five sixths of the products' speed.
  public func hours(cores: Int) -> Double {
    operationCount / (operationsPerSecond * Self.efficiency * Double(cores)) / 3_600
  }

  /// The bytes that each process of MPI sends and receives for the sum of the gradients of a step: twice the gradient, but
  /// for its own part.
  public func exchangedByteCount(processes: Int) -> Double {
    2 * Double(processes - 1) / Double(max(1, processes)) * Double(gradientByteCount)
  }

  /// The bytes that each process holds where they share the optimiser's moments.
  public func byteCount(sharedBy processes: Int) -> Int {
    byteCount - 2 * gradientByteCount + 2 * gradientByteCount / max(1, processes)
  }

  /// The time that several machines take, each with so many cores like this machine's, one process each.
  ///
  /// - Parameters:
  ///   - machines: how many there are.
  ///   - cores: of each machine.
  ///   - bytesPerSecond: what a machine sends and receives at the same time.
  public func hours(machines: Int, cores: Int, bytesPerSecond: Double) -> Double {
    hours(cores: machines * cores)
      + Double(stepCount) * exchangedByteCount(processes: machines) / bytesPerSecond / 3_600
  }

  /// - Throws: what opening the source throws; a refusal where recipe and network do not fit.
  public init(of removal: Removal) throws(Refusal) {
    let model = try Model(opening: removal.source, options: removal.readingOptions)
    let (network, recipe) = (model.network, try removal.followedRecipe())
    try recipe.require(trainable: network)
    try removal.integers?.requireForm(ofTraining: network, context: recipe.context)
    source = removal.source
    parameterCount = network.parameterCount
    stepCount = recipe.steps
    tokensPerStep = recipe.tokensPerStep
    tokenCount = recipe.steps * recipe.tokensPerStep
    switches = (recipe.schedule?.starts ?? [:]).map { kind, start in
      Switches(
        kind: kind.rawValue, firstStep: start.step,
        lastStep: start.step + (kind == .last ? 0 : (network.blockCount - 1) * start.gap))
    }.sorted { $0.firstStep < $1.firstStep }
    // A product takes two operations for each weight and token, and twice that on the way back; attention as many for each
    // pair of features and tokens that see each other, which is half of them.
    var (blocks, head) = (0.0, 0.0)
    for node in network.nodes {
      switch node.operation {
      case .linear(let map):
        let count = 6 * Double(map.weight.elementCount)
        if node.path == network.output { head += count } else { blocks += count }
      case .attend: blocks += 6 * Double(recipe.context * network.width(of: node.path))
      case .embed, .patches, .features, .norm, .rotate, .activate, .scale, .scaleFeatures, .add, .multiply, .select:
        continue
      }
    }
    operationsPerToken = head + blocks * (removal.recomputesBlocks ? 4.0 / 3 : 1)
    operationCount = operationsPerToken * Double(tokenCount)
    let scalar = removal.precision == .single ? MemoryLayout<Float>.stride : MemoryLayout<Double>.stride
    gradientByteCount = scalar * parameterCount
    let kept = network.keptWidth(recomputesBlocks: removal.recomputesBlocks) + network.derivativeWidth
    // Integers of the weights are kept in Doubles.
    let integerCount = removal.integers == nil ? 0 : parameterCount
    byteCount =
      scalar
      * (4 * parameterCount + kept * recipe.batch * recipe.context
        + TrainingRun<Float>.headNumberCount(of: network, context: recipe.context))
      + MemoryLayout<Double>.stride * integerCount
    operationsPerSecond = Self.measuredSpeed()
  }

  /// Some tenths of a second of products of 256 × 768 × 768 numbers on all cores: each is slower than if it were alone.
  private static func measuredSpeed() -> Double {
    let (rows, width, productCount) = (256, 768, 8)
    let workers = Workers.all
    let operands = (0..<workers.count).map { _ in
      [(rows, width), (width, width), (rows, width)].map { rows, columns in
        let matrix = Matrix<Float>(rows: rows, columns: columns)
        unsafe matrix.values.initialize(repeating: 0.5)
        return matrix
      }
    }
    let clock = ContinuousClock()
    var times: [Duration] = []
    for _ in 0..<15 {
      let time = clock.measure {
        workers.forEach(workers.count) { core in
          let (a, b, c) = (operands[core][0], operands[core][1], operands[core][2])
          for _ in 0..<productCount {
            unsafe Float.multiply(
              rows: rows, columns: width, inner: width, a.start, strideA: width, b.start, strideB: width,
              isTransposed: false, factor: 1, beta: 0, into: c.start, strideC: width)
          }
        }
      }
      times.append(time)
    }
    let median = times.sorted()[times.count / 2]
    return 2 * Double(rows * width * width) * Double(productCount) / (median / .seconds(1))
  }
}
