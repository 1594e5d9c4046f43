#!/usr/bin/env bash
# The other name of the same script: cut the weights, then measure.
exec bash "$(dirname "$0")/run.sh" --run --parallel
