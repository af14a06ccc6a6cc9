# The other clients: `glance`, openstacksdk and curl. Sourced by real.sh.
# shellcheck shell=bash

# `glance` takes a standard input that is not a terminal for image data, so it gets none at all; and it does
# not know what OS_AUTH_TYPE=none means.
glance_client() { env -u OS_AUTH_TYPE glance --os-image-url "$URL" --os-auth-token any "$@" <&-; }

check_glance() {
    local id file=$DISKS/disk.qcow2
    id=$(glance_client image-create --name lab-glance --disk-format qcow2 --container-format bare --file "$file" \
        2>"$WORK/said" | awk '$2 == "id" { print $4 }') || true
    matches "glance: image-create --file" '^[0-9a-f-]{36}$' "$id"
    [ -n "$id" ] || return 0
    matches "glance: image-list" "$id" "$(glance_client image-list 2>&1)"
    matches "glance: image-show" 'active' "$(glance_client image-show "$id" 2>&1)"
    check "glance: image-update" glance_client image-update --property a=b --min-disk 2 "$id"
    check "glance: image-tag-update" glance_client image-tag-update "$id" tagged
    check "glance: image-tag-delete" glance_client image-tag-delete "$id" tagged
    check "glance: image-deactivate" glance_client image-deactivate "$id"
    check "glance: image-reactivate" glance_client image-reactivate "$id"
    check "glance: image-download, hash verified by the client" glance_client image-download --file "$WORK/saved" "$id"
    check "glance: the bytes are the same" cmp "$file" "$WORK/saved"
    rm -f "$WORK/saved"
    check "glance: image-delete" glance_client image-delete "$id"
}

check_sdk() {
    check "openstacksdk: create, read, change, tag, page, download, delete" \
        python "$HERE/checks/sdk.py" "$DISKS/disk.vmdk"
}

# range_is NAME RANGE SKIP COUNT: bytes of a Range answer against dd's.
range_is() {
    local code
    code=$(status_of -H "Range: bytes=$2" "$URL/v2/images/$RANGE_ID/file")
    same "curl: Range $1 answers 206" 206 "$code"
    check "curl: Range $1 has the right bytes" cmp "$WORK/body" \
        <(tail -c "+$(($3 + 1))" "$WORK/range.bin" | head -c "$4")
}

check_curl() {
    local code size=3000001
    head -c "$size" /dev/urandom >"$WORK/range.bin"
    RANGE_ID=$(new_image lab-curl)
    same "curl: PUT file" 204 "$(put_file "$RANGE_ID" "$WORK/range.bin")"
    range_is 'first byte' 0-0 0 1
    range_is 'middle' 65530-2000000 65530 1934471
    range_is 'from the middle to the end' 2999999- 2999999 2
    range_is 'suffix' -1000 $((size - 1000)) 1000
    same "curl: a range outside is 416" 416 "$(status_of -H "Range: bytes=$size-" "$URL/v2/images/$RANGE_ID/file")"
    same "curl: a second upload is refused" 409 "$(put_file "$RANGE_ID" "$WORK/range.bin")"
    code=$(status_of -X PATCH -H 'Content-Type: application/openstack-images-v2.1-json-patch' \
        -d '[{"op":"replace","path":"/name","value":"lab-renamed"},{"op":"add","path":"/colour","value":"blue"}]' \
        "$URL/v2/images/$RANGE_ID")
    same "curl: PATCH" '200 lab-renamed blue' "$code $(jq -r '"\(.name) \(.colour)"' "$WORK/body")"
    same "curl: deactivate" 204 "$(status_of -X POST "$URL/v2/images/$RANGE_ID/actions/deactivate")"
    same "curl: its status says so" deactivated "$(field "$RANGE_ID" status)"
    same "curl: reactivate" 204 "$(status_of -X POST "$URL/v2/images/$RANGE_ID/actions/reactivate")"
    same "curl: DELETE" 204 "$(status_of -X DELETE "$URL/v2/images/$RANGE_ID")"
    same "curl: and its file is gone" 404 "$(status_of "$URL/v2/images/$RANGE_ID/file")"
    same "curl: /healthcheck" '200 OK' "$(status_of "$URL/healthcheck") $(cat "$WORK/body")"
}

# Bad uploads: whatever the client does, the image can be uploaded again and nothing is left over.
check_bad_uploads() {
    local id slow code
    head -c 20000000 /dev/urandom >"$WORK/some.bin"
    id=$(new_image lab-bad)
    timeout 2 curl -s -T "$WORK/some.bin" --limit-rate 1M -H 'Content-Type: application/octet-stream' \
        "$URL/v2/images/$id/file" >/dev/null 2>&1 || true
    check "a client that hangs up leaves the image queued" becomes "$id" queued
    python "$HERE/checks/short_body.py" "$URL" "$id" >"$WORK/said" 2>&1 || true
    check "a body shorter than its length leaves the image queued" becomes "$id" queued
    curl -s -o /dev/null -T "$WORK/some.bin" --limit-rate 5M -H 'Content-Type: application/octet-stream' \
        "$URL/v2/images/$id/file" &
    slow=$!
    check "an upload under way shows as saving" becomes "$id" saving 5
    code=$(put_file "$id" "$WORK/some.bin")
    same "a second upload at the same time is refused" 409 "$code"
    check "the first one ends well" wait "$slow"
    check "and its bytes are the ones kept" cmp "$WORK/some.bin" <(curl -sf "$URL/v2/images/$id/file")
    same "clean up" 204 "$(status_of -X DELETE "$URL/v2/images/$id")"
    check "reclaim: bytes of broken uploads come back" packs_shrink_to "$DATA" 16
}
