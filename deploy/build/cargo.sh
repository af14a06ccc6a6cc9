#!/usr/bin/env bash
# cargo, after everything this workspace needs from the machine has been put in place.
#
#   cargo.sh ARG...       as cargo ARG..., with the compiler packages installed, the RocksDB archive built
#                         and the target directory in the cache
#   cargo.sh --binary     build the release binary and print its path
#
# RUSTFLAGS is not touched, and must not be set: it would replace the flags of .cargo/config.toml.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=deploy/build/paths.sh
source "$HERE/paths.sh"

if [ -n "${RUSTFLAGS:-}" ]; then
    echo "peerglass: RUSTFLAGS is set; cargo would ignore .cargo/config.toml. Unset it." >&2
    exit 1
fi
"$HERE/debian.sh" build
find_rust
exports=$("$HERE/rocksdb.sh")
eval "$exports"
export RUSTC_WORKSPACE_WRAPPER=${RUSTC_WORKSPACE_WRAPPER:-$HERE/rustc.sh}
cd "$REPO"
if [ "${1:-}" = --binary ]; then
    cargo build --release ${CI:+--locked} -p peerglass --bin peerglass >&2
    echo "$CARGO_TARGET_DIR/release/peerglass"
else
    exec cargo "$@"
fi
