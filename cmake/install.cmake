# What `cmake --install` lays down: libraries, headers under include/tessera/, the command, and the CMake package.

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/tessera)
set(header_dir ${CMAKE_INSTALL_INCLUDEDIR}/tessera)

install(TARGETS tessera EXPORT tesseraTargets FILE_SET HEADERS DESTINATION ${header_dir})
install(EXPORT tesseraTargets NAMESPACE tessera:: DESTINATION ${package_dir})
if(TARGET tessera_testing)
  install(TARGETS tessera_testing EXPORT tesseraTestingTargets FILE_SET HEADERS DESTINATION ${header_dir})
  install(EXPORT tesseraTestingTargets NAMESPACE tessera:: DESTINATION ${package_dir})
endif()
if(TARGET tessera_tool)
  file(RELATIVE_PATH library_from_tool ${CMAKE_INSTALL_FULL_BINDIR} ${CMAKE_INSTALL_FULL_LIBDIR})
  set_target_properties(tessera_tool PROPERTIES INSTALL_RPATH "$ORIGIN/${library_from_tool}")
  install(TARGETS tessera_tool)
endif()
set_target_properties(tessera PROPERTIES INSTALL_RPATH "$ORIGIN")
if(TARGET tessera_testing)
  set_target_properties(tessera_testing PROPERTIES INSTALL_RPATH "$ORIGIN")
endif()

configure_package_config_file(cmake/tesseraConfig.cmake.in tesseraConfig.cmake INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(tesseraConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/tesseraConfig.cmake ${PROJECT_BINARY_DIR}/tesseraConfigVersion.cmake
        DESTINATION ${package_dir})
install(FILES LICENSE NOTICE DESTINATION ${CMAKE_INSTALL_DOCDIR})
