#!/usr/bin/env bash
# bash research/wizardcoder/run_pa.sh WEIGHTS [flags of examples/run_pa.py]: ATB-Models' run_pa.sh of WizardCoder-34B.
[ $# -ge 1 ] || { echo "usage: bash run_pa.sh WEIGHTS [flags of examples/run_pa.py]" >&2; exit 2; }
weights=$1
shift
exec python "$(dirname "$0")/../../examples/run_pa.py" --model_path "$weights" "$@"
