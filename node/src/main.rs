//! Starts a Peerglass node.

use std::process::ExitCode;

/// A request allocates hundreds of small things, and so does each of its rows in RocksDB, which this serves as well.
/// Without huge pages: with them, uploads hold twice the memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    peerglass::program::main(|_| {})
}
