//! A Peerglass node: settings, wiring, start and stop.
//!
//! [`assemble`] is the only place where the parts are put together. The program calls it with what
//! this machine provides, a simulation calls it with what its world provides; what runs in between
//! is the same code.

mod assemble;
mod attendance;
mod cache;
pub mod cli;
mod client;
pub mod cluster;
pub mod config;
mod discovery;
mod homes;
pub mod images;
mod keeping;
mod lock;
mod maintenance;
mod peers;
pub mod program;
mod scrub;
mod sign_in;
pub mod stop;
mod surroundings;
pub mod telemetry;

pub use assemble::{Node, NodeFailure, StartError, assemble};
pub use config::Settings;
pub use discovery::{BrowseError, Circle, Discovery, Finding, Introduction, Neighbourhood, News};
pub use lock::{DataDirLock, LockError};
pub use peers::{
    DialError, JoinError, Joined, KeyError, NodeKey, PeerPort, PortChance, PortError, Purpose, Search, join,
};
pub use sign_in::{UsersError, check_users};
pub use surroundings::{ApiPort, Disk, MachineError, Surroundings};
