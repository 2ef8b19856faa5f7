#!/usr/bin/env bash
# Sets up .venv and runs the whole method with the mini model that comes along: seven small editions
# of the benchmarks, at all visual tokens and at 1/4, 1/8 and 1/16 of them, pruned only and pruned
# with captions, and without the image. Prints the table, writes a report and the picture of one
# answer. Started again, it goes on where it stopped.
# Settings, from the environment; paths are relative to the repository:
#   MODEL_PATH BUDGETS BATCH_SIZE NPROC DEVICE DATA_DIR OUTPUT_DIR     see below
#   IMAGE QUESTION VISUAL_TOKEN_NUM                                    of the picture
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/settings.sh

MODEL_PATH=${MODEL_PATH:-checkpoints/accm-mini}
BUDGETS=${BUDGETS:-36 18 9}            # of 144 visual tokens
BATCH_SIZE=${BATCH_SIZE:-32}
NPROC=${NPROC:-2}                      # processes of one thread each that share the questions
DEVICE=${DEVICE:-cpu}                  # for so small a model as fast as a GPU
DATA_DIR=${DATA_DIR:-playground/data/mini}
OUTPUT_DIR=${OUTPUT_DIR:-outputs/quickstart}
VISUAL_TOKEN_NUM=${VISUAL_TOKEN_NUM:-9}
count BATCH_SIZE NPROC VISUAL_TOKEN_NUM

bash scripts/setup.sh
PYTHON=.venv/bin/python
mkdir -p "$OUTPUT_DIR"
"$PYTHON" -m llava.mini.make_data --out "$DATA_DIR" --seed 0 --parts eval

LAUNCH=("$PYTHON" -m)
if [ "$NPROC" -gt 1 ]; then
    # The matrices of a small model are not worth several threads; the questions are.
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

# The picture shows the first question of POPE, unless another is named: image, newline, prompt.
FIRST=$("$PYTHON" -c 'import sys; from pathlib import Path
from llava.eval.benchmarks.pope import read_questions
question = read_questions(Path(sys.argv[1]))[0]
print(question.image, question.prompt, sep="\n")' "$DATA_DIR/eval/pope")
IMAGE=${IMAGE:-${FIRST%%$'\n'*}}
QUESTION=${QUESTION:-${FIRST#*$'\n'}}
"$PYTHON" -m llava.eval.trace \
    --model-path "$MODEL_PATH" \
    --device "$DEVICE" \
    --image "$IMAGE" \
    --question "$QUESTION" \
    --visual-token-num "$VISUAL_TOKEN_NUM" \
    --output "$OUTPUT_DIR/trace.jsonl" \
    --figure "$OUTPUT_DIR/trace.png"

echo "The table, and what the runs disagree on: $OUTPUT_DIR/report/report.html (.md, .csv)"
echo "Answers, journals and scores of each run: $OUTPUT_DIR/BENCHMARK/"
echo "One answer, stage by stage:               $OUTPUT_DIR/trace.png (.jsonl)"
