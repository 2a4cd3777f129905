# Fails where an instruction set's object file offers the linker more than its table(): an inline function
# shared with another file could be the copy that is kept, and run where its instructions do not exist.
#
#   cmake -DNM=nm -DISA=avx2 -DOBJECT=target.cpp.o -P exports.cmake
execute_process(COMMAND ${NM} --demangle --defined-only --extern-only ${OBJECT}
                OUTPUT_VARIABLE listed COMMAND_ERROR_IS_FATAL ANY)
string(REGEX MATCHALL "[^\n]+" lines "${listed}")
set(found "")
foreach(line IN LISTS lines)
  string(REGEX REPLACE "^[0-9a-f]* *[A-Za-z] " "" symbol "${line}")
  # The compiler's own reference to what unwinds the stack.
  if(NOT symbol STREQUAL "hubel::${ISA}::table()" AND NOT symbol MATCHES "^DW\\.ref\\.")
    list(APPEND found "${symbol}")
  endif()
endforeach()
if(found)
  list(JOIN found "\n  " shown)
  message(FATAL_ERROR "the object file of ${ISA} exports more than table():\n  ${shown}")
endif()
if(NOT listed MATCHES "hubel::${ISA}::table\\(\\)")
  message(FATAL_ERROR "the object file of ${ISA} does not export table()")
endif()
