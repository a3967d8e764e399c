/// An option that is a number in `llmpool.h`: a row of the tables of options, out of which they are read and written.
public struct NumberOption<Options>: Sendable {
  /// Of the field there.
  public let name: String
  /// What it may be, for whoever gave something else.
  public let expected: String
  public let range: ClosedRange<UInt32>
  public let read: @Sendable (Options) -> UInt32
  /// Of a value within the range.
  public let write: @Sendable (inout Options, UInt32) -> Void

  private init(
    _ name: String, _ range: ClosedRange<UInt32>, _ expected: String? = nil,
    read: @escaping @Sendable (Options) -> UInt32, write: @escaping @Sendable (inout Options, UInt32) -> Void
  ) {
    self.name = name
    self.range = range
    self.expected = expected ?? "\(range.lowerBound) to \(range.upperBound)"
    self.read = read
    self.write = write
  }

  /// A count that means itself.
  public static func count<Number: FixedWidthInteger & Sendable>(
    _ name: String, _ path: WritableKeyPath<Options, Number> & Sendable, _ range: ClosedRange<UInt32> = 0...UInt32.max
  ) -> NumberOption {
    NumberOption(
      name, range, read: { UInt32(clamping: $0[keyPath: path]) }, write: { $0[keyPath: path] = Number(clamping: $1) })
  }

  /// A count of which 0 there, and `Int.max` here, is no limit.
  public static func limit(_ name: String, _ path: WritableKeyPath<Options, Int> & Sendable) -> NumberOption {
    NumberOption(
      name, 0...UInt32.max, read: { $0[keyPath: path] == .max ? 0 : UInt32(clamping: $0[keyPath: path]) },
      write: { $0[keyPath: path] = $1 == 0 ? .max : Int($1) })
  }

  /// Milliseconds.
  public static func duration(_ name: String, _ path: WritableKeyPath<Options, Nanoseconds> & Sendable) -> NumberOption
  {
    NumberOption(
      name, 0...UInt32.max, read: { UInt32(clamping: $0[keyPath: path] / 1_000_000) },
      write: { $0[keyPath: path] = .milliseconds($1) })
  }

  /// Milliseconds of which 0 and `UInt32.max` there, and `Nanoseconds.max` here, are for ever.
  public static func timeout(_ name: String, _ path: WritableKeyPath<Options, Nanoseconds> & Sendable) -> NumberOption {
    NumberOption(
      name, 0...UInt32.max,
      read: { $0[keyPath: path] == .max ? 0 : UInt32(clamping: $0[keyPath: path] / 1_000_000) },
      write: { $0[keyPath: path] = $1 == 0 || $1 == .max ? .max : .milliseconds($1) })
  }

  public static func flag(_ name: String, _ path: WritableKeyPath<Options, Bool> & Sendable) -> NumberOption {
    NumberOption(
      name, 0...1, "0 or 1", read: { $0[keyPath: path] ? 1 : 0 }, write: { $0[keyPath: path] = $1 == 1 })
  }

  /// One of several, by its raw value.
  public static func choice<Choice: RawRepresentable & CaseIterable & Sendable>(
    _ name: String, _ path: WritableKeyPath<Options, Choice> & Sendable, expected: String
  ) -> NumberOption where Choice.RawValue == UInt8 {
    NumberOption(
      name, 0...UInt32(Choice.allCases.count - 1), expected, read: { UInt32($0[keyPath: path].rawValue) },
      write: { options, value in
        if let choice = Choice(rawValue: UInt8(clamping: value)) { options[keyPath: path] = choice }
      })
  }

  /// The same option of what holds these options.
  public func within<Outer>(_ path: WritableKeyPath<Outer, Options> & Sendable) -> NumberOption<Outer> {
    NumberOption<Outer>(
      name, range, expected, read: { read($0[keyPath: path]) }, write: { write(&$0[keyPath: path], $1) })
  }
}
