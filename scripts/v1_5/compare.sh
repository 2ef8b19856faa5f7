#!/usr/bin/env bash
# Compares every method in one table: all pruners x compensations x budgets x benchmarks in one
# sweep, the cost of each, and a report. The same command resumes it, with the same result.
#   bash scripts/v1_5/compare.sh          LLaVA-1.5 at 192, 128 and 64 of its 576 visual tokens
#   bash scripts/v1_5/compare.sh --mini   the mini model at 36, 18 and 9 of its 144, on drawn data
# Further flags are those of llava.eval.sweep; they override the settings.
# Settings are environment variables; paths are relative to the repository:
#   MODEL_PATH DATA_ROOT OUTPUT_DIR BATCH_SIZE NPROC DEVICE LIMIT PYTHON and those below
#   MINI_DATA (instead of DATA_ROOT), with --mini
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source scripts/settings.sh
trap 'exit 130' INT # Ctrl-C in a step stops the whole script

MINI=
if [ "${1:-}" = --mini ]; then
    MINI=1
    shift
fi
KNOWN="mme mmbench pope mmvp seed gqa flickr"
BENCHMARKS=${BENCHMARKS:-$KNOWN}
METHODS=${METHODS-accm}             # in addition: ACCM with its captions
PRUNERS=${PRUNERS:-all}             # names of the registry; all: every pruner
COMPENSATIONS=${COMPENSATIONS:-none} # each with every pruner
COSTS=${COSTS-1}                    # measure time, operations and memory of each
LIMIT=${LIMIT:-}                    # ask only this many questions of a benchmark
PYTHON=${PYTHON:-.venv/bin/python}
if [ -n "$MINI" ]; then
    without_effect "with --mini, whose data MINI_DATA names" DATA_ROOT
    MODEL_PATH=${MODEL_PATH:-checkpoints/accm-mini}
    mini_world
    MINI_DATA=${MINI_DATA:-playground/data/$WORLD}
    DATA_ROOT=$MINI_DATA/eval
    OUTPUT_DIR=${OUTPUT_DIR:-outputs/compare-mini}
    BUDGETS=${BUDGETS:-1/4 1/8 1/16} # of 144: 36 18 9
    BATCH_SIZE=${BATCH_SIZE:-32} NPROC=${NPROC:-2} DEVICE=${DEVICE:-cpu}
else
    without_effect "without --mini" MINI_DATA
    MODEL_PATH=${MODEL_PATH:-checkpoints/llava-v1.5-7b}
    DATA_ROOT=${DATA_ROOT:-playground/data/eval}
    OUTPUT_DIR=${OUTPUT_DIR:-outputs/compare}
    BUDGETS=${BUDGETS:-1/3 2/9 1/9} # of 576: 192 128 64
    BATCH_SIZE=${BATCH_SIZE:-16} NPROC=${NPROC:-1} DEVICE=${DEVICE:-auto}
fi
without_effect "on a comparison, which has BUDGETS" VISUAL_TOKEN_NUM
switch COSTS
count BATCH_SIZE NPROC
[ -z "$LIMIT" ] || count LIMIT
program PYTHON
for name in $BENCHMARKS; do
    [[ " $KNOWN " == *" $name "* ]] || refuse "BENCHMARKS has '$name': name some of ${KNOWN// /, }"
done

if [ -n "$MINI" ]; then
    "$PYTHON" -m llava.mini.make_data --out "$MINI_DATA" --seed 0 --parts eval \
        --scale "$SCALE"
fi
LAUNCH=("$PYTHON" -m)
if [ "$NPROC" -gt 1 ]; then
    LAUNCH=("$PYTHON" -m torch.distributed.run --standalone --nproc_per_node "$NPROC" -m)
    # The mini model's matrices are too small for several threads; processes share the questions.
    [ -z "$MINI" ] || export OMP_NUM_THREADS=1
fi
# shellcheck disable=SC2086  # lists of names are split into words
"${LAUNCH[@]}" llava.eval.sweep \
    --model-path "$MODEL_PATH" \
    --device "$DEVICE" \
    --data-root "$DATA_ROOT" \
    --benchmarks $BENCHMARKS \
    ${METHODS:+--methods $METHODS} \
    --pruners $PRUNERS \
    --compensations $COMPENSATIONS \
    --budgets $BUDGETS \
    --batch-size "$BATCH_SIZE" \
    ${LIMIT:+--limit "$LIMIT"} \
    ${COSTS:+--costs} \
    --output-dir "$OUTPUT_DIR" \
    --report "$OUTPUT_DIR/report" \
    "$@"
