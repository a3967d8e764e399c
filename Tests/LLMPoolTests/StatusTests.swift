import LLMPoolCore
import LLMPoolEngine
import Testing

/// The header's table of statuses and the core's enumeration of failures say the same.
@Suite struct StatusTests {
  /// "readTimeout" as "READ_TIMEOUT".
  private static func constant(_ failure: Failure) -> String {
    switch failure {
    case .protocolViolation: return "PROTOCOL"  // a word of Swift
    case .internalError: return "INTERNAL"
    default: return "\(failure)".map { $0.isUppercase ? "_\($0)" : $0.uppercased() }.joined()
    }
  }

  @Test(arguments: Failure.allCases) func everyFailureHasTheHeadersName(_ failure: Failure) {
    #expect(String(cString: Status.name(failure.rawValue)) == "LLMPOOL_E_" + StatusTests.constant(failure))
    #expect(String(cString: Status.message(failure.rawValue)) != "unknown status")
  }

  @Test func everyStatusOfTheHeaderIsAFailure() {
    let known = (Int32(-1_000)...0).filter { String(cString: Status.name($0)) != "LLMPOOL_E_UNKNOWN" }
    #expect(Set(known) == Set(Failure.allCases.map(\.rawValue) + [0]))
    #expect(String(cString: Status.message(0)) == "success")
    #expect(String(cString: Status.message(1)) == "unknown status")
  }
}
