// swift-tools-version: 6.2
import PackageDescription

// llmpool with what Swift servers have beside it. Apart from the package of the library, which depends on nothing.
let package = Package(
  name: "llmpool-integrations",
  products: [.library(name: "LLMPoolIntegrations", targets: ["LLMPoolIntegrations"])],
  dependencies: [
    .package(name: "llmpool", path: "../.."),
    .package(url: "https://github.com/apple/swift-log.git", from: "1.16.2"),
    .package(url: "https://github.com/apple/swift-metrics.git", from: "2.13.0"),
    .package(url: "https://github.com/apple/swift-distributed-tracing.git", from: "1.7.3"),
    .package(url: "https://github.com/swift-server/swift-service-lifecycle.git", from: "2.13.0"),
    .package(url: "https://github.com/apple/swift-http-types.git", from: "1.8.0"),
    .package(url: "https://github.com/apple/swift-configuration.git", from: "1.4.0", traits: []),
  ],
  targets: [
    .target(
      name: "LLMPoolIntegrations",
      dependencies: [
        .product(name: "LLMPool", package: "llmpool"),
        .product(name: "Logging", package: "swift-log"),
        .product(name: "Metrics", package: "swift-metrics"),
        .product(name: "Tracing", package: "swift-distributed-tracing"),
        .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
        .product(name: "HTTPTypes", package: "swift-http-types"),
        .product(name: "Configuration", package: "swift-configuration"),
      ]),
    .testTarget(
      name: "LLMPoolIntegrationsTests",
      dependencies: [
        "LLMPoolIntegrations",
        .product(name: "InMemoryLogging", package: "swift-log"),
        .product(name: "MetricsTestKit", package: "swift-metrics"),
        .product(name: "InMemoryTracing", package: "swift-distributed-tracing"),
        .product(name: "ServiceLifecycleTestKit", package: "swift-service-lifecycle"),
      ]),
  ]
)
