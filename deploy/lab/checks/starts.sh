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
    bad_start "a peer port and a directory of no cluster" 'cluster init.*cluster join' --listen "$listen" \
        --peer-listen "127.0.0.1:$(free_port)" --data-dir "$WORK/unmounted"
    check "which is left alone" test ! -e "$WORK/unmounted"
    check "the node that was running is still well" curl -sf -o /dev/null "$URL/v2/images"
}

# damage FILE PLACE: turn every byte of a region around, so that no checksum can still hold. PLACE is `middle`
# or `end`, where a table or a trailer is.
damage() {
    python3 - "$1" "$2" <<'PY'
import os, sys
path, place = sys.argv[1:]
size = os.path.getsize(path)
start, count = (size // 3, min(4096, max(1, size // 3))) if place == "middle" else (max(0, size - 100), min(60, size))
with open(path, "r+b") as file:
    file.seek(start)
    region = file.read(count)
    file.seek(start)
    file.write(bytes(byte ^ 0xFF for byte in region))
PY
}

# largest FOLDER PATTERN: the biggest file of that kind.
largest() { find "$1" -type f -name "$2" -printf '%s %p\n' | sort -n | tail -n 1 | cut -d' ' -f2-; }

COPY=

copy_data() {
    COPY=$WORK/damaged
    rm -rf "$COPY"
    cp -a --sparse=always "$DATA" "$COPY"
}

# damaged_start NAME FOLDER PATTERN PLACE NAMED: a copy of the data, one file damaged; the start must refuse
# and name the place.
damaged_start() {
    local name=$1 file
    copy_data
    file=$(largest "$COPY/$2" "$3")
    if [ -z "$file" ]; then
        echo "no $3 in $COPY/$2" >"$WORK/said"
        fail "$name"
        return 0
    fi
    damage "$file" "$4"
    bad_start "$name" "$5" --listen "127.0.0.1:$(free_port)" --data-dir "$COPY"
}

# keep_is_whole URL_OF_FILE: the kept image downloads with its bytes.
keep_is_whole() { curl -sf -o "$WORK/saved" "$1" && cmp -s "$WORK/keep.bin" "$WORK/saved"; }

# Runs with the node stopped, on copies of its data. ID is the image `keep`.
check_damaged_starts() {
    local id=$1 file
    # Write-ahead logs hold what was written last; a first restart has moved the rest into tables.
    damaged_start "a damaged Raft log" raft/log '*.log' middle raft/log
    damaged_start "a damaged table of the Raft log" raft/log '*.sst' end raft/log
    damaged_start "a damaged catalog" raft/state '*.sst' end raft/state
    damaged_start "a damaged chunk index" index '*.sst' end index
    copy_data
    file=$(largest "$COPY/packs" '*')
    damage "$file" end
    bad_start "a pack with a damaged end" "pack .*$(basename "$file" .pack)" \
        --listen "127.0.0.1:$(free_port)" --data-dir "$COPY"
    copy_data
    file=$(largest "$COPY/packs" '*')
    truncate -s -1000 "$file"
    bad_start "a pack that was cut off" "pack .*$(basename "$file" .pack)" \
        --listen "127.0.0.1:$(free_port)" --data-dir "$COPY"
    # A lost index is no loss: the packs say what is in them.
    copy_data
    rm -rf "$COPY/index"
    check "without its index the node starts" start_node "$COPY"
    check "and every image is whole" keep_is_whole "$URL/v2/images/$id/file"
    crash_node
    # Bytes that rot inside a pack are found when they are read: never sent, and the rest stays up.
    copy_data
    damage "$(largest "$COPY/packs" '*')" middle
    check "with rotten bytes in a pack the node starts" start_node "$COPY"
    refused "and breaks the download instead of sending them" keep_is_whole "$URL/v2/images/$id/file"
    matches "the log names the pack" 'damaged' "$(grep -i 'pack' "$NODE_LOG" || true)"
    check "records are still served" curl -sf -o /dev/null "$URL/v2/images/$id"
    crash_node
    copy_data
    rm -f "$(largest "$COPY/packs" '*')"
    check "without a pack the node starts" start_node "$COPY"
    refused "and says so when its bytes are asked for" keep_is_whole "$URL/v2/images/$id/file"
    matches "the log names the pack that is gone" 'gone' "$(grep -i 'packs' "$NODE_LOG" || true)"
    crash_node
    rm -rf "$COPY" "$WORK/saved"
}
