#!/usr/bin/env bash
# Answers and scores one benchmark: benchmark.sh NAME [flags]. The other scripts of this folder call it.
# Settings are environment variables. Paths are relative to the repository.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
source scripts/settings.sh
# A stopped launcher of several processes ends with status 1: its answers must not be scored.
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

NAME=$1
shift
MODEL_PATH=${MODEL_PATH:-checkpoints/llava-v1.5-7b}
VISUAL_TOKEN_NUM=${VISUAL_TOKEN_NUM:-} # 36, 1/9, 11%, all; empty: the constant in clip_encoder.py
TEXT_TOKEN_NUM=${TEXT_TOKEN_NUM:-}     # empty: the paper's number for that budget
BATCH_SIZE=${BATCH_SIZE:-8}
NPROC=${NPROC:-1}                      # processes on this machine, one for each GPU
DATA_ROOT=${DATA_ROOT:-playground/data/eval}
DATA_DIR=${DATA_DIR:-}                 # empty: the benchmark's folder under DATA_ROOT
CKPT_NAME=${CKPT_NAME:-}               # empty: the model's name and the budget
OUTPUT_DIR=${OUTPUT_DIR:-outputs/$NAME}
ANSWERS_FILE=${ANSWERS_FILE:-}         # empty: OUTPUT_DIR/CKPT_NAME.jsonl
ALLOW_MISSING=${ALLOW_MISSING:-}       # 1: count unanswered questions as wrong
LIMIT=${LIMIT:-}                       # ask only this many questions
UPLOAD=${UPLOAD:-}                     # MMBench: also write the .xlsx for its server
PYTHON=${PYTHON:-.venv/bin/python}
switch ALLOW_MISSING UPLOAD
count BATCH_SIZE NPROC
program PYTHON
[ "$NAME" = mmbench ] || without_effect "on $NAME, which has no server" UPLOAD

# Flags override the settings. Values that the scorer needs too must be settings.
IMAGE=1 words=("$@")
for i in "${!words[@]}"; do
    word=${words[i]//_/-} value=${words[i + 1]:-}
    case $word in
    --model-path* | --data-root* | --data-dir* | --answers-file*)
        setting=${word%%=*} setting=${setting#--}
        setting=${setting^^}
        refuse "the flag ${word%%=*} is for one command of two: set ${setting//-/_}=..."
        ;;
    --visual-token-num=* | --text-token-num=* | --limit=*) value=${word#*=} ;;&
    --visual-token-num*) VISUAL_TOKEN_NUM=$value ;;
    --text-token-num*) TEXT_TOKEN_NUM=$value ;;
    --limit*) LIMIT=$value ;;
    --no-image) IMAGE= ;;
    esac
done
SUFFIX= # of the name of the answers
if [ -n "$LIMIT" ]; then
    count LIMIT
    SUFFIX=-limit$LIMIT UPLOAD= # servers take only whole runs
fi

# The effective budget: from a flag, a setting, or the present constant.
budget() {
    local encoder=llava/model/multimodal_encoder/clip_encoder.py tokens=$VISUAL_TOKEN_NUM share='[0-9./%]+'
    [ -n "$tokens" ] ||
        tokens=$(sed -En "s/^VISUAL_TOKEN_NUM *(:.*)?= *[\"']?($share|all)[\"']? *(#.*)?\$/\\2/p" $encoder)
    [ -n "$tokens" ] ||
        refuse "VISUAL_TOKEN_NUM in $encoder is no plain number or share: set VISUAL_TOKEN_NUM=..."
    echo "$tokens"
}

# is_of_budget FILE TOKENS: tests whether the run of an answers file has this budget.
is_of_budget() {
    local settings=$1.run/settings.json
    grep -Eqs "\"visual_token_num\": \"?$2\"?," "$settings" &&
        grep -Eqs "\"text_token_num\": ${TEXT_TOKEN_NUM:-[0-9]+}," "$settings"
}

# choose_file TOKENS WORD: sets the answers file of a budget that is called WORD, unless older versions
# of this script, which had no limit, wrote one of this budget under their name.
choose_file() {
    local model older file
    model=$OUTPUT_DIR/$(basename "$MODEL_PATH")
    file=$model-$2${TEXT_TOKEN_NUM:+-$TEXT_TOKEN_NUM}$SUFFIX.jsonl
    if [ -z "$LIMIT" ] && [ ! -e "$file.run" ]; then
        for older in "$model-${VISUAL_TOKEN_NUM:-$1}.jsonl" "$model.jsonl"; do
            if is_of_budget "$older" "$1"; then file=$older && break; fi
        done
    fi
    echo "$file"
}

if [ -z "$ANSWERS_FILE" ] && [ -n "$CKPT_NAME" ]; then
    ANSWERS_FILE=$OUTPUT_DIR/$CKPT_NAME$SUFFIX.jsonl
elif [ -z "$ANSWERS_FILE" ] && [ -z "$IMAGE" ]; then
    ANSWERS_FILE=$(choose_file 0 no-image)
elif [ -z "$ANSWERS_FILE" ]; then
    VISUAL_TOKEN_NUM=$(budget)
    WORD=${VISUAL_TOKEN_NUM//\//of} # as llava.budgets.file_word: 1of9, 11pct
    ANSWERS_FILE=$(choose_file "$VISUAL_TOKEN_NUM" "${WORD//%/pct}")
fi
DATA=(--data-root "$DATA_ROOT" ${DATA_DIR:+--data-dir "$DATA_DIR"})
LAUNCH=("$PYTHON" -m)
if [ "$NPROC" -gt 1 ]; then
    LAUNCH=("$PYTHON" -m torch.distributed.run --standalone --nproc_per_node "$NPROC" -m)
fi

status=0
"${LAUNCH[@]}" llava.eval.answer "$NAME" \
    --model-path "$MODEL_PATH" \
    "${DATA[@]}" \
    --answers-file "$ANSWERS_FILE" \
    ${VISUAL_TOKEN_NUM:+--visual-token-num "$VISUAL_TOKEN_NUM"} \
    ${TEXT_TOKEN_NUM:+--text-token-num "$TEXT_TOKEN_NUM"} \
    --batch-size "$BATCH_SIZE" \
    ${LIMIT:+--limit "$LIMIT"} \
    "$@" || status=$?
# 1: some questions could not be answered; the others are scored with ALLOW_MISSING=1. A launcher
# whose process failed has this status too: then there may be no answers at all.
[ $status -eq 0 ] || { [ $status -eq 1 ] && [ -e "$ANSWERS_FILE" ]; } || exit $status
"$PYTHON" -m llava.eval.score "$NAME" \
    "${DATA[@]}" \
    --answers-file "$ANSWERS_FILE" \
    --json "${ANSWERS_FILE%.jsonl}.json" \
    ${UPLOAD:+--upload "${ANSWERS_FILE%.jsonl}.xlsx"} \
    ${ALLOW_MISSING:+--allow-missing}
exit $status
