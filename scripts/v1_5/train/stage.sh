#!/usr/bin/env bash
# Runs one stage of training; called by the other scripts of this folder: stage.sh NAME flags...
# Settings (environment variables): NPROC (processes on this machine, one for each GPU), PYTHON.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
source scripts/settings.sh

NAME=$1
shift
NPROC=${NPROC:-1}
PYTHON=${PYTHON:-.venv/bin/python}
count NPROC

LAUNCH=("$PYTHON" -m)
if [ "$NPROC" -gt 1 ]; then
    LAUNCH=("$PYTHON" -m torch.distributed.run --standalone --nproc_per_node "$NPROC" -m)
fi
exec "${LAUNCH[@]}" "llava.train.$NAME" "$@"
