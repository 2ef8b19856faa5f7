#!/usr/bin/env bash
# Sets up .venv and runs the whole method on an image, with tiny checkpoints that come along.
# Their weights are random, so the words mean nothing: it shows that everything works, and how.
# IMAGE=... QUESTION=... VISUAL_TOKEN_NUM=... ask something else; paths are
# relative to the repository.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

IMAGE=${IMAGE:-images/example.png}
QUESTION=${QUESTION:-What is on the table?}
VISUAL_TOKEN_NUM=${VISUAL_TOKEN_NUM:-} # empty: the constant in clip_encoder.py
OUTPUT_DIR=${OUTPUT_DIR:-outputs/quickstart}
CHECKPOINTS=tests/data/golden/checkpoints

bash scripts/setup.sh
mkdir -p "$OUTPUT_DIR"
.venv/bin/python -m llava.eval.trace \
    --model-path "$CHECKPOINTS/llava-v1.5-tiny" \
    --gpt2 "$CHECKPOINTS/gpt2-tiny" \
    --checkpoints-root "$CHECKPOINTS" \
    --image "$IMAGE" \
    --question "$QUESTION" \
    ${VISUAL_TOKEN_NUM:+--visual-token-num "$VISUAL_TOKEN_NUM"} \
    --max-new-tokens 16 \
    --output "$OUTPUT_DIR/trace.jsonl" \
    --figure "$OUTPUT_DIR/trace.png"
echo "Everything that happened: $OUTPUT_DIR/trace.jsonl"
echo "The same as a picture:    $OUTPUT_DIR/trace.png"
