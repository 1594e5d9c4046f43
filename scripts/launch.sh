#!/usr/bin/env bash
# What run_singlenode.sh and run_multinode.sh share:
# launch.sh --devices|--device_range "<command>" RANK_TABLE [start,end] [world_size] [launch flags]
kind=$1 command=$2 table=$3 range=$4
shift 4
world=()
if [ $# -gt 0 ] && [[ $1 =~ ^[0-9]+$ ]]; then
    world=(--world_size "$1")
    shift
fi
exec python -m mindcoder.cli.main launch --command "$command" --rank_table "$table" "$kind" "$range" "${world[@]}" "$@"
