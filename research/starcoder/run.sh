#!/usr/bin/env bash
# bash run.sh --run --parallel: the original StarCoder script for two cards. --parallel cuts the weights of input_dir
# into output_dir, one part per card; --run measures the cases and writes their table. Each variable below may be set in
# the environment. The measurement is that of one process with the whole weights.
: "${input_dir:=./starcoder}" "${output_dir:=./starcoder_parallel}" "${world_size:=2}" "${device_id:=0}"
: "${multi_batch_size:=[1,4,8,16,32]}" "${seqlen_in:=128}" "${seqlen_out:=128}"
: "${multicase:=1}" "${set_case_pair:=0}"                           # one case or several; pairs or every combination
: "${seqlen_in_range:=[5,11]}" "${seqlen_out_range:=[5,11]}"        # 2^5 to 2^10
: "${seqlen_in_pair:=[256,256,512,1024]}" "${seqlen_out_pair:=[64,256,512,1024]}"
: "${model_name:=starcoder}"
run= parallel=
for flag in "$@"; do
    case $flag in
    --run) run=1 ;;
    --parallel) parallel=1 ;;
    *) echo "run.sh: error: unknown flag $flag; expected --run, --parallel" >&2; exit 2 ;;
    esac
done
[ -n "$run$parallel" ] || { echo "usage: bash run.sh --run --parallel" >&2; exit 2; }
mindcoder=(python -m mindcoder.cli.main)
if [ -n "$parallel" ] && [ ! -e "$output_dir" ]; then
    "${mindcoder[@]}" convert "$input_dir" "$output_dir" --to mindcoder --model_parallel "$world_size" || exit
fi
[ -n "$run" ] || exit 0
pairs=$(python -c 'import json, sys
from mindcoder.bench.cases import original_pairs
print(json.dumps(original_pairs(*map(json.loads, sys.argv[1:]))))' "$multicase" "$set_case_pair" "$seqlen_in" \
    "$seqlen_out" "$seqlen_in_range" "$seqlen_out_range" "$seqlen_in_pair" "$seqlen_out_pair") || exit 2
batches=${multi_batch_size//[][ ]/}
ASCEND_RT_VISIBLE_DEVICES=$device_id exec "${mindcoder[@]}" bench "$input_dir" --pairs "$pairs" --batch "$batches" --dtype float16 \
    --output_file "multibatch_performance_${model_name}_$device_id.csv"
