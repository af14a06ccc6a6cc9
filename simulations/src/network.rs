//! The simulated network: TCP between clients and nodes, UDP between nodes, and what goes wrong on
//! the way.

mod lan;
pub(crate) mod links;
mod socket;
pub(crate) mod tls;
mod weather;
mod wire;

pub(crate) use lan::Lan;
pub(crate) use links::Links;
pub(crate) use socket::SimSocket;
pub(crate) use weather::{Conditions, Weather};
pub(crate) use wire::{Answer, Crashes, RequestBody, SimListener, Wire};

/// The host on which all clients live.
pub(crate) const CLIENTS: &str = "clients";
/// The host on which a cluster's operator forms it.
pub(crate) const FOUNDERS: &str = "founders";
/// The port of a node's API.
pub(crate) const API_PORT: u16 = 9292;
/// The port on which nodes talk to each other, until they move.
pub(crate) const PEER_PORT: u16 = 9293;

/// The name of a node in the simulated network.
pub(crate) fn host(node: usize) -> String {
    format!("node{node}")
}
