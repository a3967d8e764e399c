// swift-tools-version: 6.0
import PackageDescription

// Imports point downward only; scripts/tidy refuses any other:
//   LLMPoolC -> LLMPool -> PoolEngine -> { PoolCore, HTTPWire, CSystem }
let package = Package(
  name: "llmpool",
  products: [
    .library(name: "LLMPool", targets: ["LLMPool"]),
    .library(name: "LLMPoolC", targets: ["LLMPoolC"]),
  ],
  targets: [
    // MUTANTS builds deliberate bugs in, asleep, which the simulation must find. Never part of a release.
    .target(name: "PoolCore", swiftSettings: [.define("MUTANTS", .when(configuration: .debug))]),
    .target(name: "HTTPWire"),
    .target(
      name: "CSystem",
      linkerSettings: [
        .linkedLibrary("curl"), .linkedLibrary("nghttp2"), .linkedLibrary("ssl"), .linkedLibrary("crypto"),
      ]),
    .target(name: "PoolEngine", dependencies: ["PoolCore", "HTTPWire", "CSystem"]),
    .target(name: "LLMPool", dependencies: ["PoolEngine"]),
    .systemLibrary(name: "CLLMPool", path: "include"),
    .target(name: "LLMPoolC", dependencies: ["LLMPool", "CLLMPool"]),
    .executableTarget(name: "example-swift", dependencies: ["LLMPool"], path: "examples/swift"),
    .testTarget(name: "PoolCoreTests", dependencies: ["PoolCore"]),
    .target(name: "PoolSimulation", dependencies: ["PoolCore"], path: "Tests/PoolSimulation"),
    .executableTarget(name: "simulate", dependencies: ["PoolSimulation"], path: "Tests/PoolSimulationCommand"),
    .testTarget(name: "PoolSimulationTests", dependencies: ["PoolSimulation", "PoolEngine"]),
    .testTarget(name: "HTTPWireTests", dependencies: ["HTTPWire"]),
    .testTarget(name: "PoolEngineTests", dependencies: ["PoolEngine"]),
    .testTarget(name: "LLMPoolTests", dependencies: ["LLMPool"]),
  ]
)

// Fuzzers have libFuzzer's main: built by scripts/fuzz alone.
if Context.environment["LLMPOOL_FUZZ"] != nil {
  package.targets += [
    .executableTarget(
      name: "fuzz-wire", dependencies: ["HTTPWire"], path: "Fuzz/wire", exclude: ["corpus"],
      swiftSettings: [.unsafeFlags(["-parse-as-library"])]),
    .executableTarget(
      name: "fuzz-http2", dependencies: ["PoolEngine"], path: "Fuzz/http2", exclude: ["corpus"],
      swiftSettings: [.unsafeFlags(["-parse-as-library"])]),
  ]
}
