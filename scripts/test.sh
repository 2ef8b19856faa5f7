#!/usr/bin/env bash
# Sets up .venv and runs the tests. Arguments go to pytest: bash scripts/test.sh -k beam
# All tests run in three processes of one thread each, because many of them wait, the longest files
# first (tests/conftest.py); tests chosen by arguments run in one process.
# The web page is tested in Chromium, which is installed if it is missing and this is root on Debian.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

unset PYTHONDONTWRITEBYTECODE # or each of many processes compiles all that it imports
bash scripts/setup.sh test
if ! command -v chromium >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; } >/dev/null ||
        echo "no Chromium: the tests of the web page in a browser are left out" >&2
fi
if [ $# = 0 ]; then
    export OMP_NUM_THREADS=1
    set -- --numprocesses 3 --dist loadfile --no-loadscope-reorder
fi
.venv/bin/python -m pytest --quiet --durations=10 "$@"
