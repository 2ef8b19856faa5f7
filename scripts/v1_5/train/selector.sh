#!/usr/bin/env bash
# Trains the selector on questions whose answer depends on the caption. The same command resumes it.
# Settings (environment variables): MODEL_PATH CAPTION_MODEL DATA IMAGES OUTPUT_DIR
# OUTPUT, and those of stage.sh. Flags of llava.train.train_selector may follow.
set -euo pipefail

MODEL_PATH=${MODEL_PATH:-checkpoints/llava-v1.5-7b}
CAPTION_MODEL=${CAPTION_MODEL:-outputs/train/accm/coco_prefix-009.pt}
DATA=${DATA:-playground/data/llava_v1_5_mix665k.json}
IMAGES=${IMAGES:-playground/data}
OUTPUT_DIR=${OUTPUT_DIR:-outputs/train/selector}
OUTPUT=${OUTPUT:-outputs/train/accm/selector.pt}

exec bash "$(dirname "${BASH_SOURCE[0]}")/stage.sh" train_selector \
    --model-path "$MODEL_PATH" \
    --caption-model "$CAPTION_MODEL" \
    --data "$DATA" \
    --images "$IMAGES" \
    --epochs 10 \
    --output-dir "$OUTPUT_DIR" \
    --output "$OUTPUT" \
    "$@"
