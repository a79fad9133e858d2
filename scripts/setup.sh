#!/usr/bin/env bash
# Make .venv, install lrwidgets (editable) with its dev extra at the versions of constraints.txt, stamp .venv/.ready.
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
    fail "no Python >= 3.11 found; install one (Debian: apt-get install python3 python3-venv) or name it: make PYTHON=/path/to/python3.12"
}

make_venv() {
    local python
    python=$(find_python)
    if command -v uv >/dev/null; then
        uv venv --quiet --python "$python" .venv
    else
        "$python" -c 'import ensurepip, venv' 2>/dev/null ||
            fail "$python has no venv module; install it (Debian: apt-get install python3-venv) or install uv"
        "$python" -m venv .venv
    fi
}

if ! is_new_enough .venv/bin/python; then
    rm -rf .venv
    echo "setup: making .venv (once; about a minute)" >&2
    make_venv
fi
if command -v uv >/dev/null; then
    uv pip install --quiet --python .venv/bin/python --constraint constraints.txt --editable '.[dev]'
else
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
fi
touch .venv/.ready
