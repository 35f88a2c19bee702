// swift-tools-version: 6.2
import PackageDescription

let strict: [SwiftSetting] = [
  .treatAllWarnings(as: .error),
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("MemberImportVisibility"),
]

/// Modules that parse untrusted bytes or decide what happens to them say `unsafe` wherever they are.
let strictest = strict + [.strictMemorySafety()]

/// The suite spends its time in these modules: 'make test' has them optimised in a debug build, too. Nobody else does, since
/// SwiftPM lets no package depend on one with such flags.
let isOptimised = Context.environment["NORMFOLD_OPTIMISED"] != nil
let optimised: [SwiftSetting] = isOptimised ? [.unsafeFlags(["-O"])] : []
let hot = strictest + optimised
let hotC: [CSetting] = isOptimised ? [.unsafeFlags(["-O2"])] : []

let package = Package(
  name: "normfold",
  products: [
    .executable(name: "normfold", targets: ["NormFoldCommand"]),
    .library(name: "NormFold", targets: ["NormFold"]),
  ],
  traits: [
    .trait(
      name: "MPI",
      description:
        "Lets 'normfold remove', 'eval' and 'calibrate' work in processes that an MPI started (libopenmpi-dev).")
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
    .package(url: "https://github.com/apple/swift-log", from: "1.16.0"),
    .package(url: "https://github.com/apple/swift-numerics", from: "1.1.0"),
  ],
  targets: [
    // MARK: System libraries
    .systemLibrary(name: "CNormFoldLinux"),
    .systemLibrary(name: "CNormFoldOpenBLAS", pkgConfig: "openblas", providers: [.apt(["libopenblas-dev"])]),
    .systemLibrary(name: "CNormFoldProtobuf", pkgConfig: "libprotobuf-c", providers: [.apt(["libprotobuf-c-dev"])]),
    .systemLibrary(name: "CNormFoldZstd", pkgConfig: "libzstd", providers: [.apt(["libzstd-dev"])]),
    .systemLibrary(name: "CNormFoldZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),
    .systemLibrary(name: "CNormFoldCrypto", pkgConfig: "libcrypto", providers: [.apt(["libssl-dev"])]),
    .systemLibrary(name: "CNormFoldMPI", pkgConfig: "mpi-c", providers: [.apt(["libopenmpi-dev"])]),

    // MARK: One direction: bytes → tensors → networks → folded networks → files
    .target(name: "CNormFoldMappingGuard"),
    .target(name: "CNormFoldKernels", cSettings: hotC),
    .target(
      name: "NormFoldFormats",
      dependencies: [
        "CNormFoldMappingGuard", "CNormFoldKernels", "CNormFoldLinux", "CNormFoldZstd", "CNormFoldZlib",
        "CNormFoldCrypto",
      ],
      swiftSettings: hot),
    .target(name: "NormFoldNetworks", dependencies: ["NormFoldFormats", "CNormFoldKernels"], swiftSettings: hot),
    .target(name: "NormFoldFolding", dependencies: ["NormFoldNetworks"], swiftSettings: strictest),
    .target(
      name: "NormFoldArithmetic",
      dependencies: [
        "NormFoldNetworks", "NormFoldFormats", "CNormFoldKernels", "CNormFoldLinux", "CNormFoldOpenBLAS",
        .product(name: "Numerics", package: "swift-numerics"),
      ],
      swiftSettings: hot),
    .target(
      name: "NormFoldVerify",
      dependencies: [
        "NormFoldArithmetic", "CNormFoldKernels", "NormFoldNetworks", "NormFoldFormats",
        .product(name: "Numerics", package: "swift-numerics"),
      ],
      swiftSettings: hot),
    .target(name: "NormFoldTokenization", dependencies: ["NormFoldFormats"], swiftSettings: hot),
    .target(
      name: "CNormFoldProcesses", dependencies: [.target(name: "CNormFoldMPI", condition: .when(traits: ["MPI"]))],
      cSettings: [.define("NORMFOLD_MPI", .when(traits: ["MPI"]))]),
    .target(
      name: "NormFoldProcesses",
      dependencies: [
        "NormFoldArithmetic", "NormFoldFormats",
        .target(name: "CNormFoldProcesses", condition: .when(traits: ["MPI"])),
      ],
      swiftSettings: strictest),
    .target(
      name: "NormFoldMeasurement",
      dependencies: [
        "NormFoldProcesses", "NormFoldArithmetic", "NormFoldNetworks", "NormFoldTokenization", "NormFoldFormats",
      ],
      swiftSettings: strictest),
    .target(
      name: "NormFoldTraining",
      dependencies: [
        "NormFoldProcesses", "NormFoldArithmetic", "NormFoldNetworks", "NormFoldFormats",
        .product(name: "Numerics", package: "swift-numerics"),
      ],
      swiftSettings: hot),
    .target(
      name: "NormFoldTargets",
      dependencies: [
        "NormFoldONNX", "NormFoldNetworks", "NormFoldTokenization", "NormFoldFormats", "CNormFoldKernels",
      ],
      swiftSettings: strictest),
    .target(name: "CNormFoldOnnxProto", dependencies: ["CNormFoldProtobuf"], exclude: ["onnx.proto"]),
    .target(
      name: "NormFoldONNX",
      dependencies: ["NormFoldNetworks", "NormFoldFormats", "CNormFoldOnnxProto", "CNormFoldProtobuf"],
      swiftSettings: hot),
    .target(
      name: "NormFold",
      dependencies: [
        "NormFoldFormats", "NormFoldNetworks", "NormFoldFolding", "NormFoldArithmetic", "NormFoldVerify",
        "NormFoldMeasurement", "NormFoldTraining", "NormFoldProcesses", "NormFoldTargets",
        .product(name: "Logging", package: "swift-log"),
      ],
      swiftSettings: strictest),
    .target(
      name: "NormFoldReport",
      dependencies: [
        "NormFold", "NormFoldMeasurement", "NormFoldTraining", "NormFoldFolding", "NormFoldArithmetic",
        "NormFoldVerify", "NormFoldFormats",
      ],
      swiftSettings: strictest),
    .executableTarget(
      name: "NormFoldCommand",
      dependencies: [
        "NormFoldReport", "NormFold", "NormFoldFolding", "NormFoldFormats", "NormFoldMeasurement", "NormFoldNetworks",
        "NormFoldTokenization", "NormFoldArithmetic", "NormFoldVerify",
        "NormFoldTraining", "NormFoldProcesses",
        .product(name: "Logging", package: "swift-log"),
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      path: "Sources/Command", swiftSettings: strictest),

    // MARK: Examples
    .executableTarget(
      name: "normfold-example", dependencies: ["NormFold"], path: "Examples", swiftSettings: strictest),

    // MARK: Benchmarks
    .executableTarget(
      name: "normfold-benchmarks",
      dependencies: [
        "NormFold", "NormFoldMeasurement", "NormFoldTraining", "NormFoldFormats", "NormFoldNetworks",
        "NormFoldArithmetic", "NormFoldVerify",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      path: "Benchmarks/Harness", swiftSettings: strict),

    // MARK: Tests
    .target(
      name: "ProofSupport",
      dependencies: [
        "NormFold", "NormFoldArithmetic", "NormFoldTargets", "NormFoldVerify", "NormFoldFolding", "NormFoldNetworks",
        "NormFoldFormats", "TestSupport",
        .product(name: "Logging", package: "swift-log"),
      ],
      path: "Tests/ProofSupport", swiftSettings: strict),
    .executableTarget(
      name: "normfold-proof",
      dependencies: ["ProofSupport", .product(name: "ArgumentParser", package: "swift-argument-parser")],
      path: "Tests/Proof", swiftSettings: strict),
    .target(
      name: "TestSupport",
      dependencies: ["CNormFoldZstd", "NormFoldFormats", "NormFoldNetworks", "NormFoldArithmetic"],
      path: "Tests/TestSupport",
      swiftSettings: strict),
    .testTarget(
      name: "FormatsTests", dependencies: ["NormFoldFormats", "CNormFoldKernels", "TestSupport"], swiftSettings: strict),
    .testTarget(
      name: "NetworksTests", dependencies: ["NormFoldNetworks", "NormFoldFormats", "TestSupport"], swiftSettings: strict
    ),
    .testTarget(
      name: "FoldingTests",
      dependencies: [
        "NormFoldFolding", "NormFoldArithmetic", "NormFoldVerify", "NormFoldNetworks", "NormFoldFormats", "TestSupport",
      ],
      swiftSettings: strict),
    .testTarget(
      name: "TokenizationTests", dependencies: ["NormFoldTokenization", "NormFoldFormats", "TestSupport"],
      swiftSettings: strict),
    .testTarget(
      name: "TargetsTests",
      dependencies: [
        "NormFold", "NormFoldONNX", "NormFoldTargets", "NormFoldArithmetic", "NormFoldVerify", "NormFoldFolding",
        "NormFoldNetworks", "NormFoldTokenization", "NormFoldFormats",
        "TestSupport",
        .product(name: "Logging", package: "swift-log"),
      ],
      swiftSettings: strict),
    .testTarget(
      name: "VerifyTests",
      dependencies: ["NormFoldArithmetic", "NormFoldVerify", "NormFoldNetworks", "NormFoldFormats", "TestSupport"],
      swiftSettings: strict),
    .testTarget(
      name: "MeasurementTests",
      dependencies: [
        "NormFoldMeasurement", "NormFoldFolding", "NormFoldArithmetic", "NormFoldVerify", "NormFoldNetworks",
        "NormFoldFormats", "TestSupport",
      ],
      swiftSettings: strict),
    .testTarget(
      name: "TrainingTests",
      dependencies: [
        "NormFoldTraining", "NormFoldMeasurement", "NormFoldProcesses", "NormFold", "NormFoldArithmetic",
        "NormFoldNetworks", "NormFoldFormats", "TestSupport",
      ], swiftSettings: strict),
    .testTarget(
      name: "ONNXTests",
      dependencies: [
        "NormFoldONNX", "CNormFoldOnnxProto", "NormFoldFolding", "NormFoldArithmetic", "NormFoldVerify",
        "NormFoldNetworks", "NormFoldFormats", "TestSupport",
      ],
      swiftSettings: strict),
    .testTarget(
      name: "NormFoldTests",
      dependencies: [
        "NormFold", "NormFoldTargets", "NormFoldArithmetic", "NormFoldVerify", "NormFoldFolding", "NormFoldNetworks",
        "NormFoldFormats", "TestSupport", "ProofSupport",
        .product(name: "Logging", package: "swift-log"),
      ],
      swiftSettings: strict),
    .testTarget(
      name: "LibraryTests", dependencies: ["NormFold", "normfold-example", "TestSupport"], swiftSettings: strict),
    .testTarget(
      name: "ReportTests",
      dependencies: [
        "NormFoldCommand", "NormFoldReport", "NormFold", "NormFoldMeasurement", "NormFoldTargets", "NormFoldArithmetic",
        "NormFoldVerify", "NormFoldFolding",
        "NormFoldNetworks",
        "NormFoldFormats",
        "TestSupport",
        .product(name: "Logging", package: "swift-log"),
      ],
      swiftSettings: strict),
    .testTarget(
      name: "MatrixTests",
      dependencies: [
        "NormFoldCommand", "NormFold", "NormFoldFormats", "TestSupport",
        .product(name: "Logging", package: "swift-log"),
      ],
      swiftSettings: strict),
    .testTarget(
      name: "CommandTests",
      dependencies: [
        "NormFoldCommand", "NormFoldTargets", "NormFoldFormats", "TestSupport",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      swiftSettings: strict),
  ],
  swiftLanguageModes: [.v6]
)

// No two modules of a program may have the same name, whichever packages they are of. Folders need no such prefix:
// NormFoldFormats lies in Sources/Formats, CNormFoldKernels in Sources/CKernels.
for target in package.targets where target.path == nil && target.type != .test && target.name != "NormFold" {
  target.path = "Sources/\(target.name.replacing("NormFold", with: ""))"
}

// The fuzzers are built by Fuzz/run only, since their objects can be linked by nothing but libFuzzer.
if Context.environment["NORMFOLD_FUZZ"] != nil {
  package.products.append(.library(name: "Fuzzers", type: .static, targets: ["Fuzz"]))
  package.targets.append(
    .target(
      name: "Fuzz",
      dependencies: [
        "NormFold", "NormFoldFormats", "NormFoldNetworks", "NormFoldMeasurement", "NormFoldTokenization",
        "NormFoldTraining", "NormFoldONNX", "TestSupport",
      ], path: "Fuzz",
      exclude: ["run", "keep", "compare", "leaks", "corpora"],
      swiftSettings: strict))
}

// Only who builds the documentation needs the plugin: `make docs` sets the variable.
if Context.environment["NORMFOLD_DOCS"] != nil {
  package.dependencies.append(.package(url: "https://github.com/swiftlang/swift-docc-plugin", from: "1.5.0"))
}
