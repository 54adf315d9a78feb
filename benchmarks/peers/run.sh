#!/usr/bin/env bash
# Compares attention with PyTorch's on this machine: benchmarks/peers/run.sh [options of attention.py]
# PyTorch and numpy come from PyPI into build/peers, the first time only; nothing else of the project needs them. PyPI's
# wheels for Linux bring CUDA along, 5 GB in all; with PIP_INDEX_URL set to PyTorch's own index of CPU wheels it is 200 MB.
# shellcheck source=scripts/common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/../../scripts/common.sh"

python=build/peers/venv/bin/python
if ! "$python" -c 'import numpy, torch' 2>/dev/null; then
  command -v python3 >/dev/null || die "python3 is missing: apt-get install python3 python3-venv"
  mkdir -p build/peers
  say "installing PyTorch and numpy into build/peers"
  log=build/peers/install.log
  if ! { python3 -m venv build/peers/venv && "$python" -m pip install --quiet torch numpy; } >"$log" 2>&1; then
    tail -n 5 "$log" >&2
    die "PyTorch could not be installed (the whole log: $log); it needs a network in which pip reaches PyPI"
  fi
fi

say "building tessera_attention_benchmark"
cmake --preset bench >/dev/null || die "configuring preset 'bench' failed"
cmake --build --preset bench --target tessera_attention_benchmark >build/peers/build.log 2>&1 ||
  die "the build failed: $(tail -n 20 build/peers/build.log)"
exec "$python" benchmarks/peers/attention.py --benchmark build/bench/tessera_attention_benchmark "$@"
