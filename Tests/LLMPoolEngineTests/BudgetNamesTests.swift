import Testing

@testable import LLMPoolEngine

@Suite struct BudgetNamesTests {
  private var names = BudgetNames()

  private mutating func entry(_ name: String) -> BudgetNames.Entry {
    let id = names.id(of: name) ?? names.add(name)
    return names[id]!
  }
  private mutating func label(_ name: String) -> String { entry(name).label }

  @Test mutating func credentialsAreNumbered() {
    #expect(label("team #5 of 7") == "team #5 of 7")
    #expect(label("a/m #00ff12ab34cd") == "a/m/1")
    #expect(label("a/m #10ff12ab34cd") == "a/m/2")
    #expect(label("b/m #00ff12ab34cd") == "b/m/1")
    #expect(label("a/m #00ff12ab34cd") == "a/m/1")
    for name in ["a/m", "a #", "#00ff", "a #00fg"] { #expect(label(name) == name) }
    names.remove(names.id(of: "a/m #00ff12ab34cd")!)
    #expect(names.id(of: "a/m #00ff12ab34cd") == nil)
    #expect(label("a/m #20ff12ab34cd") == "a/m/1")  // the first that is free: so series do not come without end
    #expect(label("a/m #30ff12ab34cd") == "a/m/3")
  }

  @Test mutating func theFirstHaveSeries() {
    let ids = (0..<70).map { names.add("b\($0)") }
    #expect(ids.map { names[$0]!.hasSeries } == (0..<70).map { $0 < 64 })
    names.remove(ids[3])
    names.remove(ids[69])
    #expect(names[ids[68]]!.hasSeries == false)  // for as long as it is known
    #expect(entry("new").hasSeries)
    #expect(entry("newer").hasSeries == false)
    #expect(names.all.count == 70 && Set(names.names).count == 70)
  }

  @Test mutating func noSeriesTwice() {
    #expect(entry("other").hasSeries == false)
    #expect(entry("a/m #00ff").hasSeries)
    #expect(entry("a/m/1").hasSeries == false)
    names.remove(names.id(of: "a/m/1")!)
    #expect(entry("a/m/1").hasSeries == false)
  }
}
