#!/usr/bin/env bash
# All seven benchmarks, one after the other: a row of the paper's table. One that fails does not
# keep the others from being run. Settings as in benchmark.sh, of which DATA_DIR and ANSWERS_FILE are
# of one benchmark; OUTPUT_DIR gets a folder for each. BENCHMARKS="pope gqa" runs some of them.
set -uo pipefail

HERE=$(dirname "${BASH_SOURCE[0]}")
source "$HERE/../../settings.sh"
BENCHMARKS=${BENCHMARKS:-mme mmbench pope mmvp seed gqa flickr}
OUTPUT_DIR=${OUTPUT_DIR:-outputs}
ALLOW_MISSING=${ALLOW_MISSING:-}
UPLOAD=${UPLOAD-1} # MMBench's; the others have no server
without_effect "on all benchmarks, give DATA_ROOT or OUTPUT_DIR" DATA_DIR ANSWERS_FILE
switch ALLOW_MISSING UPLOAD
[ -z "${LIMIT:-}" ] || count LIMIT

failed=()
for name in $BENCHMARKS; do
    upload=
    [ "$name" != mmbench ] || upload=$UPLOAD
    OUTPUT_DIR=$OUTPUT_DIR/$name ALLOW_MISSING=$ALLOW_MISSING UPLOAD=$upload \
        bash "$HERE/$name.sh" "$@" && continue
    status=$?
    case $status in 129 | 130 | 143) exit $status ;; esac # Ctrl-C, SIGTERM or SIGHUP means all of them
    failed+=("$name")
done
if [ ${#failed[@]} -gt 0 ]; then
    echo "error: not finished: ${failed[*]}; the same command goes on where they stopped" >&2
    exit 1
fi
