// swift-tools-version: 6.0
import PackageDescription

// Imports point downward only; scripts/tidy refuses any other:
//   { LLMPool, LLMPoolC } -> LLMPoolEngine -> { LLMPoolCore, LLMPoolWire, CLLMPoolSystem }
let package = Package(
  name: "llmpool",
  products: [
    .library(name: "LLMPool", targets: ["LLMPool"]),
    .library(name: "LLMPoolC", targets: ["LLMPoolC"]),
  ],
  targets: [
    // MUTANTS builds deliberate bugs in, asleep, which the simulation must find. Never part of a release.
    .target(name: "LLMPoolCore", swiftSettings: [.define("MUTANTS", .when(configuration: .debug))]),
    .target(name: "LLMPoolWire"),
    .target(
      name: "CLLMPoolSystem", dependencies: ["CLLMPool"],
      linkerSettings: [
        .linkedLibrary("curl"), .linkedLibrary("nghttp2"), .linkedLibrary("ssl"), .linkedLibrary("crypto"),
      ]),
    .target(name: "LLMPoolEngine", dependencies: ["LLMPoolCore", "LLMPoolWire", "CLLMPoolSystem"]),
    .target(name: "LLMPool", dependencies: ["LLMPoolEngine"]),
    .systemLibrary(name: "CLLMPool", path: "include"),
    .target(name: "LLMPoolC", dependencies: ["LLMPoolEngine", "CLLMPool"]),
    .executableTarget(name: "llmpool-example", dependencies: ["LLMPool"], path: "examples/swift"),
    .target(name: "LLMPoolTestSupport", dependencies: ["LLMPoolCore"], path: "Tests/Support"),
    .testTarget(name: "LLMPoolCoreTests", dependencies: ["LLMPoolCore"]),
    .target(name: "LLMPoolSimulation", dependencies: ["LLMPoolCore"], path: "Tests/LLMPoolSimulation"),
    .executableTarget(
      name: "llmpool-simulate", dependencies: ["LLMPoolSimulation"], path: "Tests/LLMPoolSimulationCommand"),
    .testTarget(
      name: "LLMPoolSimulationTests", dependencies: ["LLMPoolSimulation", "LLMPoolEngine", "LLMPoolTestSupport"]),
    .testTarget(name: "LLMPoolWireTests", dependencies: ["LLMPoolWire", "LLMPoolTestSupport"]),
    .testTarget(name: "LLMPoolEngineTests", dependencies: ["LLMPoolEngine", "LLMPoolTestSupport"]),
    .testTarget(name: "LLMPoolTests", dependencies: ["LLMPool", "LLMPoolEngine", "LLMPoolTestSupport"]),
  ]
)

// Fuzzers have libFuzzer's main: built by scripts/fuzz alone.
if Context.environment["LLMPOOL_FUZZ"] != nil {
  package.targets += [
    .executableTarget(
      name: "fuzz-wire", dependencies: ["LLMPoolWire"], path: "Fuzz/wire", exclude: ["corpus"],
      swiftSettings: [.unsafeFlags(["-parse-as-library"])]),
    .executableTarget(
      name: "fuzz-http2", dependencies: ["LLMPoolEngine", "LLMPoolTestSupport"], path: "Fuzz/http2",
      exclude: ["corpus"],
      swiftSettings: [.unsafeFlags(["-parse-as-library"])]),
  ]
}
