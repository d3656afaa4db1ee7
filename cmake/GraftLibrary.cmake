# graft_library(ROOM LINK ...): the library graft_ROOM of all sources below ROOM/.
function(graft_library room)
  cmake_parse_arguments(ARG "" "" "LINK" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/${room}/*.cc")
  file(GLOB_RECURSE headers CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/${room}/*.h")
  if(NOT sources)  # a room that only has headers so far still is a library
    set(sources "${PROJECT_BINARY_DIR}/${room}_empty.cc")
    file(WRITE "${sources}" "")
  endif()
  add_library(graft_${room} STATIC ${sources} ${headers})
  set_target_properties(graft_${room} PROPERTIES LINKER_LANGUAGE CXX EXPORT_NAME ${room})
  target_include_directories(graft_${room} PUBLIC "$<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>"
                                                  "$<INSTALL_INTERFACE:include/graft>")
  target_compile_features(graft_${room} PUBLIC cxx_std_20)
  target_link_libraries(graft_${room} PUBLIC ${ARG_LINK} PRIVATE "$<BUILD_INTERFACE:graft_options>"
                                                                 "$<BUILD_INTERFACE:graft_highway>")
  add_library(graft::${room} ALIAS graft_${room})
  set_property(GLOBAL APPEND PROPERTY GRAFT_LIBRARIES graft_${room})
endfunction()
