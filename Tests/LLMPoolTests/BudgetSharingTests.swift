import LLMPool
import LLMPoolTestSupport
import Testing

/// A connector in Swift, to a store that has what the test says.
@Suite struct BudgetSharingTests {
  @Test func whatIsGrantedIsSpent() async throws {
    let server = LoopbackServer { _, _ in answerText("200 OK", "") }
    defer { server.stop() }
    let pool = try Pool()
    var budget = Budget("lent", limits: [.perMinute(600, .requests)])
    budget.learns = false
    try pool.configure(budget)
    let wanted = try pool.leasesWanted()
    try pool.share("lent", safeShare: 0.25)
    let connector = Task {
      for await name in wanted {
        guard let demand = try pool.leaseDemand(of: name) else { continue }
        let limits = demand.limits.map {
          LeaseGrant.Limit(unit: $0.unit, told: $0.told, window: $0.window, amount: 0, granted: 3)
        }
        let grant = LeaseGrant(
          sequence: demand.sequence, validFor: 60_000_000_000, members: 2, places: .max, stoppedFor: 0, limits: limits)
        try pool.grant(grant, of: name)
        return name
      }
      return ""
    }
    #expect(try await connector.value == "lent")
    var request = Request(url: server.url("/"))
    request.spending = Spending("lent")
    for _ in 0..<3 { #expect(try await pool.send(request).status == 200) }
    let state = try #require(try pool.budget(named: "lent"))
    #expect(state.share?.isLeased == true && state.share?.members == 2)
    #expect(state.limits[0].spent == 3 && state.limits[0].remaining == 0)
    try pool.unshare("lent")
    while try pool.budget(named: "lent")?.share != nil { try await Task.sleep(for: .milliseconds(1)) }
    #expect(try pool.leaseDemand(of: "lent") == nil)
    try pool.close()
  }

  @Test func whatCannotBeMeantIsRefused() throws {
    let pool = try Pool()
    for share in [0, 1.5, -1, .nan] {
      let error = #expect(throws: PoolError.self) { try pool.share(safeShare: share) }
      #expect(error?.name == "E_INVALID_ARGUMENT")
    }
    #expect(throws: PoolError.self) { try pool.share("", safeShare: 1) }
    let limit = LeaseGrant.Limit(unit: .requests, told: nil, window: 1_000_000, amount: 0, granted: -1)
    for (valid, members, limits) in [(0, 1, []), (1_000_000, 0, []), (1_000_000, 1, [limit])] {
      let grant = LeaseGrant(
        sequence: 1, validFor: Int64(valid), members: members, places: 1, stoppedFor: 0, limits: limits)
      #expect(throws: PoolError.self) { try pool.grant(grant, of: "lent") }
    }
    #expect(try pool.leaseDemand(of: "unknown") == nil)
    try pool.close()
  }
}
