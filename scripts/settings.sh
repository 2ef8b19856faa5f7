#!/usr/bin/env bash
# What the scripts share about their settings; read by them with `source`.

# switch NAME...: makes each setting 1 where it says yes, and empty where it says no or nothing.
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

# count NAME...: refuses a setting that is no whole number of at least 1.
count() {
    local name
    for name in "$@"; do
        [[ ${!name} =~ ^[1-9][0-9]{0,8}$ ]] || refuse "$name is '${!name}': say a number from 1 on"
    done
}

# without_effect WHY NAME...: refuses settings that the script has no use for.
without_effect() {
    local why=$1 name
    for name in "${@:2}"; do
        [ -z "${!name:-}" ] || refuse "$name has no effect $why: leave it out"
    done
}

# program NAME...: refuses a setting that is no program.
program() {
    local name
    for name in "$@"; do
        command -v "${!name}" >/dev/null ||
            refuse "$name is '${!name}', and there is no such program: scripts/setup.sh sets one up"
    done
}

refuse() {
    echo "error: $1" >&2
    exit 2
}
