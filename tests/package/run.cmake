# Installs the build in BUILD_DIR into a fresh folder, then builds and runs the consumer against it with CXX_COMPILER and GENERATOR.
set(work_dir ${BUILD_DIR}/package)
set(prefix ${work_dir}/prefix)
file(REMOVE_RECURSE ${work_dir})

execute_process(COMMAND ${CMAKE_COMMAND} --install ${BUILD_DIR} --config "${CONFIG}" --prefix ${prefix}
                OUTPUT_QUIET COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND ${CMAKE_COMMAND} -S ${CMAKE_CURRENT_LIST_DIR} -B ${work_dir}/consumer -G ${GENERATOR}
                        -D CMAKE_BUILD_TYPE=Debug -D CMAKE_CXX_COMPILER=${CXX_COMPILER} -D CMAKE_PREFIX_PATH=${prefix}
                        -D CMAKE_FIND_USE_PACKAGE_REGISTRY=OFF
                COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND ${CMAKE_COMMAND} --build ${work_dir}/consumer COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND ${work_dir}/consumer/consumer COMMAND_ERROR_IS_FATAL ANY)
if(EXISTS ${prefix}/bin/tessera)
  execute_process(COMMAND ${prefix}/bin/tessera --help COMMAND_ERROR_IS_FATAL ANY)
endif()
