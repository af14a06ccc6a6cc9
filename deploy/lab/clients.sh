#!/usr/bin/env bash
# The real OpenStack clients, in a virtual environment in the cache.
#
#   clients.sh            install them if they are not there, then print the folder to put on PATH
#   clients.sh run CMD... run openstack, glance or python from it
#
# Their versions are below; everything they pull in is held by clients.lock (made by 'pip freeze' of an
# environment that passed; make a new one the same way when a version here changes).
# PEERGLASS_PYTHON chooses the interpreter (3.11 or newer, with venv).
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=deploy/build/paths.sh
source "$HERE/../build/paths.sh"

CLIENTS=(python-openstackclient==10.5.0 python-glanceclient==4.13.0 openstacksdk==4.22.0)
WANTED="${CLIENTS[*]} $(cksum <"$HERE/clients.lock")"
VENV=$PEERGLASS_CACHE/clients/$(cksum <<<"$WANTED" | cut -d' ' -f1)

say() { printf 'clients: %s\n' "$*" >&2; }

interpreter() {
    local candidate
    for candidate in ${PEERGLASS_PYTHON:-} python3 /usr/bin/python3; do
        if "$candidate" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            echo "$candidate"
            return
        fi
    done
    say "error: no Python 3.11 or newer with venv"
    return 1
}

install() {
    local python
    "$HERE/../build/debian.sh" clients
    mkdir -p "$PEERGLASS_CACHE/clients"
    exec 8>"$PEERGLASS_CACHE/clients/lock"
    flock -w 900 8 || { say "error: another install holds the lock for 15 minutes"; exit 1; }
    # The mark is written last, so an install that broke off is done again.
    if [ ! -f "$VENV/complete" ]; then
        python=$(interpreter)
        say "installing ${CLIENTS[*]}"
        rm -rf "$VENV"
        "$python" -m venv "$VENV"
        "$VENV/bin/python" -m pip install --quiet --retries 5 -c "$HERE/clients.lock" "${CLIENTS[@]}" >&2
        touch "$VENV/complete"
    fi
    exec 8>&-
}

case ${1:-} in
    '')  install; echo "$VENV/bin" ;;
    run) shift; install; PATH=$VENV/bin:$PATH exec "$@" ;;
    *)   sed -n '2,/^set -euo/{/^set -euo/d;s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac
