#!/usr/bin/env bash
# bash scripts/pipeline_dist.sh CONFIG CHECKPOINT PROMPTS RANK_TABLE [start,end] world_size [predict flags]
# Answer a list of prompts (text: one a line; JSON or JSONL) on several processes. CHECKPOINT is a run, a step, a folder
# of rank_N/checkpoint_N.ckpt, or whole weights: each process takes its part. The layout is parallel_config's, or
# --set parallel_config.model_parallel=4 and so on. Answers go to output/answers.jsonl (--output_file).
if [ $# -lt 6 ]; then
    echo "usage: bash scripts/pipeline_dist.sh CONFIG CHECKPOINT PROMPTS RANK_TABLE [start,end] world_size [flags]" >&2
    exit 2
fi
config=$1 checkpoint=$2 prompts=$3 table=$4 range=$5 world=$6
shift 6
answers=(--output_file output/answers.jsonl)
for flag in "$@"; do [ "$flag" = --output_file ] && answers=(); done
command=$(printf "%q " python -m mindcoder.cli.main predict --config "$config" --use_parallel True \
    --load_checkpoint "$checkpoint" --predict_data "$prompts" "${answers[@]}" "$@")
exec bash "$(dirname "$0")/run_singlenode.sh" "$command" "$table" "$range" "$world"
