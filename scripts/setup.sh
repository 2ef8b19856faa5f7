#!/usr/bin/env bash
# Sets up .venv with the pinned packages and this project. Quick when there is nothing to do.
#   bash scripts/setup.sh            what the quickstart, the chat and the web page need
#   bash scripts/setup.sh test       and an extra of pyproject.toml, or several; what is there stays
# Settings, from the environment:
#   PYTHON      the interpreter of a new .venv (3.10 or newer)
#   TORCH       cpu or default: which builds of torch and torchvision, together. Not set: on Linux
#               (x86_64) without an NVIDIA GPU the CPU builds, a quarter of the others' size, where
#               their index is reached; else what pip finds, which on Linux is for NVIDIA's GPUs
#   CPU_INDEX   where the CPU builds are
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/settings.sh

PYTHON=${PYTHON:-python3}
TORCH=${TORCH:-}
CPU_INDEX=${CPU_INDEX:-https://download.pytorch.org/whl/cpu}
INSTALLED=.venv/installed # what .venv was made from: two files, the extras, and the build of torch

case $TORCH in '' | cpu | default) ;; *) refuse "TORCH is '$TORCH': say cpu or default" ;; esac
for extra in "$@"; do
    [[ $extra =~ ^[a-z]+$ ]] && grep -q "^$extra = \[" pyproject.toml ||
        refuse "there is no extra '$extra': pyproject.toml lists them"
done
"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null ||
    refuse "$PYTHON is not Python 3.10 or newer; name one with PYTHON=python3.12 bash $0"

has_gpu() {
    command -v nvidia-smi >/dev/null || compgen -G '/dev/nvidia[0-9]*' >/dev/null
}

# Both or none: torchvision for GPUs breaks on a torch for CPUs.
install_cpu_builds() {
    .venv/bin/python -m pip install --quiet --no-deps --only-binary :all: \
        --timeout 5 --retries 0 --index-url "$CPU_INDEX" --requirement \
        <(sed -nE 's/^(torch|torchvision)==([^; ]+)/\1==\2+cpu/p' constraints.txt) >&2
}

# choose_build: prints cpu, with the CPU builds installed, or default.
choose_build() {
    local wanted=$TORCH
    if [ -z "$wanted" ]; then
        wanted=default
        [ "$(uname -sm)" != "Linux x86_64" ] || has_gpu || wanted=cpu
    fi
    if [ "$wanted" = default ]; then
        echo default
    elif [ -n "$TORCH" ]; then
        install_cpu_builds ||
            refuse "there are no CPU builds of the pinned torch and torchvision in $CPU_INDEX"
        echo cpu
    elif install_cpu_builds 2>/dev/null; then
        echo cpu
    else
        echo "No CPU builds of torch and torchvision are reached at $CPU_INDEX:" \
            "installing the ordinary ones, with 4 GB for GPUs" >&2
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
    rm -r "$INSTALLED" # what is stopped halfway is begun anew
else
    echo "Setting up .venv (some 6 GB, 2 with CPU builds of torch; a few minutes) ..." >&2
    "$PYTHON" -m venv --clear .venv
    build=$(choose_build)
fi
.venv/bin/python -m pip install --quiet --constraint constraints.txt --editable ".[$extras]"
mkdir -p "$INSTALLED"
cp pyproject.toml constraints.txt "$INSTALLED/"
echo "$extras" >"$INSTALLED/extras"
echo "$build" >"$INSTALLED/torch"
