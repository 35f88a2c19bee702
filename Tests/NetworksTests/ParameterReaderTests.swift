import NormFoldFormats
import NormFoldNetworks
import Testing
import TestSupport

/// The plain version of a recipe: a matrix of Doubles, every element by its definition.
private struct Naive {
  var rows: Int
  var columns: Int
  var element: (Int, Int) -> Double

  init(_ rows: Int, _ columns: Int, _ element: @escaping (Int, Int) -> Double) {
    // Evaluated once, so that a deep recipe stays cheap.
    let values = (0..<rows).map { row in (0..<columns).map { element(row, $0) } }
    (self.rows, self.columns, self.element) = (rows, columns, { values[$0][$1] })
  }

  init(_ parameter: Parameter, strided: [String: [Double]]) {
    let isVector = parameter.shape.count == 1
    let (rows, columns) = (parameter.rowCount, parameter.columnCount)
    func naive(_ inner: Parameter) -> Naive { Naive(inner, strided: strided) }
    switch parameter.expression {
    case .stored(let tensor):
      let values = strided[tensor.name] ?? tensor.decoded(as: Double.self)
      self.init(rows, columns) { values[$0 * columns + $1] }
    case .constant(let value): self.init(rows, columns) { _, _ in value }
    case .transposed(let inner):
      let inner = naive(inner)
      self.init(rows, columns) { inner.element($1, $0) }
    case .slice(let inner, let axis, let range):
      let inner = naive(inner)
      let isRow = axis == 0 && !isVector
      self.init(rows, columns) {
        isRow ? inner.element($0 + range.lowerBound, $1) : inner.element($0, $1 + range.lowerBound)
      }
    case .concatenation(let parts, let axis):
      let parts = parts.map(naive)
      let isRow = axis == 0 && !isVector
      let places = parts.flatMap { part in (0..<(isRow ? part.rows : part.columns)).map { (part, $0) } }
      self.init(rows, columns) {
        isRow ? places[$0].0.element(places[$0].1, $1) : places[$1].0.element($0, places[$1].1)
      }
    case .scaled(let inner, let by, let axis):
      let (inner, by) = (naive(inner), naive(by))
      let isRow = axis == 0 && !isVector
      self.init(rows, columns) { inner.element($0, $1) * by.element(0, isRow ? $0 : $1) }
    case .reordered(let inner, let axis, let order):
      let inner = naive(inner)
      let isRow = axis == 0 && !isVector
      // Each element is carried to where its coordinates are in the new order of the factors.
      var origins = [Int](repeating: 0, count: isRow ? rows : columns)
      let period = order.extents.reduce(1, *)
      for start in stride(from: 0, to: origins.count, by: period) {
        for index in 0..<period {
          var coordinates: [Int] = []
          var rest = index
          for extent in order.extents.reversed() {
            coordinates.insert(rest % extent, at: 0)
            rest /= extent
          }
          let place = order.order.reduce(0) { $0 * order.extents[$1] + coordinates[$1] }
          origins[start + place] = start + index
        }
      }
      let fixed = origins
      self.init(rows, columns) { isRow ? inner.element(fixed[$0], $1) : inner.element($0, fixed[$1]) }
    case .multiplied(let inner, let factor):
      let inner = naive(inner)
      self.init(rows, columns) { inner.element($0, $1) * factor }
    case .quotient(let a, let b):
      let (a, b) = (naive(a), naive(b))
      self.init(rows, columns) { a.element($0, $1) / b.element($0, $1) }
    case .sum(let a, let b):
      let (a, b) = (naive(a), naive(b))
      self.init(rows, columns) { a.element($0, $1) + b.element($0, $1) }
    case .centred(let inner, let axis):
      let inner = naive(inner)
      let isColumn = axis == 0 && !isVector
      self.init(rows, columns) { row, column in
        let count = isColumn ? rows : columns
        let mean =
          (0..<count).reduce(0) { $0 + (isColumn ? inner.element($1, column) : inner.element(row, $1)) } / Double(count)
        return inner.element(row, column) - mean
      }
    case .compressed(let inner, let axis):
      let inner = naive(inner)
      let isColumn = axis == 0 && !isVector
      self.init(rows, columns) { row, column in
        inner.element(row, column) - (isColumn ? inner.element(rows, column) : inner.element(row, columns))
      }
    case .projection(let vector, let matrix):
      let (vector, matrix) = (naive(vector), naive(matrix))
      self.init(rows, columns) { _, column in
        (0..<matrix.rows).reduce(0) { $0 + vector.element(0, $1) * matrix.element($1, column) }
      }
    case .product(let a, let b):
      let (a, b) = (naive(a), naive(b))
      self.init(rows, columns) { row, column in
        (0..<a.columns).reduce(0) { $0 + a.element(row, $1) * b.element($1, column) }
      }
    }
  }
}

