# libllmpool.so: swift build makes the object files, swiftc links them with the Swift runtime inside.
# Defines the target `llmpool::llmpool`, named as in an installed package, and `llmpool`, which builds it.

find_package(PkgConfig)
if(NOT PKG_CONFIG_FOUND)
  message(FATAL_ERROR "pkg-config is missing; on Debian: apt-get install pkg-config")
endif()
set(link_dependencies)
foreach(dependency "libcurl libcurl4-openssl-dev" "libnghttp2 libnghttp2-dev" "openssl libssl-dev")
  separate_arguments(dependency)
  list(GET dependency 0 module)
  list(GET dependency 1 package)
  pkg_check_modules(${module} QUIET ${module})
  if(NOT ${module}_FOUND)
    message(FATAL_ERROR "The headers of ${module} are missing; on Debian: apt-get install ${package}")
  endif()
  foreach(directory IN LISTS ${module}_LIBRARY_DIRS)
    list(APPEND link_dependencies "-L${directory}")
  endforeach()
  list(TRANSFORM ${module}_LIBRARIES PREPEND "-l" OUTPUT_VARIABLE names)
  list(APPEND link_dependencies ${names})
endforeach()

# ---- object files -----------------------------------------------------------

set(swift_configuration release)
if(CMAKE_BUILD_TYPE STREQUAL "Debug" OR LLMPOOL_SANITIZE)
  set(swift_configuration debug)
endif()
set(swift_scratch "${PROJECT_BINARY_DIR}/swift")
set(swift_flags -c ${swift_configuration} --scratch-path "${swift_scratch}" --package-path "${PROJECT_SOURCE_DIR}")
# The checks for overlapping access at run time cost 8 % of a request; debug builds and the sanitizers' keep them.
if(swift_configuration STREQUAL "release" AND NOT LLMPOOL_SANITIZE)
  list(APPEND swift_flags -Xswiftc -enforce-exclusivity=unchecked)
endif()
if(LLMPOOL_NO_RECORDING) # no option: such a library tells nothing of itself, to measure what telling costs
  list(APPEND swift_flags -Xswiftc -DLLMPOOL_NO_RECORDING)
endif()
set(sanitize_c -fsanitize=${LLMPOOL_SANITIZE} -fno-omit-frame-pointer -g)
set(sanitize_link -fsanitize=${LLMPOOL_SANITIZE} -fuse-ld=lld)
if(LLMPOOL_SANITIZE STREQUAL "undefined") # not for Swift on Linux, which traps on overflow by itself: the C parts
  list(APPEND sanitize_c -fno-sanitize-recover=undefined)
  list(APPEND swift_flags -Xcc -fsanitize=undefined -Xcc -fno-sanitize-recover=undefined
       -Xswiftc -Xclang-linker -Xswiftc -fsanitize=undefined) # its runtime, for the programs of the package
elseif(LLMPOOL_SANITIZE)
  list(APPEND swift_flags --sanitize=${LLMPOOL_SANITIZE})
endif()
if(LLMPOOL_SANITIZE STREQUAL "thread") # its runtime wraps libdispatch
  cmake_path(SET swift_libraries NORMALIZE "${CMAKE_C_COMPILER}/../../lib/swift/linux")
  list(APPEND sanitize_link -L${swift_libraries} -Wl,-rpath,${swift_libraries} -ldispatch -lBlocksRuntime)
endif()

# Derived from the sources, not from what lies in the scratch directory: that keeps the objects of deleted files.
set(modules LLMPoolCore LLMPoolWire CLLMPoolSystem LLMPoolEngine LLMPool LLMPoolC)
set(sources)
set(objects)
foreach(module IN LISTS modules)
  set(base "${PROJECT_SOURCE_DIR}/Sources/${module}")
  file(GLOB_RECURSE module_sources CONFIGURE_DEPENDS RELATIVE "${base}" "${base}/*.swift" "${base}/*.c")
  file(GLOB_RECURSE module_headers CONFIGURE_DEPENDS "${base}/*.h" "${base}/*.modulemap")
  foreach(source IN LISTS module_sources)
    list(APPEND sources "${base}/${source}")
    if(source MATCHES "\\.swift$") # named without its directory: Swift wants file names unique within a module
      cmake_path(GET source FILENAME source)
    endif()
    list(APPEND objects "${swift_scratch}/${swift_configuration}/${module}.build/${source}.o")
  endforeach()
  list(APPEND sources ${module_headers})
