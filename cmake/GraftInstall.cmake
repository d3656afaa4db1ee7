# find_package(graft) for consumers: libraries, headers (by room, as in the source tree) and the program.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
get_property(libraries GLOBAL PROPERTY GRAFT_LIBRARIES)
add_custom_target(installable)  # all but tests and benchmarks
add_dependencies(installable ${libraries})
if(TARGET graft_program)
  add_dependencies(installable graft_program)
endif()
install(TARGETS ${libraries} graft_all EXPORT graftTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
foreach(room core kernels autograd nn peft models train)
  # Kernels are reached by the name of their op: what is below cpu/ and ref/ is nobody else's business.
  install(DIRECTORY ${room} DESTINATION include/graft FILES_MATCHING PATTERN "*.h"
          PATTERN "*-inl.h" EXCLUDE PATTERN "cpu" EXCLUDE PATTERN "ref" EXCLUDE)
endforeach()
install(EXPORT graftTargets NAMESPACE graft:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/graft)
configure_package_config_file(cmake/graftConfig.cmake.in "${PROJECT_BINARY_DIR}/graftConfig.cmake"
                              INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/graft)
write_basic_package_version_file("${PROJECT_BINARY_DIR}/graftConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/graftConfig.cmake" "${PROJECT_BINARY_DIR}/graftConfigVersion.cmake"
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/graft)
