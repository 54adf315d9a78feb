#!/usr/bin/env bash
# Installs the Debian packages that are missing, and only those: scripts/setup.sh [--clang] [--arm]
# --clang adds what the Clang build, the format check and clang-tidy need; --arm a cross compiler for AArch64, an emulator of it and the
# libraries in its architecture. Nothing is done, and no network used, where all is there.
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

# package=command: a tool counts as present wherever its command comes from; a library is asked for by its package, package:architecture
# where that is not this machine's.
packages=("g++=g++" "cmake=cmake" "ninja-build=ninja" libfmt-dev nlohmann-json3-dev libeigen3-dev libgtest-dev libgmock-dev
  libcli11-dev libbenchmark-dev)
for argument in "$@"; do
  case "$argument" in
    --clang) packages+=("clang=clang++" "clang-format=clang-format" "clang-tidy=clang-tidy") ;;
    --arm)
      packages+=("g++-aarch64-linux-gnu=aarch64-linux-gnu-g++" "qemu-user=qemu-aarch64"
        libfmt-dev:arm64 libgtest-dev:arm64 libgmock-dev:arm64)
      ;;
    *) die "setup.sh: unknown option '$argument'; known: --clang, --arm" ;;
  esac
done

is_there() {  # PACKAGE[:ARCHITECTURE][=COMMAND]
  if [[ $1 == *=* ]] && command -v "${1#*=}" >/dev/null; then return 0; fi
  local package=${1%%=*} architecture
  architecture=$(dpkg --print-architecture)
  if [[ $package == *:* ]]; then architecture=${package#*:}; fi
  # One line for each architecture that it is installed in.
  dpkg-query -W -f='${Architecture} ${db:Status-Status}\n' "${package%%:*}" 2>/dev/null |
    grep -xE "(all|$architecture) installed" >/dev/null
}

if ! command -v dpkg-query >/dev/null; then
  say "not a Debian system: nothing is installed; needed are ${packages[*]%%=*}"
  exit 0
fi

missing=()
for package in "${packages[@]}"; do
  is_there "$package" || missing+=("${package%%=*}")
done
((${#missing[@]})) || exit 0

as_root=()
if ((EUID != 0)); then
  command -v sudo >/dev/null || die "missing packages, and neither root nor sudo to install them: apt-get install ${missing[*]}"
  as_root=(sudo)
  [[ -t 0 ]] || as_root=(sudo -n)  # nobody is there to type a password
fi
apt_get() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 "$@"; }

say "installing ${missing[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if [[ "${missing[*]}" == *:arm64* ]] && ! dpkg --print-foreign-architectures | grep -x arm64 >/dev/null; then
  "${as_root[@]}" dpkg --add-architecture arm64 </dev/null || die "dpkg --add-architecture arm64 failed"
fi
if ! { apt_get update && apt_get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 </dev/null; then
  tail -n 20 "$log" >&2
  die "apt-get failed; by hand: apt-get install ${missing[*]}"
fi
