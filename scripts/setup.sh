#!/usr/bin/env bash
# Sets up .venv with the pinned packages and this project. Quick when there is nothing to do.
# PYTHON=... chooses the interpreter (3.10 or newer).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

PYTHON=${PYTHON:-python3}
INSTALLED=.venv/installed # a copy of the files that the environment was made from

if ! "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
    echo "error: $PYTHON is not Python 3.10 or newer; name one with PYTHON=python3.12 bash $0" >&2
    exit 2
fi
if .venv/bin/python -c '' 2>/dev/null &&
    cmp -s pyproject.toml "$INSTALLED/pyproject.toml" &&
    cmp -s constraints.txt "$INSTALLED/constraints.txt"; then
    exit 0
fi

echo "Setting up .venv (some 6 GB, a few minutes) ..." >&2
"$PYTHON" -m venv --clear .venv
.venv/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
mkdir -p "$INSTALLED"
cp pyproject.toml constraints.txt "$INSTALLED/"
