#!/usr/bin/env bash
# The whole paper: set-up, weights, data, seven benchmarks with all visual tokens and at 288, 144, 72,
# 36 and 18 of them, and a report with the published and recorded numbers next to the measured ones.
# The same command resumes it.
#   bash scripts/reproduce.sh             on a machine with a GPU (the 7B model takes 14 GB and more)
#   bash scripts/reproduce.sh --dry-run   prints the plan, and does nothing
#   bash scripts/reproduce.sh --mini      the same with the mini model and its benchmarks, on a CPU
# Exit status: 0 all done; 3 done, except benchmarks with data that must be fetched by hand; other
# values: something failed.
# Settings are environment variables; paths are relative to the repository:
#   MODEL_PATH CHECKPOINTS_ROOT DATA_ROOT OUTPUT_DIR BENCHMARKS METHODS BUDGETS BATCH_SIZE NPROC DEVICE
#   PYTHON (an interpreter with all packages: then nothing is installed)
#   ACCEPT_TERMS=1 (or true, yes: you agree to MME's terms: academic research, no redistribution)
#   SECONDS_PER_QUESTION (of the estimate)
#   MINI_DATA (instead of DATA_ROOT) MINI_SHARE (of the mini benchmarks' questions), with --mini
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/settings.sh
trap 'exit 130' INT # Ctrl-C in a step stops the whole script

DRY_RUN='' MINI=''
for word in "$@"; do
    case $word in
    --dry-run) DRY_RUN=1 ;;
    --mini) MINI=1 ;;
    *) echo "error: there is no flag $word; there are --dry-run and --mini" >&2 && exit 2 ;;
    esac
done

if [ -n "$MINI" ]; then
    without_effect "with --mini, whose data MINI_DATA names" DATA_ROOT
    MODEL_PATH=${MODEL_PATH:-checkpoints/accm-mini}
    MINI_SHARE=${MINI_SHARE:-1}
    PART= # a part of the questions has folders of its own
    if [ "$MINI_SHARE" != 1 ]; then
        [[ $MINI_SHARE =~ ^0?(\.[0-9]{0,5}[1-9])0*$ ]] ||
            refuse "MINI_SHARE is '$MINI_SHARE': say 1, or a part as 0.1"
        MINI_SHARE=0${BASH_REMATCH[1]} # .1 and 0.10 are the same
        PART=-$MINI_SHARE
    fi
    mini_world
    MINI_DATA=${MINI_DATA:-playground/data/$WORLD$PART}
    DATA_ROOT=$MINI_DATA/eval
    OUTPUT_DIR=${OUTPUT_DIR:-outputs/reproduce-$WORLD$PART}
    BATCH_SIZE=${BATCH_SIZE:-32} NPROC=${NPROC:-2} DEVICE=${DEVICE:-cpu}
    USUAL=0.012
    REASON="as in the quickstart: 30,240 answers in some three minutes with two processes"
    if [ "$SCALE" != 1 ]; then
        USUAL=0.08
        REASON="as in the quickstart: 24,192 answers in 16 minutes with two processes, and other work beside"
    fi
    SECONDS_PER_QUESTION=${SECONDS_PER_QUESTION:-$USUAL}
else
    without_effect "without --mini" MINI_DATA MINI_SHARE
    MODEL_PATH=${MODEL_PATH:-checkpoints/llava-v1.5-7b}
    DATA_ROOT=${DATA_ROOT:-playground/data/eval}
    OUTPUT_DIR=${OUTPUT_DIR:-outputs/reproduce}
    BATCH_SIZE=${BATCH_SIZE:-16} NPROC=${NPROC:-1} DEVICE=${DEVICE:-auto}
    SECONDS_PER_QUESTION=${SECONDS_PER_QUESTION:-0.1}
    REASON="not measured: twice what docs/scaling.md computes for all 576 tokens on an H100"
fi
CHECKPOINTS_ROOT=${CHECKPOINTS_ROOT:-checkpoints}
BENCHMARKS=${BENCHMARKS:-mme mmbench pope mmvp seed gqa flickr}
METHODS=${METHODS:-full accm}             # prune and no-image are the others
BUDGETS=${BUDGETS:-1/2 1/4 1/8 1/16 1/32} # of 576: 288 144 72 36 18
ACCEPT_TERMS=${ACCEPT_TERMS:-}
switch ACCEPT_TERMS
count BATCH_SIZE NPROC
SET_UP=
if [ -z "${PYTHON:-}" ]; then PYTHON=.venv/bin/python SET_UP=1; fi

# The steps. Lists of names are split into words where they are used.
# A complete LLM may be the user's own, which is not on the hub: it is not fetched again.
# shellcheck disable=SC2086
fetch_weights() {
    local model='' folder
    folder=$(realpath -m "$(dirname "$MODEL_PATH")")
    grep -q '^ok *model: ' <<<"$(verify_weights)" || model=$(basename "$MODEL_PATH")
    if [ -n "$model" ] && [ "$folder" != "$(realpath -m "$CHECKPOINTS_ROOT")" ]; then
        echo "error: there is no whole model in $MODEL_PATH, and weights are fetched only into" \
            "$CHECKPOINTS_ROOT: mend one of MODEL_PATH and CHECKPOINTS_ROOT" >&2
        return 2
    fi
    "$PYTHON" -m llava.checkpoints download $model clip gpt2 longclip accm \
        --checkpoints-root "$CHECKPOINTS_ROOT" "$@"
}

