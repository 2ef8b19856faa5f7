#!/usr/bin/env bash
# MMBench (dev, en): circular accuracy; also writes the .xlsx for the official server.
# Settings (environment variables): MODEL_PATH CKPT_NAME DATA_DIR VISUAL_TOKEN_NUM TEXT_TOKEN_NUM
# BATCH_SIZE NPROC LIMIT, and those at the top of benchmark.sh. Flags of llava.eval.answer may follow:
#   VISUAL_TOKEN_NUM=72 bash scripts/v1_5/eval/mmbench.sh --dtype float16
export UPLOAD=${UPLOAD-1} # empty, 0, false or no: without the .xlsx
exec bash "$(dirname "${BASH_SOURCE[0]}")/benchmark.sh" mmbench "$@"
