# The whole life of a real disk in three formats, through `openstack`. Sourced by real.sh.
# shellcheck shell=bash

disk_loop() {
    local format=$1 file=$DISKS/disk.$1 id shown
    id=$(openstack image create --disk-format "$format" --container-format bare --file "$file" \
        --property os_distro=debian --tag lab -f value -c id "disk-$format" 2>"$WORK/said") || true
    matches "openstack: image create --file disk.$format" '^[0-9a-f-]{36}$' "$id"
    [ -n "$id" ] || return 0
    shown=$(openstack image show -f json "$id" 2>"$WORK/said") || true
    same "$format: is active" active "$(jq -r .status <<<"$shown")"
    same "$format: size" "$(stat -c %s "$file")" "$(jq -r .size <<<"$shown")"
    same "$format: checksum is the MD5" "$(md5sum <"$file" | cut -d' ' -f1)" "$(jq -r .checksum <<<"$shown")"
    same "$format: os_hash_value is the SHA-512" "$(sha512sum <"$file" | cut -d' ' -f1)" \
        "$(jq -r '.properties.os_hash_value // .os_hash_value' <<<"$shown")"
    same "$format: virtual_size is what qemu-img says" \
        "$(qemu-img info --output=json -f "$format" "$file" | jq '."virtual-size"')" "$(field "$id" virtual_size)"
    matches "$format: openstack image list shows it" "$id" "$(openstack image list -f value -c ID 2>&1)"
    check "$format: openstack image save" openstack image save --file "$WORK/saved" "$id"
    check "$format: saved bytes are the same" cmp "$file" "$WORK/saved"
    rm -f "$WORK/saved"
    check "$format: openstack image set" openstack image set --property hw_disk_bus=virtio --tag two --min-ram 64 "$id"
    shown=$(openstack image show -f json "$id" 2>"$WORK/said") || true
    same "$format: what was set is there" 'virtio 64 lab,two' \
        "$(jq -r '"\(.properties.hw_disk_bus) \(.min_ram) \(.tags | sort | join(","))"' <<<"$shown")"
    check "$format: openstack image unset" openstack image unset --property hw_disk_bus --tag two "$id"
    shown=$(openstack image show -f json "$id" 2>"$WORK/said") || true
    same "$format: what was unset is gone" 'null lab' \
        "$(jq -r '"\(.properties.hw_disk_bus) \(.tags | sort | join(","))"' <<<"$shown")"
}

restart_loop() {
    local before after id
    before=$(curl -sf "$URL/v2/images?sort=name:asc" | jq -c '[.images[] | del(.self, .file, .schema)]')
    check "restart: the node stops in order" stop_node
    check "restart: and starts again on its data" start_node "$DATA"
    export OS_ENDPOINT=$URL
    after=$(curl -sf "$URL/v2/images?sort=name:asc" | jq -c '[.images[] | del(.self, .file, .schema)]')
    same "restart: every record is as it was" "$before" "$after"
    crash_node
    check "kill -9: the node starts again on its data" start_node "$DATA"
    export OS_ENDPOINT=$URL
    after=$(curl -sf "$URL/v2/images?sort=name:asc" | jq -c '[.images[] | del(.self, .file, .schema)]')
    same "kill -9: every record is as it was" "$before" "$after"
    id=$(curl -sf "$URL/v2/images?name=disk-qcow2" | jq -r '.images[0].id')
    check "kill -9: openstack image save" openstack image save --file "$WORK/saved" "$id"
    check "kill -9: saved bytes are the same" cmp "$DISKS/disk.qcow2" "$WORK/saved"
    rm -f "$WORK/saved"
}

# The same bytes again must cost next to nothing; and deleting one copy must not hurt the other.
twin_loop() {
    local id before after
    before=$(du -sm "$DATA/packs" | cut -f1)
    id=$(new_image twin qcow2)
    same "dedup: the same disk once more" 204 "$(put_file "$id" "$DISKS/disk.qcow2")"
    after=$(du -sm "$DATA/packs" | cut -f1)
    check "dedup: it takes no second place ($before MiB, then $after MiB)" test $((after - before)) -le 16
    check "dedup: openstack image delete of the first" openstack image delete disk-qcow2
    check "dedup: the twin downloads" curl -sf -o "$WORK/saved" "$URL/v2/images/$id/file"
    check "dedup: and is whole" cmp "$DISKS/disk.qcow2" "$WORK/saved"
    rm -f "$WORK/saved"
    check "dedup: openstack image delete of the twin" openstack image delete "$id"
    refused "a deleted image is gone" openstack image show "$id"
}

check_loop() {
    local format
    for format in raw qcow2 vmdk; do disk_loop "$format"; done
    restart_loop
    twin_loop
    check "openstack image delete of the others" openstack image delete disk-raw disk-vmdk
    same "nothing is listed any more" '' "$(openstack image list -f value -c ID 2>&1)"
    check "reclaim: the space of deleted images comes back" packs_shrink_to "$DATA" 16
}
