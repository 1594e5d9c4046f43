#!/usr/bin/env bash
# bash scripts/run_multinode.sh "<command>" RANK_TABLE [start,end] world_size [launch flags], once on every server.
# RANK_TABLE is the merged table (tools/merge_hccl.py), [start,end] the ranks of this server; the first server's
# scheduler listens on port 8118 (--port).
if [ $# -lt 3 ]; then
    echo "usage: bash scripts/run_multinode.sh \"<command>\" RANK_TABLE [start,end] world_size" >&2
    exit 2
fi
exec bash "$(dirname "$0")/launch.sh" --device_range "$@"
