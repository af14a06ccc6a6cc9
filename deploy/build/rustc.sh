#!/usr/bin/env bash
# rustc, unchanged. Cargo keeps what a workspace wrapper compiles apart by the wrapper's path, and this
# path is the clone's: without it two clones that share a target directory take each other's crates.
exec "$@"
