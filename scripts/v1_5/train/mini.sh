#!/usr/bin/env bash
# Makes the mini model from nothing: data, configurations, all stages. After an interruption the same
# command resumes it.
# Settings (environment variables): OUT (the model's folder), WORK (data, runs and caches), SEED,
# DEVICE (cpu or cuda), NPROC (processes that share a step), PYTHON.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
source scripts/settings.sh
source scripts/v1_5/train/mini_stage.sh

OUT=${OUT:-outputs/mini/accm-mini}
WORK=${WORK:-outputs/mini}
SEED=${SEED:-0}
DEVICE=${DEVICE:-cpu}
NPROC=${NPROC:-2}
PYTHON=${PYTHON:-.venv/bin/python}
count NPROC

DATA=$WORK/world/train
CLIP=$OUT/clip-vit-mini-patch8-96
FEATURES=(--features "$WORK/runs/features")
QUESTIONS=(--data "$DATA/conversations.json" --images "$DATA/images")

"$PYTHON" -m llava.mini.make_data --out "$WORK/world" --seed "$SEED" --parts train
# Twice, because the first stage of the LLM starts from a folder that must stay without weights.
for folder in "$OUT" "$WORK/untrained"; do
    "$PYTHON" -m llava.mini.make_model --out "$folder" --seed "$SEED"
done

# --micro-batch-size is set with each --batch-size, so that the result is the same for any NPROC.
# The tower contrasts the images of one forward pass, so one process has them all.
NPROC=1 stage clip train_clip --vision-tower "$CLIP" --data "$DATA" --max-steps 1500

# The LLM learns to look things up, first in words, ...
BATCHES=(--questions-per-image 16 --batch-size 8 --micro-batch-size 4 --warmup-steps 50)
stage language train_llava --data "$DATA" "${BATCHES[@]}" --max-steps 2500 \
    --shares 0 0 0 1 0 --model-path "$WORK/untrained" --output "$WORK/llava-language"
# ... then in the most attended visual tokens, which are first mapped to these words, ...
stage projector train_projector --data "$DATA" "${FEATURES[@]}" --max-steps 1500 \
    --batch-size 32 --micro-batch-size 16 \
    --model-path "$WORK/llava-language" --vision-tower "$CLIP" --output "$WORK/llava-projector"
stage llava-easy train_llava --data "$DATA" "${FEATURES[@]}" "${BATCHES[@]}" --max-steps 2500 \
    --schedule constant --focus 30 --shares 0.5 0.05 0.15 0.25 0.05 --exercises 3 \
    --model-path "$WORK/llava-projector" --vision-tower "$CLIP" --output "$WORK/llava-easy"
# ... and then in all of them. Partly false captions, at all budgets, teach it to trust the image where
# the image shows the answer.
stage llava train_llava --data "$DATA" "${FEATURES[@]}" "${BATCHES[@]}" --max-steps 3000 \
    --shares 0.45 0.12 0.28 0.1 0.05 --one-in 16 16 8 4 2 1 --false-phrases 0.25 \
    --model-path "$WORK/llava-easy" --vision-tower "$CLIP" --output "$OUT"

stage caption train_caption --model-path "$OUT" --captions "$DATA/captions.json" \
    --images "$DATA/images" --questions "$DATA/conversations.json" "${FEATURES[@]}" \
    --budgets 9 18 36 --mapper-layers 2 --batch-size 32 --micro-batch-size 16 \
    --learning-rate 1e-3 --schedule cosine --warmup-steps 100 --max-grad-norm 1 --max-steps 3500 \
    --output "$WORK/accm/coco_prefix-009.pt"
stage long-clip train_long_clip --data "$DATA" --max-steps 800 \
    --batch-size 96 --micro-batch-size 48 --output "$OUT/longclip-L.pt"

# The relation model of --compensation scene-graph, on the true graphs of the scenes.
# Its norms see the images of one forward pass, so they stay together.
NPROC=1 stage scene-graph train_scene_graph --model-path "$OUT" --data "$DATA" "${FEATURES[@]}" \
    --learning-rate 1.5e-3 --max-steps 1800 \
    --output "$OUT/accm/checkpoint0104.pth"

# The selector, and then both parts, learn from the LLM: mostly at small budgets, where captions are
# needed, and at larger ones, so that the selector learns silence.
BUDGETS=(9 9 9 9 9 9 18 36 72 143)
stage selector train_selector --model-path "$OUT" "${QUESTIONS[@]}" "${FEATURES[@]}" \
    --caption-model "$WORK/accm/coco_prefix-009.pt" --samples 9000 \
    --budgets "${BUDGETS[@]}" --silence \
    --mining-batch-size 64 --batch-size 32 --micro-batch-size 16 \
    --learning-rate 5e-4 --warmup-steps 50 --max-steps 900 \
    --output "$WORK/accm/llava-RL_prefix-019.pt"
stage compensation train_compensation --model-path "$OUT" "${QUESTIONS[@]}" "${FEATURES[@]}" \
    --caption-model "$WORK/accm/coco_prefix-009.pt" \
    --selector "$WORK/accm/llava-RL_prefix-019.pt" --samples 24000 --budgets "${BUDGETS[@]}" \
    --answer-words 20 --answer-batch-size 64 --candidates sampled --margins sample \
    --batch-size 16 --micro-batch-size 8 --warmup-steps 50 --max-steps 1500 \
    --learning-rate 1e-4 --selector-learning-rate 3e-4 \
    --caption-output "$OUT/accm/coco_prefix-009.pt" \
    --selector-output "$OUT/accm/llava-RL_prefix-019.pt"
echo "The mini model: $OUT. Measure it:"
echo "MODEL_PATH=$OUT OUTPUT_DIR=$WORK/benchmarks bash scripts/quickstart.sh"
