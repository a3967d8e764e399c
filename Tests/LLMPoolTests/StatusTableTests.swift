import Glibc
import LLMPoolCore
import LLMPoolEngine
import Testing

/// The header is the source of truth: its table and ours must say the same.
@Suite struct StatusTableTests {
  private static func header() throws -> String {
    let path = "\(#filePath)".split(separator: "/").dropLast(3).joined(separator: "/")
    let file = try #require(fopen("/\(path)/include/llmpool.h", "r"))
    defer { fclose(file) }
    var bytes = [UInt8](repeating: 0, count: 1 << 20)
    let count = fread(&bytes, 1, bytes.count, file)
    return String(decoding: bytes.prefix(count), as: UTF8.self)
  }

  /// Rows like `X(E_CLOSED, -4, "the pool or queue is closed")`.
  private static func rows() throws -> [(name: String, value: Int32, message: String)] {
    try header().split(separator: "\n").compactMap { line in
      guard let start = line.range(of: "X(E_") else { return nil }
      let row = line[start.upperBound...]
      guard let comma = row.firstIndex(of: ","), let quote = row.firstIndex(of: "\""),
        let last = row.lastIndex(of: "\""), quote < last
      else { return nil }
      let number = row[row.index(after: comma)..<quote].filter { $0 == "-" || $0.isNumber }
      guard let value = Int32(number) else { return nil }
      return ("LLMPOOL_E_" + row[..<comma], value, String(row[row.index(after: quote)..<last]))
    }
  }

  @Test func everyStatusOfTheHeaderIsOurs() throws {
    let rows = try StatusTableTests.rows()
    #expect(rows.count == Failure.allCases.count)
    for row in rows {
      let failure = try #require(Failure(rawValue: row.value), "\(row.name)")
      #expect(StatusTable.name(failure).description == row.name)
      #expect(StatusTable.message(failure).description == row.message)
    }
  }
}

extension Substring {
  /// Foundation has this; we have not.
  fileprivate func range(of text: String) -> Range<Index>? {
    var start = startIndex
    while start < endIndex {
      if self[start...].hasPrefix(text) { return start..<index(start, offsetBy: text.count) }
      start = index(after: start)
    }
    return nil
  }
}
