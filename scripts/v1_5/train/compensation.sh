#!/usr/bin/env bash
# Trains caption model and selector together on the LLM's own answers with all tokens. The same
# command resumes it. Settings (environment variables): MODEL_PATH CAPTION_MODEL SELECTOR DATA IMAGES
# OUTPUT_DIR OUTPUT, and those of stage.sh. Flags of llava.train.train_compensation may follow.
set -euo pipefail

MODEL_PATH=${MODEL_PATH:-checkpoints/llava-v1.5-7b}
CAPTION_MODEL=${CAPTION_MODEL:-outputs/train/accm/coco_prefix-009.pt}
SELECTOR=${SELECTOR:-outputs/train/accm/selector.pt}
DATA=${DATA:-playground/data/llava_v1_5_mix665k.json}
IMAGES=${IMAGES:-playground/data}
OUTPUT_DIR=${OUTPUT_DIR:-outputs/train/compensation}
OUTPUT=${OUTPUT:-outputs/train/compensated} # a folder

exec bash "$(dirname "${BASH_SOURCE[0]}")/stage.sh" train_compensation \
    --model-path "$MODEL_PATH" \
    --caption-model "$CAPTION_MODEL" \
    --selector "$SELECTOR" \
    --data "$DATA" \
    --images "$IMAGES" \
    --epochs 1 \
    --output-dir "$OUTPUT_DIR" \
    --caption-output "$OUTPUT/coco_prefix-009.pt" \
    --selector-output "$OUTPUT/llava-RL_prefix-019.pt" \
    "$@"
