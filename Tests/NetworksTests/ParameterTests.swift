import NormFoldFormats
import NormFoldNetworks
import Testing
import TestSupport

/// The normal form of recipes: what can be decided without a number is decided when a recipe is made.
@Suite struct ParameterTests {
  private let a: Parameter
  private let b: Parameter
  private let v: Parameter
  private let w: Parameter

  init() throws {
    let directory = try TemporaryDirectory()
    var tensors = EditableTensors()
    tensors["A"] = .init([Double](repeating: 1, count: 24), shape: [4, 6])
    tensors["B"] = .init([Double](repeating: 1, count: 24), shape: [4, 6])
    tensors["v"] = .init([Double](repeating: 1, count: 4), shape: [4])
    tensors["w"] = .init([Double](repeating: 1, count: 6), shape: [6])
    try tensors.write(to: directory / "x.safetensors")
    let file = try Checkpoint(safetensors: directory / "x.safetensors")
    func stored(_ name: String) throws -> Parameter { .stored(try #require(file[name])) }
    (a, b, v, w) = (try stored("A"), try stored("B"), try stored("v"), try stored("w"))
  }

  // MARK: Transposition

  @Test("Transposing twice is nothing")
  func doubleTransposition() {
    for recipe in [
      a, a.sliced(axis: 1, 1..<3), a.scaled(by: v, axis: 0).centred(axis: 0), a.adding(b), a.multiplied(by: 2),
      a.multiplied(byMatrix: b.transposed()), .concatenating([a, b], axis: 1), .constant(3, shape: [2, 5]),
    ] {
      #expect(recipe.transposed().transposed() == recipe)
      #expect(recipe.transposed().shape == recipe.shape.reversed())
    }
  }

  @Test("Transposition stands at the stored tensor, and axes turn with it")
  func transpositionPushesDown() {
    let recipe = a.sliced(axis: 1, 2..<5).scaled(by: v, axis: 0).multiplied(by: 3).centred(axis: 0)
    #expect(recipe.description == "centre(3 · diag(v) · A[:, 2:5])")
    #expect(recipe.transposed().description == "centre(3 · Aᵀ[2:5] · diag(v))")
    #expect(a.adding(b).transposed().description == "Aᵀ + Bᵀ")
    #expect(
      Parameter.concatenating([a, b], axis: 0).transposed()
        == .concatenating([a.transposed(), b.transposed()], axis: 1))
  }

  // MARK: Slices

  @Test("A slice of a slice is a slice; a slice of everything is nothing")
  func slices() {
    #expect(a.sliced(axis: 0, 0..<4) == a)
    #expect(a.sliced(axis: 1, 1..<6).sliced(axis: 1, 2..<4) == a.sliced(axis: 1, 3..<5))
    #expect(a.sliced(axis: 1, 1..<6).sliced(axis: 0, 2..<4).description == "A[:, 1:6][2:4]")
    #expect(w.sliced(axis: 0, 1..<4).sliced(axis: 0, 1..<2).description == "w[2:3]")
    #expect(Parameter.constant(7, shape: [4, 6]).sliced(axis: 0, 1..<3) == .constant(7, shape: [2, 6]))
  }

  @Test("Neighbouring slices fuse into what they were cut from")
  func fusing() {
    let parts = [0..<2, 2..<3, 3..<6].map { a.sliced(axis: 1, $0) }
    #expect(Parameter.concatenating(parts, axis: 1) == a)
    #expect(Parameter.concatenating(Array(parts[1...]), axis: 1) == a.sliced(axis: 1, 2..<6))
    #expect(Parameter.concatenating([w.sliced(axis: 0, 0..<1), w.sliced(axis: 0, 1..<6)], axis: 0) == w)
    #expect(Parameter.concatenating([a], axis: 0) == a)
  }

  @Test("Slices that do not meet, or are of different things, do not fuse")
  func notFusing() {
    func concatenation(_ x: Parameter, _ y: Parameter) -> String {
      Parameter.concatenating([x, y], axis: 1).description
    }
    #expect(concatenation(a.sliced(axis: 1, 0..<2), a.sliced(axis: 1, 3..<6)) == "[A[:, 0:2] | A[:, 3:6]]")
    #expect(concatenation(a.sliced(axis: 1, 3..<6), a.sliced(axis: 1, 0..<3)) == "[A[:, 3:6] | A[:, 0:3]]")
    #expect(concatenation(a.sliced(axis: 1, 0..<3), b.sliced(axis: 1, 3..<6)) == "[A[:, 0:3] | B[:, 3:6]]")
  }

  @Test("Parts that were treated alike fuse below the treatment")
  func fusingBelow() {
    let parts = [0..<2, 2..<6].map { a.sliced(axis: 1, $0) }
    func fused(_ treat: (Parameter) -> Parameter) -> Parameter { .concatenating(parts.map(treat), axis: 1) }
    #expect(fused { $0.scaled(by: v, axis: 0).centred(axis: 0) } == a.scaled(by: v, axis: 0).centred(axis: 0))
    #expect(fused { $0.multiplied(by: 2) } == a.multiplied(by: 2))
    let biases = [0..<2, 2..<6].map { range in
      w.sliced(axis: 0, range).adding(v.projected(through: a.sliced(axis: 1, range)))
    }
    #expect(Parameter.concatenating(biases, axis: 0) == w.adding(v.projected(through: a)))
    // Centring along the axis of concatenation takes each part's own mean: that does not fuse.
    #expect(fused { $0.centred(axis: 1) }.description == "[centre(A[:, 0:2]) | centre(A[:, 2:6])]")
    // Different treatment does not, either.
    let unlike = [parts[0].scaled(by: v, axis: 0), parts[1].multiplied(by: 2)]
    #expect(Parameter.concatenating(unlike, axis: 1).description == "[diag(v) · A[:, 0:2] | 2 · A[:, 2:6]]")
  }

  // MARK: Constants and identities

  @Test("Arithmetic with constants is done at once")
  func constants() {
    let two = Parameter.constant(2, shape: [4])
    #expect(two.divided(by: .constant(4, shape: [4])).constantValue == 0.5)
    #expect(two.multiplied(by: 3).constantValue == 6)
    #expect(two.centred(axis: 0).constantValue == 0)
    #expect(v.divided(by: .constant(1, shape: [4])) == v)
    #expect(v.multiplied(by: 1) == v)
    #expect(v.multiplied(by: 2).multiplied(by: 3) == v.multiplied(by: 6))
    #expect(v.multiplied(by: 2).multiplied(by: 0.5) == v)
    #expect(v.adding(.constant(0, shape: [4])) == v)
    #expect(Parameter.constant(0, shape: [4]).adding(v) == v)
    #expect(Parameter.constant(0, shape: [4]).projected(through: a) == .constant(0, shape: [6]))
    #expect(a.scaled(by: two, axis: 0) == a.multiplied(by: 2))
    #expect(a.scaled(by: .constant(1, shape: [6]), axis: 1) == a)
    #expect(a.centred(axis: 0).centred(axis: 0) == a.centred(axis: 0))
    #expect(a.centred(axis: 0).centred(axis: 1).description == "centre(centre(A))")
  }

  @Test("Dividing by a constant and multiplying by it again is nothing, either way round")
  func quotientTimesConstant() {
    let million = Parameter.constant(1e6, shape: [4])
    #expect(v.divided(by: million).multiplied(by: 1e6) == v)
    #expect(v.multiplied(by: 1e6).divided(by: million) == v)
    #expect(v.divided(by: million).multiplied(by: 2).description == "2 · v / 1e+06")
  }

  // MARK: Inspection

  @Test("A sum inside a product is in parentheses")
  func parentheses() {
    #expect(a.adding(b).multiplied(by: 2).description == "2 · (A + B)")
    #expect(a.adding(b).scaled(by: v, axis: 0).description == "diag(v) · (A + B)")
    #expect(a.adding(b).scaled(by: w, axis: 1).description == "(A + B) · diag(w)")
    #expect(a.adding(b).sliced(axis: 0, 0..<2).description == "A[0:2] + B[0:2]")
    #expect(v.projected(through: a.adding(b)).description == "vᵀ · (A + B)")
    #expect(v.adding(v).divided(by: v).description == "(v + v) / v")
    #expect(v.adding(v).projected(through: a).description == "(v + v)ᵀ · A")
    #expect(a.adding(b).adding(a).description == "A + B + A")
    #expect(a.adding(b).centred(axis: 0).description == "centre(A + B)")
  }

  @Test("Stored tensors are listed once, in order of first mention")
  func storedTensors() {
    let recipe = a.scaled(by: v.divided(by: v), axis: 0).adding(b).adding(a)
    #expect(recipe.storedTensors.map(\.name) == ["A", "v", "B"])
    #expect(Parameter.constant(1, shape: [2]).storedTensors.isEmpty)
    #expect(a.storedTensor?.name == "A")
    #expect(a.transposed().storedTensor == nil)
  }

  @Test(
    "Numbers in formulas are as short as they can be said",
    arguments: [
      (1.0, "1"), (0.125, "0.125"), (1e6, "1e+06"), (-2, "-2"), (99_999, "99999"), (1e-5, "1e-05"),
    ])
  func formula(value: Double, expected: String) { #expect(value.formula == expected) }

  @Test("A rectangle of a stored matrix is seen as a view: its first element and its row length")
  func storedView() throws {
    let view = try #require(a.sliced(axis: 1, 2..<5).sliced(axis: 0, 1..<3).storedView)
    #expect((view.elementOffset, view.leadingDimension, view.isTransposed) == (8, 6, false))
    let turned = try #require(a.transposed().sliced(axis: 0, 2..<5).sliced(axis: 1, 1..<3).storedView)
    #expect((turned.elementOffset, turned.leadingDimension, turned.isTransposed) == (8, 6, true))
    #expect(a.multiplied(by: 2).storedView == nil)
  }
}
