#!/usr/bin/env bash
# Configures and builds a preset into build/<preset>: scripts/build.sh [preset] [more arguments of cmake --build]
# Presets: release (default), debug, asan, tsan, clang, ci, bench, arm. Example: scripts/build.sh debug --target tessera_core_tests
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

preset=release
if (($#)) && [[ $1 != -* ]]; then
  preset=$1
  shift
fi

case "$preset" in
  clang | arm) scripts/setup.sh "--$preset" ;;
  *) scripts/setup.sh ;;
esac

log=$(mktemp)
trap 'rm -f "$log"' EXIT
fresh=()
cache=build/$preset/CMakeCache.txt
# A folder that was moved or copied together with its build has a cache that points elsewhere.
if [[ -f $cache ]] && ! grep -qxF "CMAKE_HOME_DIRECTORY:INTERNAL=$PWD" "$cache"; then fresh=(--fresh); fi
if ! cmake --preset "$preset" "${fresh[@]}" >"$log" 2>&1; then
  cat "$log" >&2
  die "configuring preset '$preset' failed"
fi

say "building $preset into build/$preset on $(cores) cores"
cmake --build --preset "$preset" --parallel "$(cores)" "$@" || die "building preset '$preset' failed"
