# Shared by scripts/demo and scripts/test: saying what happens, installing what is missing,
# making a virtual environment. Sourced, never run; works on Debian and Ubuntu.
# shellcheck shell=bash

say() { printf '%(%H:%M:%S)T  %s\n' -1 "$*"; }
die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# Run a command without its output, which is shown only where it fails.
quietly() {
    local log code=0
    log=$(mktemp)
    "$@" >"$log" 2>&1 || code=$?
    if ((code)); then
        tail -n 20 "$log" >&2
        die "failed with exit code $code: $*"
    fi
    rm -f "$log"
}

as_root() {
    if ((EUID == 0)); then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "this needs root, and there is no sudo: $*"
    fi
}

# install_missing NEED… — where NEED is "PACKAGE… | PROBE": packages, and a command that
# succeeds where they are not needed. apt is not called at all when nothing is missing.
install_missing() {
    local need missing=()
    for need in "$@"; do
        # Several packages may stand before the bar, so it is split into words.
        # shellcheck disable=SC2206
        bash -c "${need#*|}" >/dev/null 2>&1 || missing+=(${need%%|*})
    done
    ((${#missing[@]})) || return 0
    command -v apt-get >/dev/null ||
        die "please install ${missing[*]}: this is neither Debian nor Ubuntu"
    say "Installing ${missing[*]}"
    quietly apt_install "${missing[@]}"
}

apt_install() {
    local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120)
    # Lists that are there may be old and name packages that are gone: then once more.
    if [[ -n $(find /var/lib/apt/lists -name '*_Packages*' -print -quit 2>/dev/null) ]] &&
        as_root "${apt[@]}" install -y --no-install-recommends "$@"; then
        return
    fi
    as_root "${apt[@]}" update
    as_root "${apt[@]}" install -y --no-install-recommends "$@"
}

readonly JAVA='default-jre-headless | command -v java'
readonly ZOOKEEPER='libzookeeper-java | test -e /usr/share/java/zookeeper.jar || command -v zkServer.sh'
readonly BUBBLEWRAP='bubblewrap | command -v bwrap'
readonly GIT='git | command -v git'
readonly GCC='gcc libc6-dev | command -v gcc && test -e /usr/include/stdio.h'
readonly MAKE='make | command -v make'
# The sandbox shows the system's Python, whatever other Python comes first on the PATH.
readonly PYTEST='python3-pytest | /usr/bin/python3 -c "import pytest"'

# Print a Python that is new enough and can make virtual environments.
find_python() {
    local python
    for python in python3 python3.13 python3.12 python3.11 /usr/bin/python3; do
        if "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$python"
            return
        fi
    done
    return 1
}

# make_venv DIR STAMP PIP-ARGUMENT… — make or update a virtual environment; does nothing
# when STAMP (any text) is what it was made with.
make_venv() {
    local venv=$1 stamp=$2 python
    shift 2
    [[ -x $venv/bin/python && $(cat "$venv/.made-with" 2>/dev/null) == "$stamp" ]] && return
    python=$(find_python) || {
        install_missing 'python3 python3-venv | false'
        python=$(find_python) || die "Python 3.11 or newer is needed; this is $(python3 --version)"
    }
    if ! [[ -x $venv/bin/python && -x $venv/bin/pip ]]; then
        say "Making a virtual environment in ${venv#"$PWD/"}"
        "$python" -m venv --clear "$venv"
    fi
    say "Installing Python packages into ${venv#"$PWD/"}"
    quietly "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
    printf '%s\n' "$stamp" >"$venv/.made-with"
}

free_port() {
    "$1" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}
