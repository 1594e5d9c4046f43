#!/usr/bin/env bash
# The original path; hands over to scripts/run_multinode.sh.
exec bash "$(dirname "$0")/../scripts/run_multinode.sh" "$@"
