import CLLMPool
import LLMPoolCore
import LLMPoolEngine

@implementation @_cdecl("llmpool_histograms")
public func llmpool_histograms(
  _ pool: OpaquePointer!, _ origin: UnsafePointer<CChar>!,
  _ histograms_out: UnsafeMutablePointer<llmpool_histogram_t>!, _ histogram_size: Int, _ capacity: UInt32,
  _ count_out: UnsafeMutablePointer<UInt32>!
) -> llmpool_status_t {
  status { () throws(Fault) in
    let histograms = try LLMPoolC.pool(pool).open().histograms(ofOrigin: text(origin))
    let rows = zip(HistogramKind.allCases, histograms).map { llmpool_histogram_t($1, name: $0.name) }
    let shown = rows.prefix(Int(capacity))
    try write(shown, to: histograms_out, ("histograms_out", "histogram_size", histogram_size))
    count_out?.pointee = UInt32(rows.count)
  }
}

@implementation @_cdecl("llmpool_histogram_end")
public func llmpool_histogram_end(_ bucket: UInt32) -> UInt64 {
  bucket < Histogram.Buckets.count ? Histogram.Buckets.end(of: Int(bucket)) : 0
}

@implementation @_cdecl("llmpool_histogram_percentile")
public func llmpool_histogram_percentile(
  _ histogram: UnsafePointer<llmpool_histogram_t>!, _ percent: Double
) -> UInt64 {
  histogram.map { llmpool_histogram_t.read($0).percentile(percent) } ?? 0
}

@implementation @_cdecl("llmpool_histogram_merge")
public func llmpool_histogram_merge(
  _ histogram: UnsafeMutablePointer<llmpool_histogram_t>!, _ other: UnsafePointer<llmpool_histogram_t>!
) -> llmpool_status_t {
  status { () throws(Fault) in
    let target = try required(histogram, "histogram")
    guard let other else { throw Fault(.invalidArgument, "other: it is NULL") }
    var sum = llmpool_histogram_t.read(target)
    sum.merge(llmpool_histogram_t.read(other))
    target.pointee.set(sum)
  }
}

// MARK: Structs

extension llmpool_histogram_t {
  fileprivate init(_ histogram: Histogram, name: StaticString) {
    self.init()
    self.name = UnsafeRawPointer(name.utf8Start).assumingMemoryBound(to: CChar.self)
    set(histogram)
  }

  fileprivate mutating func set(_ histogram: Histogram) {
    count = histogram.count
    sum_us = histogram.sum
    max_us = histogram.max
    withUnsafeMutableBytes(of: &buckets) { target in histogram.buckets.withUnsafeBytes { target.copyMemory(from: $0) } }
  }

  fileprivate static func read(_ pointer: UnsafePointer<llmpool_histogram_t>) -> Histogram {
    let offset = MemoryLayout<llmpool_histogram_t>.offset(of: \.buckets)!
    let start = (UnsafeRawPointer(pointer) + offset).assumingMemoryBound(to: UInt64.self)
    let buckets = UnsafeBufferPointer(start: start, count: Histogram.Buckets.count)
    return Histogram(
      count: pointer.pointee.count, sum: pointer.pointee.sum_us, max: pointer.pointee.max_us, buckets: Array(buckets))
  }
}
