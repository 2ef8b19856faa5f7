#!/usr/bin/env bash
# Answers and scores one benchmark; called by the scripts beside it: benchmark.sh NAME [flags].
# Settings come from the environment. Paths are relative to the repository.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."

NAME=$1
shift
MODEL_PATH=${MODEL_PATH:-checkpoints/llava-v1.5-7b}
VISUAL_TOKEN_NUM=${VISUAL_TOKEN_NUM:-} # empty: the constant in clip_encoder.py
TEXT_TOKEN_NUM=${TEXT_TOKEN_NUM:-}     # empty: the paper's number for that budget
BATCH_SIZE=${BATCH_SIZE:-8}
NPROC=${NPROC:-1}                      # processes on this machine, one a GPU
DATA_ROOT=${DATA_ROOT:-playground/data/eval}
DATA_DIR=${DATA_DIR:-}                 # empty: the benchmark's folder under DATA_ROOT
CKPT_NAME=${CKPT_NAME:-$(basename "$MODEL_PATH")${VISUAL_TOKEN_NUM:+-$VISUAL_TOKEN_NUM}}
OUTPUT_DIR=${OUTPUT_DIR:-outputs/$NAME}
ALLOW_MISSING=${ALLOW_MISSING:-}       # 1: count unanswered questions as wrong
UPLOAD=${UPLOAD:-}                     # MMBench: also write the .xlsx for its server
PYTHON=${PYTHON:-.venv/bin/python}

ANSWERS_FILE=${ANSWERS_FILE:-$OUTPUT_DIR/$CKPT_NAME.jsonl}
DATA=(--data-root "$DATA_ROOT" ${DATA_DIR:+--data-dir "$DATA_DIR"})
LAUNCH=("$PYTHON" -m)
if [ "$NPROC" -gt 1 ]; then
    LAUNCH=("$PYTHON" -m torch.distributed.run --standalone --nproc_per_node "$NPROC" -m)
fi

status=0
"${LAUNCH[@]}" llava.eval.answer "$NAME" \
    --model-path "$MODEL_PATH" \
    "${DATA[@]}" \
    --answers-file "$ANSWERS_FILE" \
    ${VISUAL_TOKEN_NUM:+--visual-token-num "$VISUAL_TOKEN_NUM"} \
    ${TEXT_TOKEN_NUM:+--text-token-num "$TEXT_TOKEN_NUM"} \
    --batch-size "$BATCH_SIZE" \
    "$@" || status=$?
# 1: some questions could not be answered; the others are scored with ALLOW_MISSING=1.
[ $status -le 1 ] || exit $status
"$PYTHON" -m llava.eval.score "$NAME" \
    "${DATA[@]}" \
    --answers-file "$ANSWERS_FILE" \
    --json "${ANSWERS_FILE%.jsonl}.json" \
    ${UPLOAD:+--upload "${ANSWERS_FILE%.jsonl}.xlsx"} \
    ${ALLOW_MISSING:+--allow-missing}
exit $status
