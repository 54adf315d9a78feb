#!/usr/bin/env bash
# Installs what is missing, builds, and runs all tests: scripts/test.sh [options]
#   --sanitize       also the suites under the address and undefined-behaviour sanitizers, and those with ranks under the thread one
#   --clang          also the format check and a Clang build with warnings as errors
#   --all            --sanitize, --clang and clang-tidy over all files
#   --preset NAME    the preset of the main suite: release (default), debug, ci
# All stages run, whatever fails; the last line counts test cases and further checks, each stage's ctest summary stands above.
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

preset=release
sanitize=false clang=false lint=false
while (($#)); do
  case "$1" in
    --sanitize) sanitize=true ;;
    --clang) clang=true ;;
    --all) sanitize=true clang=true lint=true ;;
    --preset)
      preset=${2:-}
      [[ $preset ]] || die "test.sh: --preset needs a name"
      shift
      ;;
    *) die "test.sh: unknown option '$1'; known: --sanitize, --clang, --all, --preset NAME" ;;
  esac
  shift
done

passed=0 failed=0
unhappy=()  # names of stages in which something failed

# check NAME COMMAND...: one more check that passes or fails.
check() {
  local name=$1
  shift
  say "$name"
  if "$@"; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    unhappy+=("$name")
  fi
}

# count_cases LOG: "PASSED FAILED" of a ctest log: GoogleTest's cases, and one for each test that is a program of another kind or
# that ended without a count.
count_cases() {
  awk '
    function close_test() {
      if (!open) return
      if (p + f == 0) { if (ok) p = 1; else f = 1 } else if (!ok && f == 0) f = 1
      P += p; F += f; p = f = ok = open = 0
    }
    /^[0-9]+\/[0-9]+ Testing: / { close_test(); open = 1 }
    /^\[  PASSED  \] [0-9]+ tests?\./ { p += $4 }
    /^\[  FAILED  \] [0-9]+ tests?, listed below:/ { f += $4 }
    /^Test Passed\.$/ { ok = 1 }
    END { close_test(); print P + 0, F + 0 }' "$1"
}

# suite PRESET: builds a preset and runs its tests.
suite() {
  local started=$EPOCHSECONDS status=0 counts
  local runner=() log=build/$1/Testing/Temporary/LastTest.log
  if ! scripts/build.sh "$1"; then
    failed=$((failed + 1))
    unhappy+=("building $1")
    return
  fi
  # The thread sanitizer's shadow memory does not fit every randomised address space.
  if [[ $1 == tsan ]] && setarch "$(uname -m)" -R true 2>/dev/null; then runner=(setarch "$(uname -m)" -R); fi
  say "testing $1"
  rm -f "$log"
  "${runner[@]}" ctest --preset "$1" --parallel "$(cores)" --no-tests=ignore || status=$?
  counts="0 0"
  if [[ -f $log ]]; then counts=$(count_cases "$log"); fi
  if ((status != 0)) && [[ ${counts#* } == 0 ]]; then counts="${counts% *} 1"; fi
  passed=$((passed + ${counts% *})) failed=$((failed + ${counts#* }))
  if [[ ${counts#* } != 0 ]]; then unhappy+=("testing $1"); fi
  say "$1: ${counts% *} passed, ${counts#* } failed, $((EPOCHSECONDS - started)) s"
}

if $clang; then check "checking the format" scripts/format.sh --check; fi
suite "$preset"
if $clang; then check "building with Clang, warnings as errors" scripts/build.sh clang; fi
if $sanitize; then
  suite asan
  suite tsan
fi
if $lint; then check "linting" scripts/lint.sh; fi

for stage in "${unhappy[@]}"; do say "failed: $stage"; done
echo "$passed passed, $failed failed"
((failed == 0))
