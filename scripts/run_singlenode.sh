#!/usr/bin/env bash
# bash scripts/run_singlenode.sh "<command>" RANK_TABLE [start,end] world_size [launch flags]
# One process per card of this server: [0,8] and [0,8) are cards 0 to 7, [4,8] cards 4 to 7 with ranks 0 to 3.
if [ $# -lt 3 ]; then
    echo "usage: bash scripts/run_singlenode.sh \"<command>\" RANK_TABLE [start,end] world_size" >&2
    exit 2
fi
exec bash "$(dirname "$0")/launch.sh" --devices "$@"
