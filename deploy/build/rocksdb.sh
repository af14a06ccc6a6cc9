#!/usr/bin/env bash
# The RocksDB archive that peerglass links, built once and kept outside the clone.
#
#   eval "$(rocksdb.sh)"      builds the archive when it is not in the cache (about 10 minutes on 2 cores,
#                             with progress on stderr), then prints two exports for cargo
#   rocksdb.sh key            print the name of the cache folder this clone needs
#
# Without this, every new target directory compiles RocksDB's 340 C++ files again. The folder's name holds
# what the archive depends on: the crates' versions, the features, the C++ compiler and the processor's
# instructions it may use. Two runs at once build it once. A ROCKSDB_LIB_DIR that is set already is used as it is.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=deploy/build/paths.sh
source "$HERE/paths.sh"

say() { printf 'rocksdb: %s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

locked_version() {
    awk -v name="$1" '$1 == "name" && $3 == "\"" name "\"" { getline; gsub(/"/, "", $3); print $3; exit }' \
        "$REPO/Cargo.lock"
}

[ -f "$REPO/Cargo.lock" ] || die "no Cargo.lock in $REPO: it is part of the repository"
CRATE=$(locked_version rocksdb)
SYS=$(locked_version librocksdb-sys)
FEATURES=$(sed -n 's/^rocksdb = .*features = \[\(.*\)\].*/\1/p' "$REPO/Cargo.toml")
if [ -z "$CRATE" ] || [ -z "$SYS" ] || [ -z "$FEATURES" ]; then
    die "cannot read the rocksdb version and features from Cargo.lock and Cargo.toml"
fi
CXX_NAME=${CXX:-c++}
MACHINE=$("$CXX_NAME" -dumpmachine)
# RocksDB chooses its checksum when it is compiled. Every x86-64 server since 2010 has these; without them
# each block and each record of a log is summed by table, several times slower.
case $MACHINE in
    x86_64-*) TARGET_FEATURES=+sse4.2,+pclmulqdq ;;
    *) TARGET_FEATURES='' ;;
esac
KEY="$CRATE-$SYS-$(tr -d '" ' <<<"$FEATURES" | tr , _)-$MACHINE-$("$CXX_NAME" -dumpfullversion -dumpversion)$(tr -d , <<<"$TARGET_FEATURES")"
DIR=$PEERGLASS_CACHE/rocksdb/$KEY

# Reports how far the compiler is, until the build it watches has ended. Ends by itself.
report() {
    local pid=$1 objects=$2 started=$SECONDS done_files
    for _ in $(seq 120); do
        sleep 30
        kill -0 "$pid" 2>/dev/null || return 0
        done_files=$(find "$objects" -name '*.o' -path '*librocksdb-sys*' 2>/dev/null | wc -l)
        say "compiling: $done_files of about 345 files, $(((SECONDS - started) / 60)) min so far"
    done
}

build() {
    local work=$PEERGLASS_CACHE/rocksdb/build-$$ log pid reporter archive
    log=$work/build.log
    # shellcheck disable=SC2064  # the path is fixed here, on purpose
    trap "rm -rf '$work'" EXIT
    mkdir -p "$work/src"
    say "RocksDB $SYS is not in the cache yet. Compiling it now: about 10 minutes on 2 cores, once on this machine."
    say "it goes to $DIR"
    printf 'fn main() {}\n' >"$work/src/main.rs"
    cat >"$work/Cargo.toml" <<TOML
[package]
name = "rocksdb-archive"
version = "0.0.0"
edition = "2024"
[dependencies]
rocksdb = { version = "=$CRATE", default-features = false, features = [$FEATURES] }
[workspace]
TOML
    # The clone's lock file and toolchain, so that the archive is made from what will link it.
    cp "$REPO/Cargo.lock" "$REPO/rust-toolchain.toml" "$work/"
    (cd "$work" && exec env -u ROCKSDB_STATIC RUSTFLAGS="${TARGET_FEATURES:+-C target-feature=$TARGET_FEATURES}" \
        cargo build --release --target-dir "$work/target") >"$log" 2>&1 </dev/null &
    pid=$!
    report "$pid" "$work/target" >/dev/null &
    reporter=$!
    if ! wait "$pid"; then
        tail -n 40 "$log" >&2
        die "RocksDB did not compile; the end of the log is above"
    fi
    kill "$reporter" 2>/dev/null || true
    archive=$(find "$work/target/release/build" -path '*librocksdb-sys-*/out/librocksdb.a' | head -n 1)
    [ -n "$archive" ] || die "the build left no librocksdb.a"
    mkdir -p "$work/finished"
    cp "$archive" "$work/finished/librocksdb.a"
    # A rename is the last step: a folder with this name is always complete.
    mv "$work/finished" "$DIR"
    say "built and kept in $DIR"
}

if [ "${1:-}" = key ]; then
    echo "$KEY"
    exit 0
fi
if [ -n "${ROCKSDB_LIB_DIR:-}" ]; then
    DIR=$ROCKSDB_LIB_DIR
elif [ ! -f "$DIR/librocksdb.a" ]; then
    find_rust
    mkdir -p "$PEERGLASS_CACHE/rocksdb"
    exec 9>"$PEERGLASS_CACHE/rocksdb/lock"
    if ! flock -n 9; then
        say "another run is building it; waiting (at most an hour)"
        flock -w 3600 9 || die "still locked after an hour: $PEERGLASS_CACHE/rocksdb/lock"
    fi
    [ -f "$DIR/librocksdb.a" ] || build 9>&-
fi
printf 'export ROCKSDB_LIB_DIR=%q ROCKSDB_STATIC=1\n' "$DIR"
