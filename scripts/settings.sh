#!/usr/bin/env bash
# Functions for the settings of the scripts, which read this file with `source`.

# switch NAME...: sets each setting to 1 if it means yes, and to empty if it means no or is empty.
switch() {
    local name
    for name in "$@"; do
        case ${!name:-} in
        1 | [Tt]rue | TRUE | [Yy]es | YES) printf -v "$name" 1 ;;
        '' | 0 | [Ff]alse | FALSE | [Nn]o | NO) printf -v "$name" '' ;;
        *) refuse "$name is '${!name}': say 1, true or yes, or 0, false or no" ;;
        esac
    done
}

# count NAME...: refuses a setting that is not a whole number of at least 1.
count() {
    local name
    for name in "$@"; do
        [[ ${!name} =~ ^[1-9][0-9]{0,8}$ ]] || refuse "$name is '${!name}': say a number from 1 on"
    done
}

# without_effect WHY NAME...: refuses settings that have no effect on the script.
without_effect() {
    local why=$1 name
    for name in "${@:2}"; do
        [ -z "${!name:-}" ] || refuse "$name has no effect $why: leave it out"
    done
}

# program NAME...: refuses a setting that is not a program.
program() {
    local name
    for name in "$@"; do
        command -v "${!name}" >/dev/null ||
            refuse "$name is '${!name}', and there is no such program: scripts/setup.sh sets one up"
    done
}

# mini_world: sets SCALE, the size of the pictures that are drawn for MODEL_PATH, a mini model, and WORLD, the
# name of their folder. A model that reads tiles gets pictures of twice the resolution.
mini_world() {
    SCALE=1 WORLD=mini
    if grep -qs '"image_aspect_ratio": "anyres"' "$MODEL_PATH/config.json"; then
        SCALE=2 WORLD=mini-2x
    fi
}

# install_into VENV ARGUMENTS: installs with the uv of .venv, which takes a fifth of pip's time and links files
# that another environment has too. uv does not read pip's settings (mirrors, certificates): where it fails,
# pip tries. Bytecode of 16,000 files takes a minute; Python itself writes that of the few it imports.
install_into() {
    local python=$1/bin/python
    if .venv/bin/python -m pip install --quiet --constraint constraints.txt uv; then
        .venv/bin/python -m uv pip install --quiet --python "$python" "${@:2}" && return
        echo "uv could not install the packages: trying pip" >&2
    fi
    "$python" -m pip install --quiet --no-compile "${@:2}"
}

refuse() {
    echo "error: $1" >&2
    exit 2
}
