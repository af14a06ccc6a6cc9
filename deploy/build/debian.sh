#!/usr/bin/env bash
# Install the Debian packages a target needs, if they are missing.
#
#   debian.sh SET...      SET is one of: build check clients disk lab chaos bench swarm
#
# What is present already, from whatever source, is left alone; so this costs nothing on the second run.
# Uses sudo when not root. On a system without apt it says what is missing and stops.
set -euo pipefail

# package:command that proves it is there (or a function of this file, for what is not a command)
packages_of() {
    case $1 in
        build)   echo gcc:gcc g++:g++ make:make libclang-dev:has_libclang ca-certificates:has_certificates ;;
        check)   echo python3:python3 ;;
        clients) echo python3:python3 python3-venv:has_venv ;;
        disk)    echo mmdebstrap:mmdebstrap qemu-utils:qemu-img e2fsprogs:mke2fs fdisk:sfdisk fakeroot:fakeroot ;;
        lab)     echo curl:curl jq:jq apache2-utils:htpasswd python3:python3 util-linux:flock ;;
        chaos)   echo iproute2:ip nftables:nft util-linux:nsenter util-linux:setpriv mount:mount python3:python3 ;;
        bench)   echo nginx-light:nginx wrk:wrk b3sum:b3sum openssl:openssl curl:curl python3:python3 etcd-server:etcd ;;
        swarm)   echo python3-libtorrent:has_libtorrent curl:curl iproute2:tc e2fsprogs:mkfs.ext4 ;;
        *)       echo "debian.sh: no such set: $1" >&2; exit 2 ;;
    esac
}

# bindgen loads the C interface, libclang.so*. libclang-cpp.so* has a like name and does not serve.
has_libclang() {
    local found
    [ -z "${LIBCLANG_PATH:-}" ] || return 0
    for found in /usr/lib/llvm-*/lib/libclang*.so* /usr/lib*/libclang*.so* /usr/lib/*/libclang*.so*; do
        case ${found##*/} in libclang-cpp*) ;; *) [ ! -e "$found" ] || return 0 ;; esac
    done
    return 1
}
has_venv() { python3 -c 'import venv, ensurepip' 2>/dev/null || /usr/bin/python3 -c 'import venv, ensurepip' 2>/dev/null; }
has_libtorrent() { /usr/bin/python3 -c 'import libtorrent' 2>/dev/null; }
has_certificates() { [ -d /etc/ssl/certs ]; }

[ $# -gt 0 ] || { sed -n '2,/^set -euo/{/^set -euo/d;s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2; exit 2; }

# Debian keeps nginx, mke2fs and sfdisk where only root looks.
PATH=$PATH:/usr/sbin:/sbin
missing=()
for set in "$@"; do
    listed=$(packages_of "$set")
    for pair in $listed; do
        type "${pair#*:}" >/dev/null 2>&1 || { missing+=("${pair%%:*}"); continue; }
        case ${pair#*:} in has_*) "${pair#*:}" || missing+=("${pair%%:*}") ;; esac
    done
done
[ ${#missing[@]} -gt 0 ] || exit 0

if ! command -v apt-get >/dev/null; then
    echo "peerglass: this needs packages that are not here, and there is no apt-get to install them: ${missing[*]}" >&2
    exit 1
fi
as_root=()
if [ "$(id -u)" != 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "peerglass: this needs Debian packages. As root, run: apt-get install ${missing[*]}" >&2
        exit 1
    fi
    as_root=(sudo)
fi
echo "peerglass: installing Debian packages: ${missing[*]}" >&2
# RUNLEVEL=1 keeps a package such as nginx or etcd from starting its service: only the program is wanted.
quietly=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
         apt-get -o DPkg::Lock::Timeout=600 -o Acquire::Retries=3 -o Dpkg::Use-Pty=0 -qq)
"${quietly[@]}" update </dev/null >/dev/null ||
    echo "peerglass: apt-get update failed; trying with the lists that are here" >&2
if ! "${quietly[@]}" install -y --no-install-recommends "${missing[@]}" </dev/null >/dev/null; then
    echo "peerglass: apt-get could not install: ${missing[*]}" >&2
    exit 1
fi
