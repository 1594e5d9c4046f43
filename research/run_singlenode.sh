#!/usr/bin/env bash
# The original path; hands over to scripts/run_singlenode.sh.
exec bash "$(dirname "$0")/../scripts/run_singlenode.sh" "$@"
