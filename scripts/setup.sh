#!/usr/bin/env bash
# Create .venv, install lrwidgets (editable) with its dev extra at the versions of constraints.txt, compile the kernels
# and touch .venv/.ready.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
    echo "setup: $*" >&2
    exit 1
}

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    local name
    for name in ${PYTHON:-} python3.13 python3.12 python3.11 python3.14 python3 python; do
        if is_new_enough "$name"; then
            command -v "$name"
            return
        fi
    done
    fail "no Python >= 3.11 found; install one (Debian: apt-get install python3 python3-venv)" \
        "or name it: make PYTHON=/path/to/python3.12"
}

make_venv() {
    local python
    python=$(find_python)
    if "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        "$python" -m venv .venv
    elif command -v uv >/dev/null; then
        uv venv --quiet --seed --python "$python" .venv
    else
        fail "$python has no venv module; install it (Debian: apt-get install python3-venv), or uv"
    fi
}

# Install with uv, from PATH or installed into .venv: seconds instead of a minute. Fall back to pip, which reads pip.conf.
install() {
    local pip=(.venv/bin/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt) uv
    uv=$(command -v uv) || uv=.venv/bin/uv
    [ -x "$uv" ] || "${pip[@]}" uv || fail "cannot install packages: check the network and the package index"
    "$uv" pip install --quiet --compile-bytecode --python .venv/bin/python --constraint constraints.txt --editable '.[dev]' 2>/dev/null ||
        "${pip[@]}" --editable '.[dev]' || fail "the installation failed: check the network and the package index"
}

if ! is_new_enough .venv/bin/python; then
    echo "setup: creating .venv (once)" >&2
    rm -rf .venv
    make_venv
fi
install
echo "setup: compiling the kernels (once)" >&2
.venv/bin/python scripts/warm.py
touch .venv/.ready
