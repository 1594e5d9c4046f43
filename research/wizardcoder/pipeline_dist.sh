#!/usr/bin/env bash
# bash pipeline_dist.sh RANK_TABLE CHECKPOINT: the original path; hands over to scripts/pipeline_dist.sh.
exec bash "$(dirname "$0")/../../scripts/pipeline_dist.sh" "$@"
