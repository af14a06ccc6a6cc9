# Where builds and downloads are kept, and which Rust is used. Sourced by the other scripts, not run.
#
# PEERGLASS_CACHE    everything that is dear to make again: RocksDB, clients, test disks, cargo's target
#                    directory. Default: $XDG_CACHE_HOME/peerglass, else ~/.cache/peerglass. Outside the
#                    clone on purpose: a fresh clone must not compile RocksDB again.
# CARGO_TARGET_DIR   respected when set, else $PEERGLASS_CACHE/target.
# shellcheck shell=bash

REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
PEERGLASS_CACHE=${PEERGLASS_CACHE:-${XDG_CACHE_HOME:-${HOME:?HOME is not set}/.cache}/peerglass}
export REPO PEERGLASS_CACHE
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PEERGLASS_CACHE/target}
mkdir -p "$PEERGLASS_CACHE"

# Make `cargo` work here: with an empty HOME, rustup does not see the toolchains of the account (they are
# where the account's own home directory is), and a rustup of its own may lack the one this clone pins.
find_rust() {
    local home
    home=$(getent passwd "$(id -u)" | cut -d: -f6)
    if ! command -v cargo >/dev/null && [ -x "$home/.cargo/bin/cargo" ]; then
        PATH=$home/.cargo/bin:$PATH
        export PATH
    fi
    if ! command -v cargo >/dev/null; then
        echo "peerglass: Rust is not installed: 'cargo' is not on PATH (rust-toolchain.toml has the version)" >&2
        return 1
    fi
    rust_works && return 0
    if [ -z "${RUSTUP_HOME:-}" ] && [ -d "$home/.rustup/toolchains" ]; then
        export RUSTUP_HOME=$home/.rustup
        rust_works && return 0
    fi
    if command -v rustup >/dev/null; then
        echo "peerglass: installing the toolchain that rust-toolchain.toml names" >&2
        (cd "$REPO" && rustup toolchain install >&2 </dev/null) && rust_works && return 0
    fi
    echo "peerglass: 'cargo --version' fails in $REPO" >&2
    return 1
}

rust_works() { (cd "$REPO" && cargo --version) >/dev/null 2>&1; }
