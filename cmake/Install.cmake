# What `cmake --install` puts where: library, header, pkg-config file and CMake package, all relocatable.
include(CMakePackageConfigHelpers)

install(FILES "${library_file}" "${PROJECT_BINARY_DIR}/${library_soname}" "${PROJECT_BINARY_DIR}/libllmpool.so"
        DESTINATION "${CMAKE_INSTALL_LIBDIR}")
install(FILES include/llmpool.h DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
install(DIRECTORY docs/man/man3 DESTINATION "${CMAKE_INSTALL_MANDIR}" FILES_MATCHING PATTERN "*.3")

file(RELATIVE_PATH pc_to_prefix "/prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/prefix")
string(REGEX REPLACE "/$" "" pc_to_prefix "${pc_to_prefix}")
configure_file(cmake/llmpool.pc.in "${PROJECT_BINARY_DIR}/llmpool.pc" @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/llmpool.pc" DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig")

set(package_directory "${CMAKE_INSTALL_LIBDIR}/cmake/llmpool")
set(INCLUDE_DIRECTORY "${CMAKE_INSTALL_INCLUDEDIR}")
set(LIBRARY_DIRECTORY "${CMAKE_INSTALL_LIBDIR}")
configure_package_config_file(cmake/llmpoolConfig.cmake.in "${PROJECT_BINARY_DIR}/llmpoolConfig.cmake"
  INSTALL_DESTINATION "${package_directory}" PATH_VARS INCLUDE_DIRECTORY LIBRARY_DIRECTORY)
write_basic_package_version_file("${PROJECT_BINARY_DIR}/llmpoolConfigVersion.cmake"
  VERSION "${PROJECT_VERSION}" COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/llmpoolConfig.cmake" "${PROJECT_BINARY_DIR}/llmpoolConfigVersion.cmake"
        DESTINATION "${package_directory}")

add_custom_target(uninstall
  COMMAND "${CMAKE_COMMAND}" "-DMANIFEST=${PROJECT_BINARY_DIR}/install_manifest.txt"
          -P "${PROJECT_SOURCE_DIR}/cmake/Uninstall.cmake"
  COMMENT "Removing what was installed last"
  VERBATIM)

# A library in a directory that the loader knows only by its cache is not found before `ldconfig` ran.
install(CODE "
  set(directory \"\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_LIBDIR}\")
  if(CMAKE_INSTALL_PREFIX MATCHES \"^/usr(/local)?/?$\")
    message(STATUS \"Now run ldconfig, as root: until then no program finds ${library_soname} in \${directory}\")
  else()
    message(STATUS \"The loader does not look in \${directory}: link with -Wl,-rpath,\${directory}, set LD_LIBRARY_PATH, or \"
      \"name it in /etc/ld.so.conf.d and run ldconfig\")
  endif()")
