#!/usr/bin/env bash
# Formats all C++ sources in place: scripts/format.sh [--check]
# --check changes nothing, shows what would change, and fails if anything would.
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

mode=(-i)
case "${1:-}" in
  "") ;;
  --check) mode=(--dry-run --Werror) ;;
  *) die "format.sh: unknown option '$1'; known: --check" ;;
esac
command -v clang-format >/dev/null || scripts/setup.sh --clang

find . \( -path ./build -o -path ./.git \) -prune -o -type f \( -name '*.cc' -o -name '*.h' \) -print0 |
  xargs -0 -r -n 16 -P "$(cores)" clang-format --style=file "${mode[@]}" || die "not formatted; scripts/format.sh mends it"
