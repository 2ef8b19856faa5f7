#!/usr/bin/env bash
# Makes the mini LLaVA-NeXT from the mini LLaVA-1.5: pictures of twice the resolution, in a base view
# and four tiles. Tower, text encoders and tokenizers stay; LLM, captions and selector are trained on.
# After an interruption the same command resumes it.
# Settings (environment variables): MODEL_PATH (the mini LLaVA-1.5), OUT (the new model's folder), WORK
# (data, runs and caches), IMAGES (training pictures), SEED, DEVICE (cpu or cuda), NPROC (processes
# that share a step), PYTHON.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
source scripts/settings.sh
source scripts/v1_5/train/mini_stage.sh

MODEL_PATH=${MODEL_PATH:-checkpoints/accm-mini}
OUT=${OUT:-outputs/mini-next/accm-mini-next}
WORK=${WORK:-outputs/mini-next}
IMAGES=${IMAGES:-8000}
SEED=${SEED:-0}
DEVICE=${DEVICE:-cpu}
NPROC=${NPROC:-2}
PYTHON=${PYTHON:-.venv/bin/python}
count IMAGES NPROC

DATA=$WORK/world/train
CLIP=$WORK/start/clip-vit-mini-patch8-96
FEATURES=(--features "$WORK/runs/features")
QUESTIONS=(--data "$DATA/conversations.json" --images "$DATA/images")

"$PYTHON" -m llava.mini.make_data --out "$WORK/world" --seed "$SEED" --scale 2 --parts train \
    --train-images "$IMAGES"
for folder in "$WORK/start" "$WORK/llava-first" "$OUT"; do
    [ -d "$folder" ] || "$PYTHON" -m llava.mini.make_next --model-path "$MODEL_PATH" --out "$folder"
done

# The LLM learns to read 720 tokens in five views, at all budgets; then once more at half the rate.
READING=(--data "$DATA" "${FEATURES[@]}" --vision-tower "$CLIP" --max-steps 500
    --questions-per-image 16 --batch-size 8 --micro-batch-size 4 --warmup-steps 50
    --shares 0.4 0.2 0.25 0.1 0.05 --one-in 40 20 10 5 2 --false-phrases 0.25)
stage llava train_llava "${READING[@]}" --learning-rate 6e-4 \
    --model-path "$WORK/start" --output "$WORK/llava-first"
SEED=$((SEED + 1)) stage llava-more train_llava "${READING[@]}" --learning-rate 3e-4 \
    --model-path "$WORK/llava-first" --output "$OUT"

# Captions of what is in all views: small objects show only in the tiles. The caption model goes on from the
# mini LLaVA-1.5's.
stage caption train_caption --model-path "$OUT" --captions "$DATA/captions.json" \
    --images "$DATA/images" --questions "$DATA/conversations.json" "${FEATURES[@]}" \
    --budgets 18 36 72 --start-from "$WORK/start/accm/coco_prefix-009.pt" \
    --mapper-layers 2 --batch-size 32 --micro-batch-size 16 \
    --learning-rate 7e-4 --schedule cosine --warmup-steps 50 --max-grad-norm 1 --max-steps 800 \
    --output "$OUT/accm/coco_prefix-009.pt"
stage selector train_selector --model-path "$OUT" "${QUESTIONS[@]}" "${FEATURES[@]}" \
    --caption-model "$OUT/accm/coco_prefix-009.pt" --samples 3000 \
    --budgets 18 18 18 36 72 144 --silence \
    --mining-batch-size 64 --batch-size 32 --micro-batch-size 16 \
    --learning-rate 5e-4 --warmup-steps 50 --max-steps 400 \
    --output "$OUT/accm/llava-RL_prefix-019.pt"
# train_compensation is left out: a step takes 7 seconds here, and all the others together two hours.
echo "The mini LLaVA-NeXT: $OUT. Measure it:"
echo "MODEL_PATH=$OUT OUTPUT_DIR=$WORK/benchmarks bash scripts/quickstart.sh"
