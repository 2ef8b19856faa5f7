#!/usr/bin/env bash
# Checks and measures this project on a GPU, in about 8 minutes and without a network:
#   bash scripts/gpu_check.sh                 all parts, except those that are done
#   PARTS="tests bench" bash scripts/gpu_check.sh
#   bash scripts/gpu_check.sh --rehearse      small shapes on a CPU, to test that the parts run
# Settings (environment variables):
#   PARTS     some of: tests bench profile answers shared budgets train throughput compiled llava-13b
#             llava-next-7b qwen2.5-vl-3b
#   OUT       folder for gpu_check.json and gpu_check.md (outputs/gpu_check)
#   SECONDS_LEFT  no part starts after this number of seconds (480)
#   WHEELS    folder with wheels of missing packages (.whl); they are installed into OUT/packages
#   PYTHON    the interpreter (.venv/bin/python if it exists, else python3)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
OUT=${OUT:-outputs/gpu_check}
WHEELS=${WHEELS:-.whl}
if [ -z "${PYTHON:-}" ]; then
    PYTHON=python3
    [ ! -x .venv/bin/python ] || PYTHON=.venv/bin/python
fi
if [ -d "$WHEELS" ] && ! "$PYTHON" -c 'import open_clip, ftfy, cachetools, shortuuid' 2>/dev/null; then
    "$PYTHON" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --upgrade \
        --target "$OUT/packages" "$WHEELS"/*.whl
    PYTHONPATH=$(realpath "$OUT/packages")${PYTHONPATH:+:$PYTHONPATH}
fi
PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} exec "$PYTHON" -m scripts.gpu --output "$OUT" \
    --parts ${PARTS:-all} --seconds "${SECONDS_LEFT:-480}" "$@"
