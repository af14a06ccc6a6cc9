#!/usr/bin/env bash
# Three nodes on this machine, until Ctrl-C: a cluster to try things on.
#
#   cluster.sh [FOLDER]     data in FOLDER/a, b and c (default ./peerglass-lab); what is there is used again
#
# Image API on 127.0.0.1:9292, 9392 and 9492; peer ports 9293, 9393 and 9493 (UDP and TCP). A node that is killed
# stays dead: start it again with the command that is printed. BINARY=PATH runs that program and builds none.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
FOLDER=${1:-peerglass-lab}
BINARY=${BINARY:-$("$HERE/../build/cargo.sh" --binary)}
NAMES=(a b c)
# Copies are spread over sites: of two, one is on a.
SITES=(west east east)
PORTS=(9292 9392 9492)
PIDS=()

# A PEERGLASS_* setting of the shell would go to all three nodes.
while IFS= read -r name; do unset "$name"; done < <(compgen -e | grep '^PEERGLASS_' | grep -v '^PEERGLASS_CACHE$' || true)

say() { printf 'lab: %s\n' "$*"; }
die() { printf 'lab: error: %s\n' "$*" >&2; exit 1; }

where() { # NUMBER: the flags of that node
    echo --data-dir "$FOLDER/${NAMES[$1]}" --listen "127.0.0.1:${PORTS[$1]}" --peer-listen "127.0.0.1:$((PORTS[$1] + 1))"
}

stop_all() {
    trap - INT TERM EXIT
    say "stopping"
    # One after the other, so that each leader hands over to somebody who stays a little longer.
    for pid in "${PIDS[@]}"; do
        kill "$pid" 2>/dev/null || continue
        wait "$pid" 2>/dev/null || true
    done
}

start() { # NUMBER
    local log=$FOLDER/${NAMES[$1]}.log
    # shellcheck disable=SC2046  # flags are words
    "$BINARY" serve $(where "$1") >>"$log" 2>&1 </dev/null &
    PIDS+=("$!")
    for _ in $(seq 300); do
        kill -0 "${PIDS[-1]}" 2>/dev/null || die "node ${NAMES[$1]} did not start: $(tail -n 1 "$log")"
        curl -sf -o /dev/null "127.0.0.1:${PORTS[$1]}/healthcheck" && return
        sleep 0.1
    done
    die "node ${NAMES[$1]} does not answer; see $log"
}

for port in "${PORTS[@]}"; do
    if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then die "port $port is taken"; fi
done
mkdir -p "$FOLDER"
trap stop_all EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

for number in 0 1 2; do
    data=$FOLDER/${NAMES[number]}
    if [ ! -d "$data/raft" ]; then
        # shellcheck disable=SC2046
        if [ "$number" = 0 ]; then
            "$BINARY" cluster init $(where 0) --site "${SITES[0]}" >/dev/null
        else
            token=$("$BINARY" cluster token --endpoint "http://127.0.0.1:${PORTS[0]}" --site "${SITES[number]}")
            "$BINARY" cluster join "$token" $(where "$number") >/dev/null
        fi
    fi
    start "$number"
done

# Three voters, once the younger two have caught up.
for _ in $(seq 300); do
    voters=$(curl -sf "127.0.0.1:${PORTS[0]}/v2/cluster" | grep -o '"voter":true' | wc -l)
    [ "$voters" -lt 3 ] || break
    sleep 0.1
done
"$BINARY" cluster status --endpoint "http://127.0.0.1:${PORTS[0]}"
for number in 0 1 2; do
    say "node ${NAMES[number]}: $BINARY serve $(where "$number")   log $FOLDER/${NAMES[number]}.log"
done
say "three nodes: http://127.0.0.1:9292 http://127.0.0.1:9392 http://127.0.0.1:9492   Ctrl-C stops them"
# A node that somebody kills is not the end of the lab; it ends with the last of them.
for pid in "${PIDS[@]}"; do
    wait "$pid" || true
done
