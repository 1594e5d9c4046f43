#!/usr/bin/env bash
# bash research/starcoder2/run_800i_a2_pa.sh WEIGHTS [flags of examples/run_pa.py]: ATB-Models' script of StarCoder2.
[ $# -ge 1 ] || { echo "usage: bash run_800i_a2_pa.sh WEIGHTS [flags of examples/run_pa.py]" >&2; exit 2; }
weights=$1
shift
exec python "$(dirname "$0")/../../examples/run_pa.py" --model_path "$weights" "$@"