endforeach()
file(GLOB public_headers CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/include/*")
list(APPEND sources ${public_headers} "${PROJECT_SOURCE_DIR}/Package.swift" "${PROJECT_SOURCE_DIR}/examples/swift/main.swift")

set(swift_stamp "${PROJECT_BINARY_DIR}/swift-objects.stamp")
add_custom_command(
  OUTPUT "${swift_stamp}"
  COMMAND "${LLMPOOL_SWIFT}" build ${swift_flags}
  COMMAND "${CMAKE_COMMAND}" -E touch "${swift_stamp}"
  DEPENDS ${sources}
  COMMENT "Compiling the Swift modules (${swift_configuration})"
  USES_TERMINAL VERBATIM)

# ---- link -------------------------------------------------------------------

# Two minor versions in one process have nodes of their own, else the loader binds the calls of both to one of them. A later
# major version will add a node for what it brings, and rename none.
set(symbol_version "LLMPOOL_${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR}")
set(version_script "${PROJECT_BINARY_DIR}/llmpool.map")
add_custom_command(
  OUTPUT "${version_script}"
  COMMAND "${CMAKE_COMMAND}" "-DHEADER=${PROJECT_SOURCE_DIR}/include/llmpool.h" "-DNODE=${symbol_version}"
          "-DOUTPUT=${version_script}" -P "${PROJECT_SOURCE_DIR}/cmake/VersionScript.cmake"
  DEPENDS "${PROJECT_SOURCE_DIR}/include/llmpool.h" "${PROJECT_SOURCE_DIR}/cmake/VersionScript.cmake"
  COMMENT "Deriving the exported symbols from llmpool.h"
  VERBATIM)

# Before 1.0 a minor version may change the C ABI (a later major alone will): each has a soname of its own.
set(library_soname "libllmpool.so.${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR}")
set(library_name "libllmpool.so.${PROJECT_VERSION}")
set(library_file "${PROJECT_BINARY_DIR}/${library_name}")
set(extracted_members "${PROJECT_BINARY_DIR}/llmpool.extracted") # from archives, and for whom
# nodelete: the Swift runtime and the engine's thread do not survive an unload.
set(linker_options "-soname=${library_soname}" -z nodelete --gc-sections --as-needed --build-id
    "--version-script=${version_script}" "--why-extract=${extracted_members}")
if(NOT LLMPOOL_SANITIZE) # else the sanitizer's runtime comes with the program
  list(APPEND linker_options --no-undefined)
endif()
set(link_flags)
foreach(option IN LISTS linker_options)
  list(APPEND link_flags -Xlinker "${option}")
endforeach()
if(CMAKE_BUILD_TYPE STREQUAL "Release" AND NOT LLMPOOL_KEEP_SYMBOLS AND NOT LLMPOOL_SANITIZE)
  list(APPEND link_flags -Xlinker -s)
endif()

set(bill_of_materials "${PROJECT_BINARY_DIR}/llmpool.cdx.json") # of what is linked in
set(LLMPOOL_SWIFT_TAG "@swift-${LLMPOOL_SWIFT_VERSION}-RELEASE") # an @ of its own, which is no variable's
configure_file(cmake/llmpool.cdx.json.in "${bill_of_materials}" @ONLY)

add_library(llmpool_hypotf OBJECT cmake/hypotf.c)
set_target_properties(llmpool_hypotf PROPERTIES POSITION_INDEPENDENT_CODE ON)
set(own_object "$<TARGET_OBJECTS:llmpool_hypotf>")

list(JOIN objects "\n" object_lines)
file(GENERATE OUTPUT "${PROJECT_BINARY_DIR}/llmpool.objects" CONTENT "${object_lines}\n")
add_custom_command(
  OUTPUT "${library_file}"
  COMMAND "${LLMPOOL_SWIFTC}" -emit-library -static-stdlib -no-toolchain-stdlib-rpath -use-ld=lld -module-name llmpool
          -o "${library_file}" "@${PROJECT_BINARY_DIR}/llmpool.objects" "${own_object}" ${link_flags}
          ${link_dependencies}
  COMMAND "${CMAKE_COMMAND}" -E create_symlink "${library_name}" "${PROJECT_BINARY_DIR}/${library_soname}"
  COMMAND "${CMAKE_COMMAND}" -E create_symlink "${library_soname}" "${PROJECT_BINARY_DIR}/libllmpool.so"
  DEPENDS "${swift_stamp}" "${version_script}" "${PROJECT_BINARY_DIR}/llmpool.objects" "${own_object}"
  COMMENT "Linking ${library_name}"
  VERBATIM)
add_custom_target(llmpool ALL DEPENDS "${library_file}")

add_library(llmpool::llmpool SHARED IMPORTED GLOBAL)
set_target_properties(llmpool::llmpool PROPERTIES IMPORTED_LOCATION "${library_file}" IMPORTED_SONAME "${library_soname}")
target_include_directories(llmpool::llmpool INTERFACE "${PROJECT_SOURCE_DIR}/include")
if(LLMPOOL_SANITIZE)
  target_compile_options(llmpool::llmpool INTERFACE ${sanitize_c})
  target_link_options(llmpool::llmpool INTERFACE ${sanitize_link})
endif()
add_dependencies(llmpool::llmpool llmpool)
