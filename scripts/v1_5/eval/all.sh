#!/usr/bin/env bash
# Runs all seven benchmarks, one after the other: a row of the paper's table. If one fails, the
# others still run, unless the first ones fail with the same error or there is no data folder: then
# all would fail. Settings as in benchmark.sh, except DATA_DIR and ANSWERS_FILE, which belong to one
# benchmark; OUTPUT_DIR gets a folder for each. BENCHMARKS="pope gqa" runs some of them.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
source scripts/settings.sh

KNOWN="mme mmbench pope mmvp seed gqa flickr"
BENCHMARKS=${BENCHMARKS:-$KNOWN}
export DATA_ROOT=${DATA_ROOT:-playground/data/eval}
OUTPUT_DIR=${OUTPUT_DIR:-outputs}
ALLOW_MISSING=${ALLOW_MISSING:-}
UPLOAD=${UPLOAD-1} # for MMBench; the others have no server
PYTHON=${PYTHON:-.venv/bin/python}
without_effect "on all benchmarks, give DATA_ROOT or OUTPUT_DIR" DATA_DIR ANSWERS_FILE
switch ALLOW_MISSING UPLOAD
for setting in LIMIT BATCH_SIZE NPROC; do
    [ -z "${!setting:-}" ] || count $setting
done
program PYTHON
for name in $BENCHMARKS; do
    [[ " $KNOWN " == *" $name "* ]] || refuse "BENCHMARKS has '$name': name some of ${KNOWN// /, }"
done

# run NAME flags...: runs one benchmark.
run() {
    local name=$1 upload=
    shift
    [ "$name" != mmbench ] || upload=$UPLOAD
    OUTPUT_DIR=$OUTPUT_DIR/$name ALLOW_MISSING=$ALLOW_MISSING UPLOAD=$upload \
        bash "scripts/v1_5/eval/$name.sh" "$@"
}

# say_once: passes on the messages of a benchmark, except errors that an earlier one has reported.
# Its status is 1 if the benchmark has reported only such errors.
say_once() {
    trap '' INT HUP TERM # passes on the last line of a stopped benchmark
    local line new='' again=''
    while IFS= read -r line || [ -n "$line" ]; do
        if [[ $line == 'error: '* && $line != 'error: question '* ]]; then
            if grep -qxF -e "$line" "$said"; then again=1 && continue; fi
            new=1
            echo "$line" >>"$said"
        fi
        printf '%s\n' "$line" >&2
    done
    [ -z "$again" ] || [ -n "$new" ]
}

said=$(mktemp) || exit
trap 'rm -f "$said"' EXIT
exec 3>&1
finished='' failed=() why=''
for name in $BENCHMARKS; do
    again=0
    if [ -n "$why" ]; then
        failed+=("$name")
        continue
    elif [ -n "$finished" ]; then # the settings are valid: the progress bar may use the terminal
        run "$name" "$@"
        status=$?
    else
        run "$name" "$@" 2>&1 >&3 3>&- | say_once
        ends=("${PIPESTATUS[@]}")
        status=${ends[0]} again=${ends[1]}
    fi
    case $status in
    0) finished=1 ;;
    129 | 130 | 143) exit $status ;; # Ctrl-C, SIGTERM or SIGHUP stops all of them
    *)
        failed+=("$name")
        [ "$again" -eq 0 ] || why="$name failed as one before it did: mend that"
        [ -d "$DATA_ROOT" ] ||
            why="there is no folder $DATA_ROOT (DATA_ROOT): $PYTHON -m llava.benchmarks download all \
--data-root $(printf %q "$DATA_ROOT") fills it"
        ;;
    esac
done
if [ ${#failed[@]} -gt 0 ]; then
    [ -z "$why" ] || why="the rest was not tried, as $why; then "
    echo "error: not finished: ${failed[*]}; ${why}the same command goes on where they stopped" >&2
    exit 1
fi
