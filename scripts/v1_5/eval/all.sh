#!/usr/bin/env bash
# All seven benchmarks, one after the other: a row of the paper's table. One that fails does not
# keep the others from being run. Settings as in benchmark.sh (not DATA_DIR, OUTPUT_DIR and
# ANSWERS_FILE: each benchmark has its own); BENCHMARKS="pope gqa" runs some of them.
set -uo pipefail

HERE=$(dirname "${BASH_SOURCE[0]}")
BENCHMARKS=${BENCHMARKS:-mme mmbench pope mmvp seed gqa flickr}
unset DATA_DIR ANSWERS_FILE OUTPUT_DIR

failed=()
for name in $BENCHMARKS; do
    bash "$HERE/$name.sh" "$@" && continue
    status=$?
    [ $status -eq 130 ] && exit 130 # Ctrl-C means all of them
    failed+=("$name")
done
if [ ${#failed[@]} -gt 0 ]; then
    echo "error: not finished: ${failed[*]}; the same command goes on where they stopped" >&2
    exit 1
fi
