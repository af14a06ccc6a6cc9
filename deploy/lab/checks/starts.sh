# Starts that must not happen: one clear line, a non-zero exit code, and nothing harmed. Sourced by real.sh.
# shellcheck shell=bash

# bad_start NAME PATTERN ARG...: `serve` with these arguments must end by itself, saying PATTERN on one line.
bad_start() {
    local name=$1 pattern=$2 code=0
    shift 2
    timeout 30 "$BINARY" serve "$@" >"$WORK/out" 2>"$WORK/err" </dev/null || code=$?
    { echo "exit code $code"; cat "$WORK/out" "$WORK/err"; } >"$WORK/said"
    if [ "$code" = 0 ] || [ "$code" -ge 124 ]; then
        fail "$name (exit code $code)"
    elif grep -q '^ready: ' "$WORK/out"; then
        fail "$name (it said ready first)"
    elif [ "$(wc -l <"$WORK/err")" != 1 ] || ! grep -Eiq -- "$pattern" "$WORK/err"; then
        fail "$name (wanted one line with: $pattern)"
    else
        ok "$name: $(cut -c1-150 "$WORK/err")"
    fi
}

check_bad_starts() {
    local fresh=$WORK/fresh listen
    listen=127.0.0.1:$(free_port)
    bad_start "a second node on the same data directory" "$(basename "$DATA").*(use|lock)|(use|lock).*$(basename "$DATA")" \
        --listen "$listen" --data-dir "$DATA"
    bad_start "a port in use" "$PORT" --listen "127.0.0.1:$PORT" --data-dir "$fresh"
    bad_start "no sign-in on an address others can reach" 'loopback' --listen "0.0.0.0:${listen#*:}" --data-dir "$fresh"
    bad_start "no sign-in on every IPv6 address" 'loopback' --listen "[::]:${listen#*:}" --data-dir "$fresh"
    printf '[api]\nlisten = "%s"\nimage_size_capp = 5\n' "$listen" >"$WORK/typo.toml"
    bad_start "an unknown config key" 'image_size_capp' --config "$WORK/typo.toml" --data-dir "$fresh"
    printf 'this is not toml\n' >"$WORK/broken.toml"
    bad_start "a config file that is no TOML" 'broken.toml' --config "$WORK/broken.toml" --data-dir "$fresh"
    bad_start "a config file that is not there" 'absent.toml' --config "$WORK/absent.toml" --data-dir "$fresh"
    bad_start "http-basic without a password file" 'htpasswd' --listen "$listen" --data-dir "$fresh" --auth http-basic
    bad_start "a password file that is not there" 'absent.htpasswd' --listen "$listen" --data-dir "$fresh" \
        --auth http-basic --htpasswd "$WORK/absent.htpasswd"
    printf 'not a directory\n' >"$WORK/plain-file"
    bad_start "a data directory that is a file" 'plain-file' --listen "$listen" --data-dir "$WORK/plain-file"
    check "the node that was running is still well" curl -sf -o /dev/null "$URL/v2/images"
}

# damage FILE: turn every byte of a region in the middle around, so that no checksum can still hold.
damage() {
    python3 - "$1" <<'PY'
import os, sys
path = sys.argv[1]
size = os.path.getsize(path)
start, count = (size // 3, min(4096, max(1, size // 3)))
with open(path, "r+b") as file:
    file.seek(start)
    region = file.read(count)
    file.seek(start)
    file.write(bytes(byte ^ 0xFF for byte in region))
PY
}

# largest FOLDER PATTERN: the biggest file of that kind.
largest() { find "$1" -type f -name "$2" -printf '%s %p\n' | sort -n | tail -n 1 | cut -d' ' -f2-; }

# damaged_start NAME FOLDER PATTERN: a copy of the data, one file damaged, and the start must name that file
# (or its database) and refuse.
damaged_start() {
    local name=$1 copy=$WORK/damaged file
    rm -rf "$copy"
    cp -a --sparse=always "$DATA" "$copy"
    file=$(largest "$copy/$2" "$3")
    if [ -z "$file" ]; then
        echo "no $3 in $copy/$2" >"$WORK/said"
        fail "$name"
        return 0
    fi
    damage "$file"
    bad_start "$name" "$(basename "$file")" --listen "127.0.0.1:$(free_port)" --data-dir "$copy"
    rm -rf "$copy"
}

# Runs with the node stopped, on copies of its data.
check_damaged_starts() {
    local listen id copy=$WORK/damaged file code
    damaged_start "a damaged Raft log" raft/log '*.log'
    damaged_start "a damaged catalog table" raft/state '*.sst'
    damaged_start "a damaged chunk index" index '*.sst'
    rm -rf "$copy"
    cp -a --sparse=always "$DATA" "$copy"
    file=$(largest "$copy/packs" '*')
    rm -f "$file"
    bad_start "a missing pack" "$(basename "$file")" --listen "127.0.0.1:$(free_port)" --data-dir "$copy"
    # Bytes that rot inside a pack are found when they are read: never served, and the rest stays up.
    rm -rf "$copy"
    cp -a --sparse=always "$DATA" "$copy"
    damage "$(largest "$copy/packs" '*')"
    check "a node with rotten bytes in a pack starts" start_node "$copy"
    id=$(curl -sf "$URL/v2/images?name=keep" | jq -r '.images[0].id')
    refused "and breaks the download instead of sending them" curl -sf -o "$WORK/saved" "$URL/v2/images/$id/file"
    refused "so the client does not have a whole file" cmp -s "$WORK/keep.bin" "$WORK/saved"
    crash_node
    rm -rf "$copy" "$WORK/saved"
}
