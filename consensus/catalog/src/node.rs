//! The nodes of the cluster: who they are, where they are, what they may do.
//!
//! A node has a **key**, which is its identity towards other nodes and outlives its disk, and an
//! **id**, which names one Raft log and dies with the disk that held it. A node that comes back with
//! an empty disk has its old key and a new id, so nobody mistakes it for the voter it was.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::image::{NodeId, Timestamp};

/// Longest address, site or rack believed, in bytes.
pub const NODE_TEXT_BYTES_MAX: usize = 255;

/// What libp2p puts before an Ed25519 key to make a peer id of it: an identity multihash of 36 bytes
/// that hold the protobuf message `{ type: Ed25519, data: 32 bytes }`
/// (libp2p specification, `peer-ids/peer-ids.md`).
const PEER_ID_HEAD: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

/// A node's Ed25519 public key. Written as libp2p writes peer ids: `12D3KooW…`.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PeerKey(pub [u8; 32]);

/// Text that is no peer id of an Ed25519 key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a peer id of an Ed25519 key (12D3KooW…)")]
pub struct InvalidPeerKey;

impl fmt::Display for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [&PEER_ID_HEAD[..], &self.0].concat();
        f.write_str(&bs58::encode(bytes).into_string())
    }
}

impl fmt::Debug for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PeerKey {
    type Err = InvalidPeerKey;

    fn from_str(text: &str) -> Result<Self, InvalidPeerKey> {
        let mut bytes = [0; 38];
        if bs58::decode(text).onto(&mut bytes) != Ok(bytes.len()) || bytes[..6] != PEER_ID_HEAD {
            return Err(InvalidPeerKey);
        }
        let mut key = [0; 32];
        key.copy_from_slice(&bytes[6..]);
        Ok(Self(key))
    }
}

/// What a node may become in the Raft cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeRole {
    /// It may vote; whether it does is up to how many voters are wanted.
    #[default]
    Voter,
    /// It follows and never votes, as a node at an edge site does.
    Learner,
}

impl NodeRole {
    /// Its name on the command line and in documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::Voter => "voter",
            Self::Learner => "learner",
        }
    }
}

impl fmt::Display for NodeRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for NodeRole {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "voter" => Ok(Self::Voter),
            "learner" => Ok(Self::Learner),
            _ => Err("a role is voter or learner".to_owned()),
        }
    }
}

/// One node, as every other node knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeEntry {
    /// Who it is.
    pub key: PeerKey,
    /// Where others reach its peer port: `host:port`. Empty for a node that talks to nobody.
    pub address: String,
    /// The site it is in; empty if there is one site only.
    pub site: String,
    /// The rack within the site; empty if that does not matter.
    pub rack: String,
    /// What it may become.
    pub role: NodeRole,
}

/// What a join token allows. Only a hash of its secret is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinGrant {
    /// The role the new node gets.
    pub role: NodeRole,
    /// The site it is in.
    pub site: String,
    /// The rack it is in.
    pub rack: String,
    /// Until when the token may be used.
    pub expires_at: Timestamp,
}

/// A token that was issued, and who used it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinToken {
    /// What it allows.
    pub grant: JoinGrant,
    /// Who used it, with which id. The same node may ask again, in case the answer was lost.
    pub used_by: Option<(PeerKey, NodeId)>,
}

/// The name a token is kept under: BLAKE3 of its secret.
pub type TokenDigest = Digest;

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples every libp2p implementation agrees on begin like this, because the head does.
    #[test]
    fn a_key_is_written_as_a_libp2p_peer_id_and_read_back() {
        let key = PeerKey(std::array::from_fn(|at| u8::try_from(at).unwrap()));
        let text = key.to_string();
        assert!(text.starts_with("12D3KooW") && text.len() == 52, "{text}");
        assert_eq!(text.parse(), Ok(key));
        for wrong in ["", "12D3KooW", "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N", &format!("{text}1")] {
            assert_eq!(wrong.parse::<PeerKey>(), Err(InvalidPeerKey), "{wrong}");
        }
    }
}
