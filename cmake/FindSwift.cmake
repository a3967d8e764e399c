# Finds swift and swiftc; a sanitizer build takes its C compiler from the same toolchain, since the runtime of a
# sanitizer must be one and the same in the library and in the program.
find_program(LLMPOOL_SWIFT swift HINTS /opt/swift/usr/bin)
find_program(LLMPOOL_SWIFTC swiftc HINTS /opt/swift/usr/bin)
if(NOT LLMPOOL_SWIFT OR NOT LLMPOOL_SWIFTC)
  message(FATAL_ERROR "llmpool needs Swift 6.3 or newer (https://www.swift.org/install): put it on PATH or in /opt/swift")
endif()

if(NOT LLMPOOL_SANITIZE MATCHES "^(address|undefined|thread|)$")
  message(FATAL_ERROR "LLMPOOL_SANITIZE must be address, undefined or thread, not ${LLMPOOL_SANITIZE}")
endif()
if(LLMPOOL_SANITIZE AND NOT CMAKE_C_COMPILER)
  file(REAL_PATH "${LLMPOOL_SWIFTC}" swiftc_path)
  cmake_path(GET swiftc_path PARENT_PATH swift_bin)
  set(CMAKE_C_COMPILER "${swift_bin}/clang" CACHE FILEPATH "C compiler")
endif()
