#!/usr/bin/env bash
# Runs clang-tidy, in parallel: scripts/lint.sh [--changed | file.cc...]
# All sources by default; --changed takes those that differ from the last commit, all where git does not know one.
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

scripts/setup.sh --clang
cmake --preset clang >/dev/null || die "configuring preset 'clang' failed"

folders=()
for folder in support layouts core kernels ops testing tools tests examples benchmarks; do
  if [[ -d $folder ]]; then folders+=("$folder"); fi
done
if [[ ${1:-} == --changed ]] && git rev-parse --verify --quiet HEAD >/dev/null; then
  mapfile -t files < <({ git diff --name-only --diff-filter=d HEAD && git ls-files --others --exclude-standard; } |
    grep '\.cc$' | grep -v '^tests/package/')
elif (($#)) && [[ $1 != --changed ]]; then
  files=("$@")
else
  mapfile -t files < <(find "${folders[@]}" -name '*.cc' -not -path 'tests/package/*' | sort)
fi
if ((${#files[@]} == 0)); then
  say "clang-tidy: nothing to look at"
  exit 0
fi

say "clang-tidy over ${#files[@]} files"
tidy() {  # FILE: its complaints, without the count of warnings in system headers
  set -o pipefail
  clang-tidy -p build/clang --quiet "$1" 2>&1 | sed '/^[0-9]* warnings\{0,1\} generated\.$/d'
}
export -f tidy
# shellcheck disable=SC2016  # the inner shell expands it
printf '%s\0' "${files[@]}" | xargs -0 -n 1 -P "$(cores)" bash -c 'tidy "$1"' tidy || die "clang-tidy has complaints"
