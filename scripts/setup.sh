#!/usr/bin/env bash
# Sets up .venv with the pinned packages and this project. Fast if everything is installed.
#   bash scripts/setup.sh            the packages of the quickstart, the chat and the web page
#   bash scripts/setup.sh test       adds an extra of pyproject.toml, or several
# Settings (environment variables):
#   PYTHON      the interpreter of a new .venv (3.10 or newer)
#   TORCH       cpu or default: the builds of torch and torchvision. Without it: on Linux (x86_64)
#               without an NVIDIA GPU the CPU builds, a quarter of the others' size, if their index
#               is reachable; else the builds that pip finds, which on Linux are for NVIDIA GPUs
#   CPU_INDEX   the index of the CPU builds
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/settings.sh

PYTHON=${PYTHON:-python3}
TORCH=${TORCH:-}
CPU_INDEX=${CPU_INDEX:-https://download.pytorch.org/whl/cpu}
INSTALLED=.venv/installed # the sources of .venv: two files, the extras, and the build of torch

case $TORCH in '' | cpu | default) ;; *) refuse "TORCH is '$TORCH': say cpu or default" ;; esac
known=$(sed -nE '/^\[project.optional-dependencies]/,/^\[/s/^([a-z]+) = .*/\1/p' pyproject.toml)
for extra in "$@"; do
    grep -qxF -e "$extra" <<<"$known" ||
        refuse "there is no extra '$extra': name some of $(xargs <<<"$known")"
done
"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null ||
    refuse "$PYTHON is not Python 3.10 or newer; name one with PYTHON=python3.12 bash $0"

has_gpu() {
    command -v nvidia-smi >/dev/null || compgen -G '/dev/nvidia[0-9]*' >/dev/null
}

# cpu_builds NAMES: prints the pins of these packages as CPU builds; those of Python 3.10 have a marker.
cpu_builds() {
    sed -nE "s/^($1)==([^; ]+)/\1==\2+cpu/p" constraints.txt
}

# has_cpu_builds: tests whether the index answers soon and has both. It uses the pip of a .venv that
# works, and leaves that .venv unchanged.
has_cpu_builds() {
    local name found
    .venv/bin/python -m pip --version >/dev/null 2>&1 ||
        "$PYTHON" -m venv --clear .venv >&2 || exit
    for name in torch torchvision; do # pip prints the installed version after the available ones
        found=$(.venv/bin/python -m pip index versions "$name" --timeout 5 --retries 0 \
            --index-url "$CPU_INDEX" 2>/dev/null | grep '^Available') || return
        grep -qwF -e "$(cpu_builds "$name" | sed 's/;.*//; s/.*==//')" <<<"$found" || return
    done
}

# choose_build: prints cpu or default.
choose_build() {
    local wanted=$TORCH
    if [ -z "$wanted" ]; then
        wanted=default
        [ "$(uname -sm)" != "Linux x86_64" ] || has_gpu || wanted=cpu
    fi
    if [ "$wanted" = default ]; then
        echo default
    elif has_cpu_builds; then
        echo cpu
    elif [ -n "$TORCH" ]; then
        refuse "no CPU builds of the pinned torch and torchvision could be fetched from $CPU_INDEX"
    else
        echo "No CPU builds of torch and torchvision could be fetched from $CPU_INDEX:" \
            "installing the ordinary ones, with 4.6 GB for GPUs" >&2
        echo default
    fi
}

had=$(cat "$INSTALLED/extras" 2>/dev/null || true)
build=$(cat "$INSTALLED/torch" 2>/dev/null || true)
extras=$(printf '%s\n' quickstart "$@" ${had//,/ } | sort -u | paste -sd, -)
if .venv/bin/python -c '' 2>/dev/null &&
    cmp -s pyproject.toml "$INSTALLED/pyproject.toml" &&
    cmp -s constraints.txt "$INSTALLED/constraints.txt" &&
    [ "${TORCH:-$build}" = "$build" ]; then
    if [ "$build" = cpu ] && [ -z "$TORCH" ] && has_gpu; then
        echo "torch in .venv is a CPU build, and here is a GPU: TORCH=default bash $0" >&2
    fi
    [ "$extras" != "$had" ] || exit 0
    echo "Adding to .venv, which has $had: $extras ..." >&2
else
    echo "Setting up .venv (some 6 GB, 2 with CPU builds of torch; a few minutes) ..." >&2
    build=$(choose_build)
    "$PYTHON" -m venv --clear .venv
    # Both or neither: torchvision for GPUs fails with a torch for CPUs.
    [ "$build" = default ] || .venv/bin/python -m pip install --quiet --no-deps \
        --no-compile --only-binary :all: --index-url "$CPU_INDEX" \
        --requirement <(cpu_builds 'torch|torchvision')
fi
install_into .venv --constraint constraints.txt --editable ".[$extras]"
# Where Python may not write bytecode, as in many containers, each start would compile 3,000 files anew,
# which is half of its time: what all commands import is compiled here, once.
[ -z "${PYTHONDONTWRITEBYTECODE:-}" ] ||
    env -u PYTHONDONTWRITEBYTECODE .venv/bin/python -c 'import llava.eval.bench.costs, llava.model.builder'
mkdir -p "$INSTALLED"
cp pyproject.toml constraints.txt "$INSTALLED/"
echo "$extras" >"$INSTALLED/extras"
echo "$build" >"$INSTALLED/torch"
