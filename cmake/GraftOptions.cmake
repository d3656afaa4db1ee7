# Options that every graft target shares; a consumer of the installed package inherits none of them.
add_library(graft_options INTERFACE)
target_compile_options(graft_options INTERFACE -Wall -Wextra -Wshadow -Wno-missing-field-initializers)
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
target_compile_definitions(graft_highway INTERFACE "HWY_DISABLED_TARGETS=(HWY_SSSE3|HWY_SSE4)")
find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER "${CCACHE_PROGRAM}")
endif()
