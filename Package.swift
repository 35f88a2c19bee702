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
      name: "MPI", description: "Lets 'normfold remove' train with processes that an MPI started (libopenmpi-dev).")
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
    .package(url: "https://github.com/apple/swift-log", from: "1.16.0"),
    .package(url: "https://github.com/apple/swift-numerics", from: "1.1.0"),
  ],
  targets: [
    // MARK: System libraries
    .systemLibrary(name: "CLinux"),
    .systemLibrary(name: "COpenBLAS", pkgConfig: "openblas", providers: [.apt(["libopenblas-dev"])]),
    .systemLibrary(name: "CProtobufC", pkgConfig: "libprotobuf-c", providers: [.apt(["libprotobuf-c-dev"])]),
    .systemLibrary(name: "CZstd", pkgConfig: "libzstd", providers: [.apt(["libzstd-dev"])]),
    .systemLibrary(name: "CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),
    .systemLibrary(name: "CCrypto", pkgConfig: "libcrypto", providers: [.apt(["libssl-dev"])]),
    .systemLibrary(name: "CMPI", pkgConfig: "mpi-c", providers: [.apt(["libopenmpi-dev"])]),

    // MARK: One direction: bytes → tensors → networks → folded networks → files
    .target(name: "CMappingGuard"),
    .target(name: "CKernels", cSettings: hotC),
    .target(
      name: "Formats", dependencies: ["CMappingGuard", "CKernels", "CLinux", "CZstd", "CZlib", "CCrypto"],
      swiftSettings: hot),
    .target(name: "Networks", dependencies: ["Formats"], swiftSettings: hot),
    .target(name: "Folding", dependencies: ["Networks"], swiftSettings: strictest),
    .target(
      name: "Arithmetic",
      dependencies: [
        "Networks", "Formats", "CKernels", "CLinux", "COpenBLAS", .product(name: "Numerics", package: "swift-numerics"),
      ],
      swiftSettings: hot),
    .target(
      name: "Verify",
      dependencies: [
        "Arithmetic", "CKernels", "Networks", "Formats", .product(name: "Numerics", package: "swift-numerics"),
      ],
      swiftSettings: hot),
    .target(name: "Tokenization", dependencies: ["Formats"], swiftSettings: hot),
    .target(
      name: "Measurement", dependencies: ["Arithmetic", "Networks", "Tokenization", "Formats"],
      swiftSettings: strictest),
    .target(
      name: "CProcesses", dependencies: [.target(name: "CMPI", condition: .when(traits: ["MPI"]))],
      cSettings: [.define("NORMFOLD_MPI", .when(traits: ["MPI"]))]),
    .target(
      name: "Training",
      dependencies: [
        "Arithmetic", "Networks", "Formats", .product(name: "Numerics", package: "swift-numerics"),
        .target(name: "CProcesses", condition: .when(traits: ["MPI"])),
      ],
      swiftSettings: hot),
    .target(name: "Targets", dependencies: ["ONNX", "Networks", "Tokenization", "Formats"], swiftSettings: strictest),
    .target(name: "COnnxProto", dependencies: ["CProtobufC"], exclude: ["onnx.proto"]),
    .target(name: "ONNX", dependencies: ["Networks", "Formats", "COnnxProto", "CProtobufC"], swiftSettings: hot),
    .target(
      name: "NormFold",
      dependencies: [
        "Formats", "Networks", "Folding", "Arithmetic", "Verify", "Measurement", "Training", "Targets",
        .product(name: "Logging", package: "swift-log"),
      ],
      swiftSettings: strictest),
    .target(
      name: "Report",
      dependencies: ["NormFold", "Measurement", "Training", "Folding", "Arithmetic", "Verify", "Formats"],
      swiftSettings: strictest),
    .executableTarget(
      name: "NormFoldCommand",
      dependencies: [
        "Report", "NormFold", "Folding", "Formats", "Measurement", "Networks", "Tokenization", "Arithmetic", "Verify",
        "Training",
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
        "NormFold", "Measurement", "Formats", "Networks", "Arithmetic", "Verify",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      path: "Benchmarks/Harness", swiftSettings: strict),

    // MARK: Tests
    .target(
      name: "ProofSupport",
      dependencies: [
        "NormFold", "Arithmetic", "Targets", "Verify", "Folding", "Networks", "Formats", "TestSupport",
        .product(name: "Logging", package: "swift-log"),
      ],
      path: "Tests/ProofSupport", swiftSettings: strict),
    .executableTarget(
      name: "normfold-proof",
      dependencies: ["ProofSupport", .product(name: "ArgumentParser", package: "swift-argument-parser")],
      path: "Tests/Proof", swiftSettings: strict),
    .target(
      name: "TestSupport", dependencies: ["CZstd", "Formats", "Networks", "Arithmetic"], path: "Tests/TestSupport",
      swiftSettings: strict),
    .testTarget(name: "FormatsTests", dependencies: ["Formats", "CKernels", "TestSupport"], swiftSettings: strict),
    .testTarget(name: "NetworksTests", dependencies: ["Networks", "Formats", "TestSupport"], swiftSettings: strict),
    .testTarget(
      name: "FoldingTests", dependencies: ["Folding", "Arithmetic", "Verify", "Networks", "Formats", "TestSupport"],
      swiftSettings: strict),
    .testTarget(
      name: "TokenizationTests", dependencies: ["Tokenization", "Formats", "TestSupport"], swiftSettings: strict),
    .testTarget(
      name: "TargetsTests",
      dependencies: [
        "NormFold", "ONNX", "Targets", "Arithmetic", "Verify", "Folding", "Networks", "Tokenization", "Formats",
        "TestSupport",
        .product(name: "Logging", package: "swift-log"),
      ],
      swiftSettings: strict),
    .testTarget(
      name: "VerifyTests", dependencies: ["Arithmetic", "Verify", "Networks", "Formats", "TestSupport"],
      swiftSettings: strict),
    .testTarget(
      name: "MeasurementTests",
      dependencies: ["Measurement", "Folding", "Arithmetic", "Verify", "Networks", "Formats", "TestSupport"],
      swiftSettings: strict),
    .testTarget(
      name: "TrainingTests",
      dependencies: ["Training", "NormFold", "Arithmetic", "Networks", "Formats", "TestSupport"], swiftSettings: strict),
    .testTarget(
      name: "ONNXTests",
      dependencies: ["ONNX", "COnnxProto", "Folding", "Arithmetic", "Verify", "Networks", "Formats", "TestSupport"],
      swiftSettings: strict),
    .testTarget(
      name: "NormFoldTests",
      dependencies: [
        "NormFold", "Targets", "Arithmetic", "Verify", "Folding", "Networks", "Formats", "TestSupport", "ProofSupport",
        .product(name: "Logging", package: "swift-log"),
      ],
      swiftSettings: strict),
    .testTarget(
      name: "LibraryTests", dependencies: ["NormFold", "normfold-example", "TestSupport"], swiftSettings: strict),
    .testTarget(
      name: "ReportTests",
      dependencies: [
        "NormFoldCommand", "Report", "NormFold", "Measurement", "Targets", "Arithmetic", "Verify", "Folding",
        "Networks",
        "Formats",
        "TestSupport",
        .product(name: "Logging", package: "swift-log"),
      ],
      swiftSettings: strict),
    .testTarget(
      name: "MatrixTests",
      dependencies: [
        "NormFoldCommand", "NormFold", "Formats", "TestSupport", .product(name: "Logging", package: "swift-log"),
      ],
      swiftSettings: strict),
    .testTarget(
      name: "CommandTests",
      dependencies: [
        "NormFoldCommand", "Targets", "Formats", "TestSupport",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      swiftSettings: strict),
  ],
  swiftLanguageModes: [.v6]
)

// The fuzzers are built by Fuzz/run only, since their objects can be linked by nothing but libFuzzer.
if Context.environment["NORMFOLD_FUZZ"] != nil {
  package.products.append(.library(name: "Fuzzers", type: .static, targets: ["Fuzz"]))
  package.targets.append(
    .target(
      name: "Fuzz",
      dependencies: ["Formats", "Networks", "Folding", "Targets", "Tokenization", "ONNX", "TestSupport"], path: "Fuzz",
      exclude: ["run", "keep", "leaks", "corpora"],
      swiftSettings: strict))
}

// Only who builds the documentation needs the plugin: `make docs` sets the variable.
if Context.environment["NORMFOLD_DOCS"] != nil {
  package.dependencies.append(.package(url: "https://github.com/swiftlang/swift-docc-plugin", from: "1.5.0"))
}
