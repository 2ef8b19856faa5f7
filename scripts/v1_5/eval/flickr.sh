#!/usr/bin/env bash
# Flickr30k: captions; CIDEr, and more with five references. Needs the extra captions.
# Settings (environment variables): MODEL_PATH CKPT_NAME DATA_DIR VISUAL_TOKEN_NUM TEXT_TOKEN_NUM
# BATCH_SIZE NPROC LIMIT, and those at the top of benchmark.sh. Flags of llava.eval.answer may follow:
#   VISUAL_TOKEN_NUM=72 bash scripts/v1_5/eval/flickr.sh --dtype float16
exec bash "$(dirname "${BASH_SOURCE[0]}")/benchmark.sh" flickr "$@"
