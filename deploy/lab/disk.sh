#!/usr/bin/env bash
# A real, bootable-style disk in three formats, kept in the cache.
#
#   disk.sh         build it if it is not there; print the folder with disk.raw, disk.qcow2 and disk.vmdk
#
# The content is a Debian system from the distribution's own packages (kernel, init, Python, an SSH
# server: at least 300 MiB), in an ext4 file system behind a DOS partition table. No mount is needed.
# Packages come from where this machine's apt gets them.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=deploy/build/paths.sh
source "$HERE/../build/paths.sh"

RELEASE=$(. /etc/os-release && [ "$ID" = debian ] && echo "$VERSION_CODENAME" || echo bookworm)
PACKAGES=linux-image-cloud-$(dpkg --print-architecture),systemd-sysv,python3-minimal,openssh-server
PACKAGES+=,iproute2,ca-certificates,curl
CONTENT_MIB_MIN=300
DISK_MIB=1024
PARTITION_START_MIB=1
DIR=$PEERGLASS_CACHE/disk/$RELEASE-2
PATH=$PATH:/usr/sbin:/sbin

say() { printf 'disk: %s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

# The sources this machine's apt uses for Debian itself, so that a local mirror is used where there is one.
apt_sources() {
    local file
    for file in /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list; do
        if [ -s "$file" ] && grep -Eq "^(Suites:|deb ).*\<$RELEASE\>" "$file"; then
            echo "$file"
            return
        fi
    done
}

file_system() {
    local work=$1 tree_mib
    mkdir "$work/tree"
    tar -xf "$work/rootfs.tar" -C "$work/tree" --exclude='./dev/*'
    tree_mib=$(du -sm --apparent-size "$work/tree" | cut -f1)
    [ "$tree_mib" -ge "$CONTENT_MIB_MIN" ] || die "only $tree_mib MiB of content, $CONTENT_MIB_MIN wanted"
    say "$tree_mib MiB of content"
    mke2fs -q -t ext4 -L root -d "$work/tree" -E "offset=$((PARTITION_START_MIB << 20)),root_owner=0:0" \
        "$work/disk.raw" "$((DISK_MIB - PARTITION_START_MIB))M"
}

build() {
    local work sources
    work=$(mktemp -d "$PEERGLASS_CACHE/disk/build.XXXXXX")
    # shellcheck disable=SC2064  # the path is fixed here, on purpose
    trap "rm -rf '$work'" EXIT
    say "building a Debian $RELEASE disk (a few minutes, once)"
    sources=$(apt_sources)
    # shellcheck disable=SC2086  # no sources file means no argument
    mmdebstrap --quiet --variant=minbase --include="$PACKAGES" "$RELEASE" "$work/rootfs.tar" $sources </dev/null >&2
    truncate -s "${DISK_MIB}M" "$work/disk.raw"
    sfdisk --quiet "$work/disk.raw" <<<"label: dos
start=${PARTITION_START_MIB}MiB, type=83, bootable" >&2
    if [ "$(id -u)" = 0 ]; then
        file_system "$work"
    else
        # Files of the system belong to its own users; fakeroot remembers that from tar to mke2fs.
        export -f file_system say die
        export DISK_MIB PARTITION_START_MIB CONTENT_MIB_MIN
        fakeroot bash -euo pipefail -c "file_system '$work'"
    fi
    qemu-img convert -f raw -O qcow2 "$work/disk.raw" "$work/disk.qcow2"
    qemu-img convert -f raw -O vmdk -o subformat=streamOptimized "$work/disk.raw" "$work/disk.vmdk"
    rm -rf "$work/tree" "$work/rootfs.tar"
    chmod 755 "$work"
    # A rename is the last step: a folder with this name is always complete.
    mv "$work" "$DIR"
}

"$HERE/../build/debian.sh" disk
mkdir -p "$PEERGLASS_CACHE/disk"
exec 8>"$PEERGLASS_CACHE/disk/lock"
flock -w 1800 8 || die "another build holds the lock for half an hour"
[ -f "$DIR/disk.vmdk" ] || build 8>&-
echo "$DIR"
