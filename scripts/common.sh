# What the scripts share. Source it: it goes to the project's root and defines `say`, `die` and `cores`.
# shellcheck shell=bash
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

# One start for a script and those that it calls, so that the seconds go on counting.
export TESSERA_STARTED="${TESSERA_STARTED:-$EPOCHSECONDS}"

# say TEXT...: one line that tells the step, with the seconds since the start.
say() { printf '[%3d s] %s\n' "$((EPOCHSECONDS - TESSERA_STARTED))" "$*"; }

# die TEXT...: ends the script with a message.
die() {
  say "error: $*" >&2
  exit 1
}

cores() { nproc 2>/dev/null || echo 2; }
