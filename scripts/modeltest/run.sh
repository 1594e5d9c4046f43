#!/usr/bin/env bash
# ATB-Models' tests/modeltest/run.sh:
#   bash run.sh pa_fp16|pa_bf16|fa_fp16 full_HumanEval BATCH MODEL WEIGHTS CARDS
#   bash run.sh pa_fp16|pa_bf16|fa_fp16 performance [[IN,OUT],...] BATCH MODEL WEIGHTS CARDS
# HumanEval: HUMANEVAL names the published file; with ALLOW_CODE_EXECUTION=1 the answers are run too, in the sandbox.
# Several cards: RANK_TABLE_FILE names the table; the problems are divided over its processes. MODEL names the results.
usage() {
    echo "usage: bash run.sh pa_fp16|pa_bf16|fa_fp16 full_HumanEval|performance [[[IN,OUT],...]] BATCH MODEL WEIGHTS CARDS" >&2
    exit 2
}
refuse() {
    echo "run.sh: error: $*" >&2
    exit 2
}
case $1 in
pa_fp16 | fa_fp16) dtype=float16 ;;
pa_bf16) dtype=bfloat16 ;;
*) usage ;;
esac
case $2 in
full_HumanEval) [ $# -eq 6 ] || usage ;;
performance) [ $# -eq 7 ] || usage; pairs=$3 ;;
*) usage ;;
esac
task=$2
shift $(($# - 4))
batch=$1 model=$2 weights=$3 cards=$4
mindcoder=(python -m mindcoder.cli.main)
if [ "$task" = performance ]; then
    [ "$cards" = 1 ] || refuse "performance is measured on one card, found $cards"
    exec "${mindcoder[@]}" bench "$weights" --pairs "$pairs" --batch "$batch" --dtype "$dtype" \
        --output_file "output/${model}_performance_batch_$batch.csv"
fi
data=${HUMANEVAL:-dataset/HumanEval.jsonl.gz}
[ -f "$data" ] || refuse "$data: no such file; HUMANEVAL names HumanEval.jsonl.gz"
execution=--generate_only
[ -z "$ALLOW_CODE_EXECUTION" ] || execution=--allow-code-execution
command=("${mindcoder[@]}" eval-code "$weights" --task humaneval --data "$data" --prompt complete --dtype "$dtype"
    --max_batch_size "$batch" --output_dir "output/${model}_full_HumanEval" "$execution" ${EVAL_FLAGS})
[ "$cards" = 1 ] && exec "${command[@]}"
[ -n "$RANK_TABLE_FILE" ] || refuse "$cards cards: RANK_TABLE_FILE names their table (tools/hccl_tools.py)"
exec "${mindcoder[@]}" launch --command "$(printf '%q ' "${command[@]}")" --rank_table "$RANK_TABLE_FILE" \
    --world_size "$cards"