@Suite struct ParameterReaderTests {
  /// Stored tensors of one element type: A, B [5, 7], C [7, 5] where the type allows strides lies as Aᵀ, L [5, 2],
  /// R [2, 7], v [5], w [7].
  private struct Stored {
    let directory: TemporaryDirectory
    let file: Checkpoint
    /// What a strided tensor holds, worked out without strides.
    var strided: [String: [Double]] = [:]

    init(type: ElementType) throws {
      directory = try TemporaryDirectory()
      var tensors = EditableTensors()
      var generator = Generator(state: 5)
      for (name, shape) in [("A", [5, 7]), ("B", [5, 7]), ("L", [5, 2]), ("R", [2, 7]), ("v", [5]), ("w", [7])] {
        let values = (0..<shape.reduce(1, *)).map { _ in generator.next(in: -2..<2) }
        tensors[name] = .init(values, shape: shape, type: type)
      }
      try tensors.write(to: directory / "x.safetensors")
      file = try Checkpoint(safetensors: directory / "x.safetensors")
    }

    func callAsFunction(_ name: String) throws -> Parameter { .stored(try #require(file[name])) }

    /// A seen through strides, [7, 5]: a transposed view as PyTorch stores it.
    mutating func view() throws -> Parameter {
      let tensor = try #require(file["A"])
      let info = TensorInfo(name: "view", type: tensor.info.type, shape: [7, 5])
      let values = tensor.decoded(as: Double.self)
      strided["view"] = (0..<7).flatMap { row in (0..<5).map { values[$0 * 7 + row] } }
      return .stored(Tensor(info: info, file: tensor.file, byteOffset: tensor.byteOffset, elementStrides: [1, 7]))
    }
  }

  private struct Generator: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return state ^ (state >> 29)
    }
    mutating func next(in range: Range<Double>) -> Double { Double.random(in: range, using: &self) }
  }

  /// The features of each head, whose pairs lie apart, with each pair side by side.
  private static func pairsTogether(_ width: Int) -> AxisOrder { AxisOrder(extents: [2, width / 2], order: [1, 0]) }

