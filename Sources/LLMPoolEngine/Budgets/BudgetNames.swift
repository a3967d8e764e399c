import LLMPoolCore

/// Budgets by their names; the core knows them by numbers.
struct BudgetNames {
  struct Entry {
    let name: String
    /// By which it is shown in the metrics and to people: the name, but for one of a credential.
    let label: String
    /// It has series of its own in the metrics: for as long as it is known, or its counts would change sides.
    let hasSeries: Bool
    fileprivate let credential: Credential?
  }

  /// What is shown of a name that ends with " #" and hexadecimal digits: these tell of a credential, the same in all
  /// processes. Instead of them there is a number, the first that is free.
  fileprivate struct Credential {
    let start: Substring
    let number: Int
  }

  /// Budgets beyond so many are one in the metrics, "other": names come without end.
  static let shownMost = 64

  private var entries: [Entry?] = []
  private var slots: [String: Int] = [:]
  private var free: [Int] = []
  /// Of those that have series.
  private var labels: Set<String> = []
  private var numbers: [Substring: Set<Int>] = [:]

  var names: [String] { Array(slots.keys) }
  func id(of name: String) -> BudgetID? { slots[name].map { BudgetID(slot: Int32($0)) } }
  subscript(id: BudgetID) -> Entry? { entries[Int(id.slot)] }
  var all: [(id: BudgetID, entry: Entry)] {
    entries.indices.compactMap { slot in entries[slot].map { (BudgetID(slot: Int32(slot)), $0) } }
  }

  mutating func add(_ name: String) -> BudgetID {
    let slot = free.popLast() ?? entries.count
    if slot == entries.count { entries.append(nil) }
    let credential = credential(in: name)
    let label = credential.map { "\($0.start)/\($0.number)" } ?? name
    let hasRoom = labels.count < BudgetNames.shownMost && label != MetricsText.other
    let hasSeries = hasRoom && labels.insert(label).inserted
    entries[slot] = Entry(name: name, label: label, hasSeries: hasSeries, credential: credential)
    slots[name] = slot
    return BudgetID(slot: Int32(slot))
  }

  mutating func remove(_ id: BudgetID) {
    guard let entry = entries[Int(id.slot)] else { return }
    entries[Int(id.slot)] = nil
    slots[entry.name] = nil
    free.append(Int(id.slot))
    if entry.hasSeries { labels.remove(entry.label) }
    guard let credential = entry.credential else { return }
    numbers[credential.start]?.remove(credential.number)
    if numbers[credential.start]?.isEmpty == true { numbers[credential.start] = nil }
  }

  private mutating func credential(in name: String) -> Credential? {
    guard let mark = name.utf8.lastIndex(of: UInt8(ascii: "#")), name[..<mark].hasSuffix(" ") else { return nil }
    let digits = name[mark...].dropFirst()
    guard !digits.isEmpty, digits.allSatisfy(\.isHexDigit) else { return nil }
    let start = name[..<mark].dropLast()
    let taken = numbers[start, default: []]
    let number = (1...).first { !taken.contains($0) }!
    numbers[start, default: []].insert(number)
    return Credential(start: start, number: number)
  }
}

/// A budget as it is shown at one moment.
struct LabelledBudget {
  let label: String
  let view: BudgetView
}

/// The budgets of the metrics.
struct ShownBudgets {
  /// Those that have series of their own, by their labels.
  var own: [LabelledBudget] = []
  /// Those that have them together.
  var others: [BudgetView] = []
  /// Of such as the others that the core has forgotten.
  var refusalsOfForgotten = 0
  var hasOthers: Bool { !others.isEmpty || refusalsOfForgotten > 0 }
}
