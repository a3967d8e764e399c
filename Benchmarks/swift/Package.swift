// swift-tools-version: 6.0
import PackageDescription

// Of its own: the peer is no dependency of the library.
let package = Package(
  name: "bench-swift",
  platforms: [.macOS(.v15)],
  dependencies: [
    .package(name: "llmpool", path: "../.."),
    .package(url: "https://github.com/swift-server/async-http-client", from: "1.37.0"),
  ],
  targets: [
    .executableTarget(
      name: "bench-swift",
      dependencies: [
        .product(name: "LLMPool", package: "llmpool"),
        .product(name: "AsyncHTTPClient", package: "async-http-client"),
      ],
      path: "Sources")
  ]
)
