/// A request that is over, until the end of the turn: the slot that it leaves, and its DONE.
struct Completed {
  let slot: Int
  let done: UnsafeMutablePointer<EventRecord>

  /// With its DONE so much goes at most: the application may keep that.
  private static let mostBytes = 4_096

  func giveAway(_ request: consuming RequestState) {
    if request.size <= Completed.mostBytes { done.pointee.request = Unmanaged.passRetained(request) }
  }
}
