# Writes the linker's version script: what the header declares is exported, all else is local.
# Run as: cmake -DHEADER=... -DNODE=... -DOUTPUT=... -P VersionScript.cmake
file(READ "${HEADER}" text)
string(REGEX REPLACE "/\\*([^*]|\\*+[^*/])*\\*+/" "" text "${text}") # comments name functions too
string(REGEX MATCHALL "llmpool_[a-z0-9_]+\\(" functions "${text}")
if(NOT functions)
  message(FATAL_ERROR "${HEADER} declares no function")
endif()
list(TRANSFORM functions REPLACE "\\($" "")
list(REMOVE_DUPLICATES functions)
list(SORT functions)
list(TRANSFORM functions PREPEND "    ")
list(JOIN functions ";\n" lines)
file(WRITE "${OUTPUT}" "${NODE} {\n  global:\n${lines};\n  local:\n    *;\n};\n")
