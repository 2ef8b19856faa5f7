#!/usr/bin/env bash
# MMVP: answers the 300 questions and prints pair accuracy.
# Settings come from the environment; further flags of llava.eval.mmvp_eval may follow.
# Paths are relative to the repository:
#   VISUAL_TOKEN_NUM=72 bash scripts/v1_5/eval/mmvp.sh --dtype float16
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."

MODEL_PATH=${MODEL_PATH:-checkpoints/llava-v1.5-7b}
DATA_DIR=${DATA_DIR:-playground/data/eval/mmvp}
VISUAL_TOKEN_NUM=${VISUAL_TOKEN_NUM:-} # empty: the constant in clip_encoder.py
TEXT_TOKEN_NUM=${TEXT_TOKEN_NUM:-}     # empty: the paper's number for that budget
BATCH_SIZE=${BATCH_SIZE:-8}
CKPT_NAME=${CKPT_NAME:-$(basename "$MODEL_PATH")${VISUAL_TOKEN_NUM:+-$VISUAL_TOKEN_NUM}}
ANSWERS_FILE=${ANSWERS_FILE:-outputs/mmvp/$CKPT_NAME.jsonl}
PYTHON=${PYTHON:-.venv/bin/python}

"$PYTHON" -m llava.eval.mmvp_eval \
    --model-path "$MODEL_PATH" \
    --data-dir "$DATA_DIR" \
    --answers-file "$ANSWERS_FILE" \
    ${VISUAL_TOKEN_NUM:+--visual-token-num "$VISUAL_TOKEN_NUM"} \
    ${TEXT_TOKEN_NUM:+--text-token-num "$TEXT_TOKEN_NUM"} \
    --batch-size "$BATCH_SIZE" \
    "$@"
"$PYTHON" -m llava.eval.score mmvp \
    --data-dir "$DATA_DIR" \
    --answers-file "$ANSWERS_FILE" \
    --json "${ANSWERS_FILE%.jsonl}.json"
