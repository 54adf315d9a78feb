#!/usr/bin/env bash
# From a fresh checkout to a result: scripts/run.sh [config.json] [more arguments of tessera run]
# Installs what is missing, builds, then checks and runs the config.
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

config=configs/deepseek_v32_sparse_attention_small.json
if (($#)) && [[ $1 != -* ]]; then
  config=$1
  shift
fi
[[ -f $config ]] || die "there is no config '$config'; those of the project: $(printf '%s ' configs/*.json)"

scripts/build.sh release --target tessera_tool tessera_examples
tessera=build/release/tessera

say "tessera check $config"
"$tessera" check "$config"
say "tessera run $config $*"
"$tessera" run "$config" "$@"
say "done"
