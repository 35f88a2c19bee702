import ArgumentParser
import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks

/// Linear maps in 8-bit integers against the same maps in single precision, on one thread, by turns: the product alone, and
/// the map with its activations rounded and its result in floating point.
struct IntegerProducts: ParsableCommand {
  static let configuration = CommandConfiguration(commandName: "integers")

  @Option var rounds = 15
  @Option(parsing: .upToNextOption, help: "Rows, inputs and outputs, as in 256x768x3072.")
  var shapes = ["16x768x768", "64x768x3072", "256x768x3072", "1024x768x768", "1024x3072x768"]

  func run() throws {
    for shape in shapes {
      let sizes = shape.split(separator: "x").compactMap { Int($0) }
      guard sizes.count == 3 else { throw ValidationError("expected a shape such as 256x768x3072, found \(shape)") }
      let (rows, inputs, outputs) = (sizes[0], sizes[1], sizes[2])
      func number(_ index: Int) -> Float { Float((index &* 2_654_435_761) % 100_003) / 50_000 - 1 }
      let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 4 * inputs * outputs, alignment: 64)
      let weight = memory.initializeMemory(as: Float.self, from: (0..<inputs * outputs).map(number)).initialized
      // Frees the memory at its end.
      let file = MappedFile(owning: memory, path: "random numbers")
      let tensor = Tensor(
        info: TensorInfo(name: "weight", type: .f32, shape: [inputs, outputs]), file: file, byteOffset: 0)
      let map = LinearMap(weight: .stored(tensor), bias: nil)
      let node = Network.Node(path: "map", operation: .linear(map), operands: [])
      let x = Matrix<Float>(rows: rows, columns: inputs)
      for index in 0..<rows * inputs { x.values[index] = number(index &* 7) }
      let probes = [Probe(name: "", tokens: Array(repeating: 0, count: rows))]
      let float = FastBackend<Float>(probes: probes)
      let integers = DynamicBackend<Float>(probes: probes, weightBits: 8, activationBits: 8)
      guard let packed = PackedIntegers(map.weight, bits: 8), let wide = PackedIntegers(map.weight, bits: 10) else {
        preconditionFailure("a number is not finite")
      }
      let words = (0..<rows * inputs).map { Int16($0 &* 37 % 1_000) - 500 }
      let bytes = (0..<rows * inputs).map { Int8(truncatingIfNeeded: $0 &* 37) }
      let y = Matrix<Float>(rows: rows, columns: outputs)
      var times: [[Double]] = [[], [], [], [], []]
      for round in 0...rounds {
        let all = try [
          seconds {
            guard let start = weight.baseAddress else { return }
            withExtendedLifetime(file) {
              Float.multiply(
                rows: rows, columns: outputs, inner: inputs, x.start, strideA: inputs, start, strideB: outputs,
                isTransposed: false, factor: 1, beta: 0, into: y.start, strideC: outputs)
            }
          },
          seconds { _ = packed.sums(of: bytes, rows: rows, outputs: 0..<outputs) },
          seconds { _ = try float.evaluate(node, [x]) }, seconds { _ = try integers.evaluate(node, [x]) },
          seconds { _ = wide.sums(of: words, rows: rows, outputs: 0..<outputs) },
        ]
        if round > 0 { for index in 0..<5 { times[index].append(all[index]) } }
      }
      func ratio(_ a: Int, _ b: Int) -> Double { zip(times[a], times[b]).map { $0 / $1 }.median }
      print("product \(shape), single\t\(1e3 * times[0].median)\tms")
      print("product \(shape), int8\t\(1e3 * times[1].median)\tms")
      print("int8 over single, \(shape)\t\(ratio(0, 1))\tratio")
      print("int16 over single, \(shape)\t\(ratio(0, 4))\tratio")
      print("int:8,8 over single, the whole map, \(shape)\t\(ratio(2, 3))\tratio")
    }
  }
}