  /// Every kind of expression, and those that a fold makes.
  private static func recipes(_ stored: inout Stored) throws -> [Parameter] {
    let (a, b, l, r) = (try stored("A"), try stored("B"), try stored("L"), try stored("R"))
    let (v, w, view) = (try stored("v"), try stored("w"), try stored.view())
    let ratio = v.divided(by: .constant(3, shape: [5]))
    let fold = a.scaled(by: ratio, axis: 0).centred(axis: 0)
    return [
      a, view, a.transposed(), view.transposed(), .constant(2.5, shape: [5, 7]), .constant(-1, shape: [7]),
      a.sliced(axis: 0, 1..<4), a.sliced(axis: 1, 2..<7), a.sliced(axis: 1, 2..<7).sliced(axis: 0, 1..<4),
      w.sliced(axis: 0, 3..<6), view.sliced(axis: 0, 2..<5).sliced(axis: 1, 1..<4),
      .concatenating([a, b], axis: 0), .concatenating([a, b, l], axis: 1), .concatenating([v, w], axis: 0),
      .concatenating([a.sliced(axis: 0, 3..<5), b, .constant(1, shape: [2, 7])], axis: 0),
      a.scaled(by: v, axis: 0), a.scaled(by: w, axis: 1), view.scaled(by: w, axis: 0), w.scaled(by: w, axis: 0),
      a.multiplied(by: -0.25), v.divided(by: v.multiplied(by: 3)), ratio, a.adding(b), v.adding(v.multiplied(by: 2)),
      a.centred(axis: 0), a.centred(axis: 1), w.centred(axis: 0), view.centred(axis: 0), view.centred(axis: 1),
      a.centred(axis: 0).centred(axis: 1), v.projected(through: a), w.projected(through: a.transposed()),
      w.projected(through: view), v.projected(through: view.transposed()),
      v.projected(through: a.sliced(axis: 1, 1..<4)),
      l.multiplied(byMatrix: r), l.multiplied(byMatrix: r).transposed(),
      a.adding(l.multiplied(byMatrix: r).multiplied(by: 0.5)).scaled(by: ratio, axis: 0).centred(axis: 0),
      a.compressed(axis: 0), a.compressed(axis: 1), w.compressed(axis: 0), view.compressed(axis: 0),
      a.scaled(by: ratio, axis: 0).compressed(axis: 0), a.centred(axis: 1).compressed(axis: 0).transposed(),
      a.compressed(axis: 0).sliced(axis: 0, 1..<3), a.compressed(axis: 0).sliced(axis: 1, 1..<3),
      a.centred(axis: 1).sliced(axis: 1, 0..<6), fold, fold.transposed(), fold.sliced(axis: 1, 3..<6),
      view.transposed().scaled(by: ratio, axis: 0).centred(axis: 0),
      Parameter.concatenating([fold.sliced(axis: 1, 0..<3), b.centred(axis: 0)], axis: 1).transposed(),
      a.sliced(axis: 1, 1..<5).reordered(axis: 1, pairsTogether(4)),
      a.sliced(axis: 0, 0..<4).reordered(axis: 0, pairsTogether(4).inverse).transposed(),
      a.sliced(axis: 1, 1..<7).transposed().reordered(axis: 0, pairsTogether(6).inverse),
      fold.sliced(axis: 1, 0..<6).reordered(axis: 1, pairsTogether(6)),
      view.sliced(axis: 0, 0..<6).reordered(axis: 0, pairsTogether(6)).scaled(by: v, axis: 1),
      w.sliced(axis: 0, 1..<7).reordered(axis: 0, pairsTogether(6).inverse),
      v.projected(through: a.sliced(axis: 1, 0..<6)).reordered(axis: 0, pairsTogether(6)),
      // Parts that are interleaved head by head: [head, part, feature] to [part, head, feature].
      Parameter.concatenating([a, b, a], axis: 1).sliced(axis: 1, 0..<18)
        .reordered(axis: 1, AxisOrder(extents: [3, 2, 3], order: [1, 0, 2])),
      w.adding(v.projected(through: a)), w.adding(v.projected(through: a)).sliced(axis: 0, 2..<6),
    ]
  }

  /// Sums of at most seven products of order one, in another order: a few units in the last place.
  private static let tolerance = 1e-13

  @Test(
    "Every recipe is what its definition says, whole, in every rectangle, and by blocks",
    arguments: [
      ElementType.f32, .f64, .f16, .bf16,
    ])
  func againstDefinition(_ type: ElementType) throws {
    var stored = try Stored(type: type)
    let recipes = try Self.recipes(&stored)
    var rectangleCount = 0
    for recipe in recipes {
      let naive = Naive(recipe, strided: stored.strided)
      let reader = ParameterReader(recipe)
      try #require(reader.rowCount == naive.rows && reader.columnCount == naive.columns, "\(recipe)")
      for top in 0..<naive.rows {
        for bottom in top + 1...naive.rows {
          for left in 0..<naive.columns {
            for right in left + 1...naive.columns {
              let found = reader.values(rows: top..<bottom, columns: left..<right)
              let expected = (top..<bottom).flatMap { row in (left..<right).map { naive.element(row, $0) } }
              rectangleCount += 1
              guard zip(found, expected).allSatisfy({ abs($0 - $1) <= Self.tolerance }), found.count == expected.count
              else {
                Issue.record(
                  "\(recipe), rows \(top)..<\(bottom), columns \(left)..<\(right): \(found), expected \(expected)")
                return
              }
            }
          }
        }
      }
      var blocks: [Double] = []
      reader.forEachBlock { _, values in blocks += values }
      #expect(blocks == reader.values(), "\(recipe)")
    }
    #expect(rectangleCount > 10_000)
  }

