# One peerglass process, and checks against it. Sourced by real.sh and tour.sh, not run.
#
# Expects BINARY (the release binary) and WORK (a scratch folder of the caller). Sets NODE_PID, PORT, URL and
# NODE_LOG. Only processes started here are ever signalled, by their id.
# shellcheck shell=bash

NODE_PID=
PASSED=0
FAILED=0
READY_SECONDS_MAX=60
STOP_SECONDS_MAX=60

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# start_node DATA_DIR [ARG...]: returns when the node says it is ready; fails when it ends or stays silent.
start_node() {
    local data=$1 tries
    shift
    PORT=${FIXED_PORT:-$(free_port)}
    URL=http://127.0.0.1:$PORT
    NODE_LOG=$WORK/node.$PORT.log
    "$BINARY" serve --listen "127.0.0.1:$PORT" --data-dir "$data" "$@" >"$NODE_LOG" 2>&1 </dev/null &
    NODE_PID=$!
    for ((tries = 0; tries < READY_SECONDS_MAX * 20; tries++)); do
        if grep -qs '^ready: ' "$NODE_LOG"; then return 0; fi
        if ! kill -0 "$NODE_PID" 2>/dev/null; then break; fi
        sleep 0.05
    done
    echo "the node did not get ready; its log:" >&2
    tail -n 20 "$NODE_LOG" >&2
    crash_node
    return 1
}

# The orderly way. Fails when the node needs longer than its drain time or ends with an error.
stop_node() {
    local tries pid=$NODE_PID
    kill -TERM "$pid" 2>/dev/null || { echo "the node had ended before it was stopped" >&2; NODE_PID=; return 1; }
    for ((tries = 0; tries < STOP_SECONDS_MAX * 20; tries++)); do
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.05
    done
    if kill -0 "$pid" 2>/dev/null; then
        echo "the node did not stop within $STOP_SECONDS_MAX s" >&2
        crash_node
        return 1
    fi
    NODE_PID=
    wait "$pid"
}

crash_node() {
    [ -n "$NODE_PID" ] || return 0
    kill -KILL "$NODE_PID" 2>/dev/null || true
    wait "$NODE_PID" 2>/dev/null || true
    NODE_PID=
}

ok() { PASSED=$((PASSED + 1)); printf 'ok   %s\n' "$1"; }
fail() {
    FAILED=$((FAILED + 1))
    printf 'FAIL %s\n' "$1"
    tail -n 12 "$WORK/said" 2>/dev/null | sed 's/^/     | /'
    tail -n 5 "${NODE_LOG:-/dev/null}" 2>/dev/null | sed 's/^/     node | /'
}

# check NAME COMMAND...: the command must succeed. refused NAME COMMAND...: it must not.
check() {
    local name=$1
    shift
    if "$@" >"$WORK/said" 2>&1; then ok "$name"; else fail "$name"; fi
}
refused() {
    local name=$1
    shift
    if "$@" >"$WORK/said" 2>&1; then fail "$name"; else ok "$name"; fi
}
# same NAME WANTED GOT
same() {
    if [ "$2" = "$3" ]; then ok "$1"; else printf 'wanted: %s\ngot:    %s\n' "$2" "$3" >"$WORK/said"; fail "$1"; fi
}
# matches NAME PATTERN TEXT
matches() {
    if grep -Eq -- "$2" <<<"$3"; then ok "$1"; else printf 'wanted: %s\ngot:    %s\n' "$2" "$3" >"$WORK/said"; fail "$1"; fi
}
# The last line of a run, alone on its line; its exit code is the run's.
tally() {
    printf '%d passed, %d failed\n' "$PASSED" "$FAILED"
    [ "$FAILED" = 0 ]
}

# status_of CURL_ARG...: the HTTP status; the body goes to $WORK/body. 000 when there was no answer.
status_of() { curl -s -o "$WORK/body" -w '%{http_code}' --max-time 120 "$@" || true; }
# new_image NAME [DISK_FORMAT]: create a record by curl, print its id.
new_image() {
    curl -sf "$URL/v2/images" -H 'Content-Type: application/json' \
        -d "{\"name\":\"$1\",\"disk_format\":\"${2:-raw}\",\"container_format\":\"bare\"}" | jq -r .id || true
}
# put_file ID FILE [CURL_ARG...]: upload, print the status.
put_file() {
    local id=$1 file=$2
    shift 2
    status_of -T "$file" -H 'Content-Type: application/octet-stream' "$@" "$URL/v2/images/$id/file"
}
field() { curl -sf "$URL/v2/images/$1" | jq -r ".$2" || true; }
# becomes ID STATUS [SECONDS]: wait until the image has that status.
becomes() {
    local tries
    for ((tries = 0; tries < ${3:-20} * 5; tries++)); do
        [ "$(field "$1" status)" != "$2" ] || return 0
        sleep 0.2
    done
    echo "status of $1 is still $(field "$1" status), not $2"
    return 1
}
# packs_shrink_to DATA_DIR MIB [SECONDS]: wait until reclaim has given the space back.
packs_shrink_to() {
    local tries used
    for ((tries = 0; tries < ${3:-120}; tries++)); do
        used=$(du -sm "$1/packs" | cut -f1)
        [ "$used" -gt "$2" ] || return 0
        sleep 1
    done
    echo "packs still take $used MiB, wanted at most $2"
    return 1
}