verify_weights() {
    "$PYTHON" -m llava.checkpoints verify \
        --model-path "$MODEL_PATH" --checkpoints-root "$CHECKPOINTS_ROOT"
}

# shellcheck disable=SC2086
fetch_data() {
    "$PYTHON" -m llava.benchmarks download $BENCHMARKS --data-root "$DATA_ROOT" \
        ${ACCEPT_TERMS:+--accept-terms} "$@"
}

make_mini_data() {
    "$PYTHON" -m llava.mini.make_data --out "$MINI_DATA" --seed 0 --parts eval \
        --scale "$SCALE" --share "$MINI_SHARE"
}

# shellcheck disable=SC2086
sweep() {
    local launch=("$PYTHON" -m)
    if [ "$NPROC" -gt 1 ]; then
        launch=("$PYTHON" -m torch.distributed.run --standalone --nproc_per_node "$NPROC" -m)
        # The mini model's matrices are too small for several threads; processes share the questions.
        [ -z "$MINI" ] || export OMP_NUM_THREADS=1
    fi
    local budgets=
    [[ ! " $METHODS " =~ " "(prune|accm)" " ]] || budgets="--budgets $BUDGETS"
    "${launch[@]}" llava.eval.sweep \
        --model-path "$MODEL_PATH" --checkpoints-root "$CHECKPOINTS_ROOT" --device "$DEVICE" \
        --data-root "$DATA_ROOT" --benchmarks $1 --methods $METHODS $budgets \
        --batch-size "$BATCH_SIZE" --output-dir "$OUTPUT_DIR"
}

show_plan() {
    local questions runs=0 method data
    echo "== weights: $MODEL_PATH"
    [ -n "$MINI" ] || fetch_weights --dry-run
    echo "== data: $DATA_ROOT"
    if [ -n "$MINI" ]; then
        data="drawn here, 3,024 questions in all at MINI_SHARE=1"
    else
        data=$(fetch_data --dry-run)
    fi
    echo "$data"
    questions=$(echo "$data" | sed -n 's/.* \([0-9,]*\) questions in all.*/\1/p' | tr -d ,)
    for method in $METHODS; do
        case $method in
        prune | accm) runs=$((runs + $(echo "$BUDGETS" | wc -w))) ;;
        *) runs=$((runs + 1)) ;;
        esac
    done
    echo "== answers: methods $METHODS, budgets $BUDGETS: $runs runs of $questions questions"
    awk -v q="$questions" -v r="$runs" -v s="$SECONDS_PER_QUESTION" -v n="$NPROC" 'BEGIN {
        time = q * r * s / n
        printf "about %s: %d questions x %d runs x %s s / %d processes, without downloads\n", \
            time < 3600 ? sprintf("%.0f minutes", time / 60) : sprintf("%.1f hours", time / 3600), \
            q, r, s, n
    }'
    echo "$SECONDS_PER_QUESTION s a question (SECONDS_PER_QUESTION): $REASON"
    echo "== report: $OUTPUT_DIR/report, beside scripts/published.json"
}

if [ -n "$DRY_RUN" ]; then
    if ! "$PYTHON" -c '' 2>/dev/null; then
        echo "error: the plan is told by the project: set it up first (bash scripts/setup.sh)" >&2
        exit 2
    fi
    show_plan
    exit 0
fi

[ -z "$SET_UP" ] || bash scripts/setup.sh
mkdir -p "$OUTPUT_DIR"
echo "== weights"
verify_weights || { fetch_weights || exit; verify_weights; }
echo "== data"
if [ -n "$MINI" ]; then
    make_mini_data
    READY=$BENCHMARKS
else
    # Benchmarks that failed, or whose data must be fetched by hand, do not stop the others.
    { fetch_data || true; } | tee "$OUTPUT_DIR/data.txt"
    READY=$(sed -n 's/^ok *\([a-z]*\): .*/\1/p' "$OUTPUT_DIR/data.txt" | xargs)
fi
LEFT=$(comm -23 <(xargs -n1 <<<"$BENCHMARKS" | sort) <(xargs -n1 <<<"$READY" | sort) | xargs)
[ -n "$READY" ] || { echo "error: of no benchmark all data are there, see above" >&2 && exit 1; }
echo "== answers: $READY"
status=0
sweep "$READY" || status=$?
echo "== report"
if compgen -G "$OUTPUT_DIR/*/*.json" >/dev/null; then
    "$PYTHON" -m llava.eval.report "$OUTPUT_DIR"/*/*.json --output "$OUTPUT_DIR/report" \
        --references scripts/published.json
fi
[ $status -eq 0 ] || { echo "error: not all runs are whole; the same command goes on" >&2 && exit 1; }
if [ -n "$LEFT" ]; then
    echo "left out: $LEFT, of which something is missing (see == data); then the same command goes on"
    exit 3
fi
