#!/usr/bin/env bash
# Sets up .venv and runs the tests. Arguments go to pytest: bash scripts/test.sh -k beam
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bash scripts/setup.sh
.venv/bin/python -m pytest --quiet --durations=10 "$@"
