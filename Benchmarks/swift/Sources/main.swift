// bench-swift CLIENT WORK URL COUNT TASKS [CA-FILE] - the Swift clients of the benchmarks.
//
//   CLIENT  llmpool, async-http-client, or floor: the same tasks and continuations, resumed in batches, and no HTTP
//   WORK    post    TASKS tasks, each POST after another, COUNT in all; CPU per request
//           events  TASKS tasks read event streams to their end, until COUNT events were read; CPU per event
//
// A tenth of the work goes before the measurement. Prints the line of JSON that Benchmarks/c/common.h describes.
import Glibc

let requestBody = [UInt8](repeating: UInt8(ascii: "x"), count: 2048)
let requestHeaders = [("content-type", "application/json"), ("authorization", "Bearer 0123456789abcdef")]

/// One of the clients at work. Each call is one request.
protocol Client: Sendable {
  /// Sends the body, reads the whole answer and looks at its status.
  func post(_ url: String) async throws
  /// How many events came.
  func events(_ url: String) async throws -> Int
  func close() async throws
}

struct Failed: Error, CustomStringConvertible {
  let description: String
  init(_ description: String) { self.description = description }
}

func die(_ text: String) -> Never {
  let line = "bench: \(text)\n"
  _ = write(STDERR_FILENO, line, line.utf8.count)
  exit(1)
}

func client(_ name: String, _ authority: String?) async throws -> any Client {
  switch name {
  case "llmpool": try Ours(authority)
  case "async-http-client": try Peer(authority)
  case "floor": Floor()
  default: die("no such client")
  }
}

struct Measure {
  var latencies: [Float] = []
  var count = 0
}

func now() -> Double {
  var at = timespec()
  clock_gettime(CLOCK_MONOTONIC, &at)
  return Double(at.tv_sec) * 1e6 + Double(at.tv_nsec) / 1e3
}

func usage() -> rusage {
  var usage = rusage()
  getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
  return usage
}

func cpu() -> Double {
  let usage = usage()
  return Double(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e6
    + Double(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec)
}

/// `count` calls, or events, by so many tasks.
func run(_ client: any Client, _ work: String, _ url: String, _ count: Int, _ tasks: Int) async throws -> Measure {
  try await withThrowingTaskGroup(of: Measure.self) { group in
    for _ in 0..<tasks {
      group.addTask {
        var own = Measure()
        own.latencies.reserveCapacity(count / tasks + 1)
        while own.count < count / tasks {
          let before = now()
          if work == "events" {
            own.count += try await client.events(url)
          } else {
            try await client.post(url)
            own.count += 1
          }
          own.latencies.append(Float(now() - before))
        }
        return own
      }
    }
    var sum = Measure()
    for try await own in group {
      sum.latencies += own.latencies
      sum.count += own.count
    }
    return sum
  }
}

let arguments = CommandLine.arguments
guard arguments.count >= 6, let count = Int(arguments[4]), let tasks = Int(arguments[5]) else {
  die("usage: bench-swift CLIENT WORK URL COUNT TASKS [CA-FILE]")
}
let (work, url) = (arguments[2], arguments[3])
let authority = arguments.count > 6 ? arguments[6] : nil
do {
  let client = try await client(arguments[1], authority)
  let warm = try await run(client, work, url, max(tasks, count / 10), tasks)
  let (wallBefore, cpuBefore) = (now(), cpu())
  var measured = try await run(client, work, url, count, tasks)
  let (wall, cpu) = (now() - wallBefore, cpu() - cpuBefore)
  measured.latencies.sort()
  func percentile(_ share: Double) -> Float {
    measured.latencies[Int(share * Double(measured.latencies.count - 1) + 0.5)]
  }
  let usage = usage()
  print(
    """
    {"count": \(measured.count), "total": \(measured.count + warm.count), "cpu_us": \(cpu / Double(measured.count)), \
    "per_second": \(Double(measured.count) / wall * 1e6), "p50_us": \(percentile(0.5)), "p90_us": \(percentile(0.9)), \
    "p99_us": \(percentile(0.99)), "max_rss_kb": \(usage.ru_maxrss), "switches": \(usage.ru_nvcsw + usage.ru_nivcsw)}
    """)
  try await client.close()
} catch {
  die("\(error)")
}
