#!/usr/bin/env bash
# Install the Debian packages listed in the file $1 as root; otherwise, or without a network, print what is missing.
# Never fails: the tests that need a missing program are shown as skipped.
set -euo pipefail

is_installed() { dpkg-query --show --showformat '${db:Status-Status}' "$1" 2>/dev/null | grep -qx installed; }

missing=()
while read -r package; do
    is_installed "$package" || missing+=("$package")
done < <(grep -v -E '^ *(#|$)' "$1")
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    echo "apt: installing ${missing[*]}" >&2
    log=$(mktemp)
    quick=(-qq -o Acquire::Retries=0 -o Acquire::http::Timeout=20 -o Acquire::https::Timeout=20)
    if { apt-get update "${quick[@]}" &&
        DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${quick[@]}" "${missing[@]}"; } >"$log" 2>&1; then
        rm -f "$log"
        exit 0
    fi
    echo "apt: failed ($(grep -m1 '^E:' "$log" || echo "see $log"))" >&2
fi
echo "apt: not installed: ${missing[*]}; tests that need them are skipped (Debian: sudo apt-get install ${missing[*]})" >&2
