#!/usr/bin/env bash
# Sets up .venv and runs the whole method with the mini model of this repository on seven small
# benchmarks: with all visual tokens, with 1/4, 1/8 and 1/16 of them (with and without captions), and
# without the image. Writes a report, and ends with a table, a picture and a sentence with the
# result. The same command resumes it. MODEL_PATH=checkpoints/accm-mini-next runs the mini LLaVA-NeXT:
# pictures of twice the resolution, and 1/10, 1/20 and 1/40 of the tokens.
# Settings are environment variables; paths are relative to the repository:
#   MODEL_PATH BUDGETS BATCH_SIZE NPROC DEVICE DATA_DIR OUTPUT_DIR     see below
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/settings.sh

MODEL_PATH=${MODEL_PATH:-checkpoints/accm-mini}
mini_world
[ "$SCALE" = 1 ] && TOKENS="36 18 9" || TOKENS="72 36 18"
BUDGETS=${BUDGETS:-$TOKENS}            # of 144 visual tokens; of 720 in tiles
BATCH_SIZE=${BATCH_SIZE:-32}
NPROC=${NPROC:-2}                      # processes of one thread each that share the questions
DEVICE=${DEVICE:-cpu}                  # as fast as a GPU for such a small model
DATA_DIR=${DATA_DIR:-playground/data/$WORLD}
OUTPUT_DIR=${OUTPUT_DIR:-outputs/quickstart}
without_effect "on the quickstart, which has BUDGETS" VISUAL_TOKEN_NUM
without_effect "on the quickstart (llava.eval.trace draws any question)" IMAGE QUESTION
count BATCH_SIZE NPROC

bash scripts/setup.sh
PYTHON=.venv/bin/python
mkdir -p "$OUTPUT_DIR"
"$PYTHON" -m llava.mini.make_data --out "$DATA_DIR" --seed 0 --parts eval \
    --scale "$SCALE"

LAUNCH=("$PYTHON" -m)
if [ "$NPROC" -gt 1 ]; then
    # A small model's matrices are too small for several threads; processes share the questions.
    LAUNCH=(env OMP_NUM_THREADS=1 "$PYTHON" -m torch.distributed.run
        --standalone --nproc_per_node "$NPROC" -m)
fi
# shellcheck disable=SC2086  # one flag, several budgets
"${LAUNCH[@]}" llava.eval.sweep \
    --model-path "$MODEL_PATH" \
    --device "$DEVICE" \
    --data-root "$DATA_DIR/eval" \
    --methods full prune accm no-image \
    --budgets $BUDGETS \
    --batch-size "$BATCH_SIZE" \
    --output-dir "$OUTPUT_DIR" \
    --report "$OUTPUT_DIR/report"

# The last lines: a picture of one question that is right because of its caption, what the model
# knows, and a sentence with the result.
"$PYTHON" -m llava.mini.result \
    --report "$OUTPUT_DIR/report" \
    --figure "$OUTPUT_DIR/example.png" \
    --model-path "$MODEL_PATH"
