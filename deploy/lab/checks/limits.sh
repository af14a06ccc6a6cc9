# Uploads that do not fit: over the cap, and onto a disk that runs full. Sourced by real.sh.
# shellcheck shell=bash

check_size_cap() {
    local id
    printf '[api]\nimage_size_cap = 1000000\n' >"$WORK/cap.toml"
    check "a node with image_size_cap = 1000000" start_node "$WORK/cap" --config "$WORK/cap.toml"
    head -c 1000001 /dev/urandom >"$WORK/over.bin"
    head -c 1000000 /dev/urandom >"$WORK/exact.bin"
    id=$(new_image over)
    same "one byte over the cap is 413" 413 "$(put_file "$id" "$WORK/over.bin")"
    same "also when the length is not announced" 413 "$(put_file "$id" "$WORK/over.bin" -H 'Transfer-Encoding: chunked')"
    check "and leaves the image queued" becomes "$id" queued
    same "the cap itself fits" 204 "$(put_file "$id" "$WORK/exact.bin")"
    check "whole" cmp "$WORK/exact.bin" <(curl -sf "$URL/v2/images/$id/file")
    check "nothing else is kept" packs_shrink_to "$WORK/cap" 3
    check "stop" stop_node
    rm -rf "$WORK/cap"
}

FULL_MIB=192

check_full_disk() {
    local mount=$WORK/small keep id code
    mkdir -p "$mount"
    if ! mount -t tmpfs -o "size=${FULL_MIB}M" peerglass-lab "$mount" 2>"$WORK/said"; then
        echo "a small tmpfs needs root to mount" >>"$WORK/said"
        if [ "${CI:-}" = true ]; then fail "full disk: not tested"; else echo "---- full disk: NOT tested, needs root"; fi
        return 0
    fi
    MOUNTED=$mount
    check "full disk: a node on a tmpfs of $FULL_MIB MiB" start_node "$mount/data"
    head -c 20000000 /dev/urandom >"$WORK/keep.bin"
    head -c $((FULL_MIB << 20)) /dev/urandom >"$WORK/big.bin"
    keep=$(new_image keep)
    same "full disk: an upload that fits" 204 "$(put_file "$keep" "$WORK/keep.bin")"
    id=$(new_image big)
    code=$(put_file "$id" "$WORK/big.bin")
    same "full disk: one that does not is 413" 413 "$code"
    check "full disk: it leaves the image queued" becomes "$id" queued 60
    check "full disk: its bytes are given back" packs_shrink_to "$mount/data" 40
    check "full disk: what was stored before is whole" cmp "$WORK/keep.bin" <(curl -sf "$URL/v2/images/$keep/file")
    head -c 20000000 /dev/urandom >"$WORK/next.bin"
    same "full disk: the same image takes a smaller upload" 204 "$(put_file "$id" "$WORK/next.bin")"
    crash_node
    check "full disk: the node starts again" start_node "$mount/data"
    check "full disk: the first image is whole" cmp "$WORK/keep.bin" <(curl -sf "$URL/v2/images/$keep/file")
    check "full disk: the second too" cmp "$WORK/next.bin" <(curl -sf "$URL/v2/images/$id/file")
    check "full disk: stop" stop_node
    umount "$mount"
    # shellcheck disable=SC2034  # read by the clean-up of real.sh
    MOUNTED=
    rm -f "$WORK/big.bin"
}

FULL_INDEX_MIB=32

# The chunk index alone finds no room: uploads are refused as if the packs had found none, and are taken again
# without a restart once there is some. RocksDB reserves 9 MiB for its log with the first write after a start, if
# it can, so the disk has to be full by then.
check_full_index() {
    local mount=$WORK/small data=$WORK/apart keep id tries code=
    mkdir -p "$mount" "$data"
    mount -t tmpfs -o "size=${FULL_INDEX_MIB}M" peerglass-lab "$mount" 2>"$WORK/said" || return 0 # told already
    MOUNTED=$mount
    ln -s "$mount" "$data/index"
    check "full index: a node whose index is on a disk of its own" start_node "$data"
    head -c 3000000 /dev/urandom >"$WORK/keep.bin"
    keep=$(new_image keep)
    same "full index: an upload that fits" 204 "$(put_file "$keep" "$WORK/keep.bin")"
    check "full index: stop" stop_node
    head -c $(($(free_bytes "$mount") - 262144)) /dev/zero >"$mount/filler"
    check "full index: it starts with little room" start_node "$data"
    cat /dev/zero >"$mount/filler.rest" 2>/dev/null || true
    head -c 3000000 /dev/urandom >"$WORK/next.bin"
    id=$(new_image next)
    for ((tries = 0; tries < 3; tries++)); do
        same "full index: no room is 413" 413 "$(put_file "$id" "$WORK/next.bin")"
    done
    check "full index: it leaves the image queued" becomes "$id" queued
    check "full index: nothing is kept" packs_shrink_to "$data" 4
    check "full index: what was stored before is whole" cmp "$WORK/keep.bin" <(curl -sf "$URL/v2/images/$keep/file")
    rm "$mount/filler" "$mount/filler.rest"
    for ((tries = 0; tries < 60; tries++)); do
        code=$(put_file "$id" "$WORK/next.bin")
        [ "$code" = 413 ] || break
        sleep 0.5
    done
    same "full index: with room the same node takes the upload" 204 "$code"
    crash_node
    check "full index: the node starts again" start_node "$data"
    check "full index: the first image is whole" cmp "$WORK/keep.bin" <(curl -sf "$URL/v2/images/$keep/file")
    check "full index: the second too" cmp "$WORK/next.bin" <(curl -sf "$URL/v2/images/$id/file")
    check "full index: stop" stop_node
    umount "$mount"
    # shellcheck disable=SC2034  # read by the clean-up of real.sh
    MOUNTED=
}

free_bytes() { echo $(($(stat -f -c '%a * %S' "$1"))); }
