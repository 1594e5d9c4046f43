#!/usr/bin/env bash
# bash scripts/run_singlenode.sh "<command>" RANK_TABLE [start,end] world_size [launch flags]
# One process a device of this server; [0,8] and [0,8) both mean ranks 0 to 7.
if [ $# -lt 3 ]; then
    echo "usage: bash scripts/run_singlenode.sh \"<command>\" RANK_TABLE [start,end] world_size" >&2
    exit 2
fi
command=$1 table=$2 range=$3
shift 3
world=()
if [ $# -gt 0 ] && [[ $1 =~ ^[0-9]+$ ]]; then
    world=(--world_size "$1")
    shift
fi
exec python -m mindcoder.cli.main launch --command "$command" --rank_table "$table" --device_range "$range" "${world[@]}" "$@"
