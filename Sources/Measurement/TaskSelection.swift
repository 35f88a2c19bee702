import FoundationEssentials
import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks

/// A question of which task pictures belong to, in a ViT that has norms for several (arXiv 2308.09610): the state of the class token
/// behind the network as it was before its norms were tuned is compared with a key of each task.
///
///     let selection = TaskSelection(model: "continual/model.pth", images: ["cat.ppm"])
///     for image in try selection.run().images { print(image.name, image.task, image.similarities) }
public struct TaskSelection: Sendable, Encodable, ModelMeasurement {
  /// A directory or file, as the user named it.
  public var model: String
  /// Files of pictures of the size that the network reads: PPM and PGM with a byte for each number, or safetensors with `pixel_values`.
  public var images: [String]
  public var precision = Precision.single
  public var readingOptions = ReadingOptions()
  public var workers = Workers.all

  public init(model: String, images: [String]) {
    self.model = model
    self.images = images
  }

  /// - Throws: what opening the checkpoint throws; `.unsupported` for a network without keys of tasks for the whole image; what reading a
  ///   picture throws.
  public func run() throws(Refusal) -> TaskSelectionReport {
    let start = ContinuousClock.now
    let opened = try Model(opening: model, options: readingOptions, isUntuned: true)
    guard let image = opened.network.image, let (keys, weights) = try Self.keys(of: opened) else {
      throw Refusal(
        .unsupported, file: model, "has no keys of tasks for a whole image (wsm.key)",
        advice: "give a ViT whose norms were tuned for several tasks")
    }
    try opened.checkpoint.checkIntegrity()
    let preprocessor = try Picture.Preprocessor(in: opened.directory)
    var pictures: [Picture] = []
    for path in images { pictures += try Picture.all(in: path, for: image, preprocessor) }
    var network = opened.network
    network.setOutputs("final.norm")
    let states =
      switch precision {
      case .single: try states(of: network, pictures, image, as: Float.self)
      case .double: try states(of: network, pictures, image, as: Double.self)
      }
    try opened.checkpoint.requireIntact()
    return TaskSelectionReport(
      model: model, precision: precision,
      images: zip(pictures, states).map { picture, state in
        .init(
          name: picture.name,
          similarities: keys.indices.map { task in
            Self.cosine(weights.map { weights in zip(state, weights[task]).map { $0 * $1 } } ?? state, keys[task])
          })
      }, warnings: opened.warnings, seconds: (ContinuousClock.now - start) / .seconds(1))
  }

  private static func cosine(_ a: [Double], _ b: [Double]) -> Double {
    func product(_ a: [Double], _ b: [Double]) -> Double { zip(a, b).reduce(0) { $0 + $1.0 * $1.1 } }
    return product(a, b) / (product(a, a) * product(b, b)).squareRoot()
  }

  /// The key of each task and, where there are any, what features are multiplied by before they are compared with it: [tasks][width].
  private static func keys(of model: Model) throws(Refusal) -> (keys: [[Double]], weights: [[Double]]?)? {
    func rows(_ name: String) throws(Refusal) -> [[Double]]? {
      guard let tensor = model.checkpoint.tensors.first(where: { $0.name == name || $0.name.hasSuffix("." + name) })
      else { return nil }
      try tensor.requireWeights(in: model.checkpoint.path)
      let width = model.hyperparameters.dModel
      guard tensor.shape.count == 2, tensor.shape[1] == width else {
        throw Refusal(
          .malformed, file: model.checkpoint.path, subject: tensor.name,
          "expected a row of \(width) numbers for each task, found shape \(tensor.shape)")
      }
      let values = tensor.decoded(as: Double.self)
      return (0..<tensor.shape[0]).map { Array(values[$0 * width..<($0 + 1) * width]) }
    }
    guard let keys = try rows("wsm.key"), !keys.isEmpty else { return nil }
    let weights = try rows("wsm.att")
    guard weights?.count ?? keys.count == keys.count else {
      throw Refusal(
        .malformed, file: model.checkpoint.path, subject: "wsm.att", "expected \(keys.count) rows, as wsm.key has")
    }
    return (keys, weights)
  }

  /// The state of the class token of each picture.
  private func states<Scalar: ArithmeticScalar>(
    of network: Network, _ pictures: [Picture], _ image: ImageGrid, as scalar: Scalar.Type
  ) throws(Refusal) -> [[Double]] {
    var states: [[Double]] = []
    for picture in pictures {
      let probe = Probe(name: picture.name, pixels: picture.pixels, of: image)
      let rows = try network.logits(on: FastBackend<Scalar>(probes: [probe], workers: workers)).all()
      states.append(Array(rows.doubles().prefix(rows.columnCount)))
    }
    return states
  }
}

/// A report of which task each picture belongs to.
///
///     for image in report.images { print(image.name, image.task, image.similarities) }
public struct TaskSelectionReport: Encodable, Sendable {
  public struct Image: Encodable, Sendable {
    /// The file, and in one of several pictures its number.
    public var name: String
    /// The cosine of the picture's state and the key of each task.
    public var similarities: [Double]
    /// The task whose key is nearest, the first one among equals.
    public var task: Int

    fileprivate init(name: String, similarities: [Double]) {
      (self.name, self.similarities) = (name, similarities)
      task =
        similarities.indices.max {
          similarities[$0] < similarities[$1] || similarities[$0] == similarities[$1] && $0 > $1
        } ?? 0
    }
  }

  public var model: String
  package var precision: Precision
  public var images: [Image]
  public var warnings: [Message]
  public var seconds: Double
}
