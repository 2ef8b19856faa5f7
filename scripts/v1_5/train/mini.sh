#!/usr/bin/env bash
# Makes the mini model from nothing: data, configurations, all stages. Started again after an
# interruption, it goes on where it stopped.
# Settings, from the environment: OUT (the model's folder), WORK (data, runs and caches), SEED,
# DEVICE (cpu or cuda), PYTHON.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."

OUT=${OUT:-outputs/mini/accm-mini}
WORK=${WORK:-outputs/mini}
SEED=${SEED:-0}
DEVICE=${DEVICE:-cpu}
PYTHON=${PYTHON:-.venv/bin/python}

DATA=$WORK/world/train
CLIP=$OUT/clip-vit-mini-patch8-96
COMMON=(--seed "$SEED" --device "$DEVICE")
QUESTIONS=(--data "$DATA/conversations.json" --images "$DATA/images")

# run STAGE NAME flags...: one stage of llava.train, its checkpoints and logs in $WORK/runs/NAME
run() {
    local stage=$1 name=$2
    shift 2
    echo "== $name" >&2
    "$PYTHON" -m "llava.train.$stage" --output-dir "$WORK/runs/$name" "${COMMON[@]}" "$@"
}

"$PYTHON" -m llava.mini.make_data --out "$WORK/world" --seed "$SEED" --parts train
"$PYTHON" -m llava.mini.make_model --out "$OUT" --seed "$SEED"

run train_clip clip --vision-tower "$CLIP" --data "$DATA" --max-steps 1500
FEATURES=(--features "$WORK/runs/features")

# Visual tokens aligned with words. The tower's outputs are computed here, for all that follows.
run train_projector projector --data "$DATA" "${FEATURES[@]}" --max-steps 2000 \
    --model-path "$OUT" --output "$WORK/llava-projector"

# What the LLM reads, and what writes for it, learn side by side: a matrix of this size is not worth
# two threads.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

llava() {
    # First the easy questions from the most attended tokens alone, then all.
    local easy='\nA\.|How many|number of|left of|right of|above|below'
    run train_llava llava-easy --data "$DATA" "${FEATURES[@]}" --max-steps 3000 \
        --schedule constant --warmup-steps 50 --focus 30 --shares 0.8 0.05 0.05 0.05 0.05 \
        --leave-out "$easy" \
        --model-path "$WORK/llava-projector" --vision-tower "$CLIP" --output "$WORK/llava-easy"
    run train_llava llava --data "$DATA" "${FEATURES[@]}" --max-steps 10000 --warmup-steps 50 \
        --model-path "$WORK/llava-easy" --vision-tower "$CLIP" --output "$OUT"
}

captions() {
    run train_caption caption --model-path "$OUT" --captions "$DATA/captions.json" \
        --images "$DATA/images" --questions "$DATA/conversations.json" "${FEATURES[@]}" \
        --budgets 9 18 36 --mapper-layers 2 --batch-size 32 --learning-rate 1e-3 \
        --schedule cosine --warmup-steps 100 --max-grad-norm 1 --max-steps 4000 \
        --output "$WORK/accm/coco_prefix-009.pt"
    run train_long_clip long-clip --data "$DATA" --max-steps 800 --output "$OUT/longclip-L.pt"
}

llava &
LLAVA=$!
captions
wait "$LLAVA"

# Who chooses among captions, and then both, taught by the LLM.
run train_selector selector --model-path "$OUT" "${QUESTIONS[@]}" "${FEATURES[@]}" \
    --caption-model "$WORK/accm/coco_prefix-009.pt" --samples 6000 --budget 9 \
    --mining-batch-size 64 --learning-rate 5e-4 --warmup-steps 50 --max-steps 600 \
    --output "$WORK/accm/llava-RL_prefix-019.pt"
run train_compensation compensation --model-path "$OUT" "${QUESTIONS[@]}" "${FEATURES[@]}" \
    --caption-model "$WORK/accm/coco_prefix-009.pt" \
    --selector "$WORK/accm/llava-RL_prefix-019.pt" --samples 8000 --budget 9 \
    --answer-batch-size 64 --candidates sampled --margins sample --batch-size 16 \
    --learning-rate 1e-4 --selector-learning-rate 3e-4 --warmup-steps 50 --max-steps 1000 \
    --caption-output "$OUT/accm/coco_prefix-009.pt" \
    --selector-output "$OUT/accm/llava-RL_prefix-019.pt"
echo "The mini model: $OUT. Measure it: MODEL_PATH=$OUT bash scripts/mini_benchmarks.sh"
