# Options that every graft target shares; a consumer of the installed package inherits none of them.
add_library(graft_options INTERFACE)
target_compile_options(graft_options INTERFACE -Wall -Wextra -Wshadow -Wno-missing-field-initializers)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")  # false alarms of GCC 12 in its own library (bugs 105651, 105329)
  target_compile_options(graft_options INTERFACE -Wno-restrict -Wno-array-bounds)
endif()
if(GRAFT_WERROR)
  target_compile_options(graft_options INTERFACE -Werror)
endif()
if(GRAFT_SANITIZE)
  target_compile_options(graft_options INTERFACE -fsanitize=${GRAFT_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(graft_options INTERFACE -fsanitize=${GRAFT_SANITIZE})
endif()
# Highway compiles every kernel once per target. AVX-512 and AVX2 matter here; SSSE3 and SSE4 only cost build time, and the
# fallback stays as baseline (disabling it is an error).
add_library(graft_highway INTERFACE)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
  # NEON alone: every such CPU has it, and register tiles are structs of vectors, which SVE's vectors of unknown size cannot
  # be. The second name turns run-time choice off, and with it GCC's target pragmas (+crypto), under which it refuses to
  # inline the implicit constructors of those structs.
  target_compile_definitions(graft_highway INTERFACE "HWY_DISABLED_TARGETS=(HWY_SVE|HWY_SVE2|HWY_SVE_256|HWY_SVE2_128)"
                                                     TOOLCHAIN_MISS_SYS_AUXV_H)
else()
  target_compile_definitions(graft_highway INTERFACE "HWY_DISABLED_TARGETS=(HWY_SSSE3|HWY_SSE4)")
endif()
find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER "${CCACHE_PROGRAM}")
endif()
