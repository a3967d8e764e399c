import Glibc

/// Monotonic time in nanoseconds, the engine's clock.
package func monotonicNow() -> Int64 {
  var time = timespec()
  clock_gettime(CLOCK_MONOTONIC, &time)
  return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
}

/// For how long the machine has been suspended since it started, which CLOCK_MONOTONIC does not count. In nanoseconds;
/// less by what lies between the two looks at the clocks.
func suspendedTime() -> Int64 {
  var time = timespec()
  clock_gettime(CLOCK_BOOTTIME, &time)
  return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec) - monotonicNow()
}

/// Since 1970.
func wallClockSeconds() -> Int64 {
  var time = timespec()
  clock_gettime(CLOCK_REALTIME, &time)
  return Int64(time.tv_sec)
}
