# How every target of the project is compiled.

set(TESSERA_WARNINGS -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wold-style-cast)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # False at -O3 wherever std::string's operator+ is inlined: https://gcc.gnu.org/PR105329, https://gcc.gnu.org/PR105651
  list(APPEND TESSERA_WARNINGS -Wno-restrict -Wno-stringop-overflow -Wno-array-bounds)
endif()
if(TESSERA_WARNINGS_AS_ERRORS)
  list(APPEND TESSERA_WARNINGS -Werror)
endif()

# tessera_glob(<result> <folder>... EXTENSION <extension>): the files with this extension in these folders of the project and below.
function(tessera_glob result)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "EXTENSION" "")
  list(TRANSFORM arg_UNPARSED_ARGUMENTS PREPEND "${PROJECT_SOURCE_DIR}/")
  list(TRANSFORM arg_UNPARSED_ARGUMENTS APPEND "/*.${arg_EXTENSION}")
  file(GLOB_RECURSE files CONFIGURE_DEPENDS ${arg_UNPARSED_ARGUMENTS})
  set(${result} ${files} PARENT_SCOPE)
endfunction()

# tessera_target(<target> [PCH <header>]): language, warnings, sanitizers and, if given, a precompiled header.
function(tessera_target target)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "PCH" "")
  target_compile_features(${target} PUBLIC cxx_std_20)
  target_compile_options(${target} PRIVATE ${TESSERA_WARNINGS})
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR})
  if(TESSERA_SANITIZE)
    # Public: what is linked to a sanitized library must be sanitized too.
    target_compile_options(${target} PUBLIC -fsanitize=${TESSERA_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
    target_link_options(${target} PUBLIC -fsanitize=${TESSERA_SANITIZE})
  endif()
  if(arg_PCH AND TESSERA_PCH)
    target_precompile_headers(${target} PRIVATE ${PROJECT_SOURCE_DIR}/${arg_PCH})
  endif()
endfunction()

# tessera_public_headers(<target> <header>...): headers found as "layouts/layout.h" and as <tessera/layouts/layout.h>, here and
# installed. With CMAKE_VERIFY_INTERFACE_HEADER_SETS, `all_verify_interface_header_sets` compiles each alone.
function(tessera_public_headers target)
  target_sources(${target} PUBLIC FILE_SET HEADERS BASE_DIRS ${PROJECT_SOURCE_DIR} FILES ${ARGN})
  file(MAKE_DIRECTORY ${PROJECT_BINARY_DIR}/include)
  file(CREATE_LINK ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR}/include/tessera SYMBOLIC)
  target_include_directories(${target} INTERFACE $<BUILD_INTERFACE:${PROJECT_BINARY_DIR}/include>
                                                 $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
endfunction()
