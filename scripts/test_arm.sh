#!/usr/bin/env bash
# Cross-compiles the kernels for AArch64 and runs their tests under qemu: scripts/test_arm.sh [--filter FILTER]
# Installs what is missing first. FILTER is GoogleTest's; by default all tests run but those that an emulator cannot, or is slow at.
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

# Death tests start their program again, of which this machine's kernel knows nothing. Gradients of 16-bit elements are also tested, with the
# same leaves, as those of sparse attention and before guard pages, in an eighth of the time.
filter='-*DeathTest.*:Storage/CpuAttention.GradientsAgreeWithTheReference*/*16'
while (($#)); do
  case "$1" in
    --filter)
      filter=${2:-}
      [[ $filter ]] || die "test_arm.sh: --filter needs a filter"
      shift
      ;;
    *) die "test_arm.sh: unknown option '$1'; known: --filter FILTER" ;;
  esac
  shift
done
if [[ $(uname -m) == aarch64 ]]; then die "this machine is AArch64: scripts/test.sh tests its kernels"; fi

scripts/build.sh arm

# Every tile of the one matrix product has to multiply and add four floats at a time.
say "looking for NEON in the tiles"
leaves=build/arm/CMakeFiles/tessera.dir/kernels/cpu/generic.cc.o
aarch64-linux-gnu-objdump --disassemble --no-show-raw-insn "$leaves" | awk '
  /^[0-9a-f]+ <.*>:$/ { tile = $2 ~ /multiply_tile/ ? $2 : ""; if (tile) tiles[tile] = 0 }
  tile && /[\t ]fmla[\t ]+v[0-9]+\.4s,/ { ++tiles[tile] }
  END {
    for (tile in tiles) { ++all; if (tiles[tile] == 0) { ++without; print "no fmla of 4s in " tile } }
    print all + 0 " tiles, " without + 0 " without NEON"
    exit all == 0 || without > 0
  }' || die "$leaves does not use NEON"

# The tests are dealt to as many emulators as there are cores. TESSERA_ISA lets them fail where the kernels find no NEON.
shards=$(cores)
say "testing under qemu on $shards cores"
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
runs=()
for ((shard = 0; shard < shards; ++shard)); do
  TESSERA_ISA=neon GTEST_TOTAL_SHARDS=$shards GTEST_SHARD_INDEX=$shard \
    qemu-aarch64 -L / build/arm/tessera_kernels_tests --gtest_brief=1 --gtest_filter="$filter" >"$logs/$shard" 2>&1 &
  runs+=($!)
done
failed=0
for shard in "${!runs[@]}"; do
  wait "${runs[shard]}" || failed=$((failed + 1))
  cat "$logs/$shard"
done
passed=$(awk '/^\[  PASSED  \] [0-9]+ tests?\./ { all += $4 } END { print all + 0 }' "$logs"/*)
if ((failed)); then die "tests fail on AArch64"; fi
if ((passed == 0)); then die "no test matches '$filter'"; fi
say "$passed passed"