  @Test(
    "Exact operations are exact: stored values of every type come through bit for bit",
    arguments: [
      ElementType.f32, .f64, .f16, .bf16,
    ])
  func exact(_ type: ElementType) throws {
    var stored = try Stored(type: type)
    let a = try #require(stored.file["A"])
    #expect(ParameterReader(.stored(a)).values() == a.decoded(as: Double.self))
    #expect(ParameterReader(try stored.view()).values() == ParameterReader(Parameter.stored(a).transposed()).values())
  }

  @Test("Every rectangle across the stored rows is the matrix's own", arguments: [ElementType.f32, .f64, .bf16])
  func across(_ type: ElementType) throws {
    let directory = try TemporaryDirectory()
    let (rows, columns) = (21, 13)
    var tensors = EditableTensors()
    tensors["M"] = .init((0..<rows * columns).map { Double($0 % 251) / 4 }, shape: [rows, columns], type: type)
    try tensors.write(to: directory / "x.safetensors")
    let matrix = try #require(try Checkpoint(safetensors: directory / "x.safetensors")["M"])
    let values = matrix.decoded(as: Double.self)
    let reader = ParameterReader(Parameter.stored(matrix).transposed())
    for top in 0..<columns {
      for bottom in top + 1...columns {
        for left in 0..<rows {
          for right in left + 1...rows {
            let expected = (top..<bottom).flatMap { row in (left..<right).map { values[$0 * columns + row] } }
            try #require(reader.values(rows: top..<bottom, columns: left..<right) == expected)
          }
        }
      }
    }
  }

  @Test("A matrix of more than one block is centred by the means of all its rows")
  func manyBlocks() throws {
    let directory = try TemporaryDirectory()
    let (rows, columns) = (1_500, 257)
    var tensors = EditableTensors()
    tensors["M"] = .init((0..<rows * columns).map { Double(($0 * 7_919) % 1_009) / 64 }, shape: [rows, columns])
    tensors["v"] = .init((0..<rows).map { Double($0 % 13) }, shape: [rows])
    try tensors.write(to: directory / "x.safetensors")
    let file = try Checkpoint(safetensors: directory / "x.safetensors")
    let matrix = Parameter.stored(try #require(file["M"]))
    let vector = Parameter.stored(try #require(file["v"]))
    let reader = ParameterReader(matrix.centred(axis: 0))
    #expect(reader.rowsPerBlock < rows)
    let values = ParameterReader(matrix).values()
    let sums = (0..<columns).map { column in (0..<rows).reduce(0) { $0 + values[$1 * columns + column] } }
    let found = reader.values(rows: 1_400..<1_401, columns: 0..<columns)
    for column in 0..<columns {
      #expect(abs(found[column] - (values[1_400 * columns + column] - sums[column] / Double(rows))) <= 1e-12)
    }
    // The products are multiples of 1/64 and their sums stay exact.
    let projected = (0..<columns).map { column in
      (0..<rows).reduce(0) { $0 + Double($1 % 13) * values[$1 * columns + column] }
    }
    #expect(ParameterReader(vector.projected(through: matrix)).values() == projected)
    var starts: [Int] = []
    reader.forEachBlock { rows, _ in starts.append(rows.lowerBound) }
    #expect(starts == Array(stride(from: 0, to: rows, by: reader.rowsPerBlock)))
  }
}
