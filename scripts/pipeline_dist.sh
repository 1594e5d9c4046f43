#!/usr/bin/env bash
# Answer prompts on several processes, each with its part of the weights. CHECKPOINT is a run, a step, a folder of
# rank_N/checkpoint_N.ckpt, or whole weights: each process takes its part.
#
# bash scripts/pipeline_dist.sh RANK_TABLE CHECKPOINT [predict flags]
#     The original command line: one process per card of the table, every layer divided over all of them. CONFIG names
#     the configuration (default: research/wizardcoder/run_wizardcoder.yaml), PROMPTS a file of prompts (default: the
#     original script's prompt, twice).
# bash scripts/pipeline_dist.sh CONFIG CHECKPOINT PROMPTS RANK_TABLE [start,end] world_size [predict flags]
#     The layout is parallel_config's, or --set parallel_config.model_parallel=4 and so on.
#
# Prompts: text, one a line; JSON or JSONL. Answers go to output/answers.jsonl (--output_file).
here=$(dirname "$0")
if [ $# -ge 2 ] && [ "${1##*.}" = json ]; then
    table=$1 checkpoint=$2
    shift 2
    config=${CONFIG:-$here/../research/wizardcoder/run_wizardcoder.yaml}
    world=$(python -c 'import sys
from mindcoder.cli.rank_table_scripts import print_world_size
sys.exit(print_world_size(sys.argv[1]))' "$table") || exit 2
    mkdir -p output
    prompts=${PROMPTS:-output/pipeline_dist_prompts.txt}
    [ -n "$PROMPTS" ] || printf '使用python编写快速排序代码\n%.0s' 1 2 >"$prompts"
    where=()
    set -- --set parallel_config.data_parallel=1 --set "parallel_config.model_parallel=$world" \
        --set parallel_config.pipeline_stage=1 "$@"
elif [ $# -ge 6 ]; then
    config=$1 checkpoint=$2 prompts=$3 table=$4 where=(--devices "$5" --world_size "$6")
    shift 6
else
    echo "usage: bash scripts/pipeline_dist.sh RANK_TABLE CHECKPOINT [flags]" >&2
    echo "   or: bash scripts/pipeline_dist.sh CONFIG CHECKPOINT PROMPTS RANK_TABLE [start,end] world_size [flags]" >&2
    exit 2
fi
answers=(--output_file output/answers.jsonl)
for flag in "$@"; do [ "$flag" = --output_file ] && answers=(); done
command=$(printf "%q " python -m mindcoder.cli.main predict --config "$config" --use_parallel True \
    --load_checkpoint "$checkpoint" --predict_data "$prompts" "${answers[@]}" "$@")
exec python -m mindcoder.cli.main launch --command "$command" --rank_table "$table" "${where[@]}"
