#!/usr/bin/env bash
# Trains the caption model and its mapper on COCO's captions. The same command resumes it.
# Settings (environment variables): MODEL_PATH COCO QUESTIONS OUTPUT_DIR OUTPUT, and those of stage.sh.
# Flags of llava.train.train_caption may follow: bash scripts/v1_5/train/caption.sh --epochs 5
set -euo pipefail

MODEL_PATH=${MODEL_PATH:-checkpoints/llava-v1.5-7b}
COCO=${COCO:-playground/data/coco}
QUESTIONS=${QUESTIONS:-} # LLaVA's instructions; empty: one general question
OUTPUT_DIR=${OUTPUT_DIR:-outputs/train/caption}
OUTPUT=${OUTPUT:-outputs/train/accm/coco_prefix-009.pt}

exec bash "$(dirname "${BASH_SOURCE[0]}")/stage.sh" train_caption \
    --model-path "$MODEL_PATH" \
    --captions "$COCO/annotations/captions_train2017.json" \
    --images "$COCO/train2017" \
    ${QUESTIONS:+--questions "$QUESTIONS"} \
    --mixed-precision bf16 \
    --epochs 10 \
    --output-dir "$OUTPUT_DIR" \
    --output "$OUTPUT" \
    "$@"
