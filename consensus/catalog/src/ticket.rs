//! A join token as text: what an operator carries from a member to a new node.
//!
//! ```text
//! pgjoin1.  base58( postcard(JoinTicket) blake3[..4] )
//! ```
//!
//! It names the members to turn to by key, so that the new node gives its secret to nobody else.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::node::{NODE_TEXT_BYTES_MAX, NodeEntry, TokenDigest};

const PREFIX: &str = "pgjoin1.";

/// Longest text believed, in characters.
const TEXT_MAX: usize = 8_192;

/// Members a ticket names at most.
pub const CONTACTS_MAX: usize = 5;

/// A join token with everything a new node needs to use it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinTicket {
    /// Whoever knows it may join once.
    pub secret: [u8; 32],
    /// Members to turn to.
    pub contacts: Vec<NodeEntry>,
}

/// Text that is no join token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTicket {
    /// It does not begin like one, or has other characters.
    #[error("this is not a join token ({PREFIX}…)")]
    NotOne,
    /// A part is missing or changed.
    #[error("the join token is damaged; copy it whole")]
    Damaged,
}

impl JoinTicket {
    /// What the catalog knows the token by.
    pub fn digest(&self) -> TokenDigest {
        Digest::of(&self.secret)
    }
}

/// The secret is left out: this ends up in logs.
impl fmt::Debug for JoinTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinTicket").field("contacts", &self.contacts).finish_non_exhaustive()
    }
}

impl fmt::Display for JoinTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = postcard::to_stdvec(self).map_err(|_| fmt::Error)?;
        let check = Digest::of(&bytes);
        bytes.extend_from_slice(&check.0[..4]);
        write!(f, "{PREFIX}{}", bs58::encode(bytes).into_string())
    }
}

impl FromStr for JoinTicket {
    type Err = InvalidTicket;

    fn from_str(text: &str) -> Result<Self, InvalidTicket> {
        let text = text.trim();
        if text.len() > TEXT_MAX {
            return Err(InvalidTicket::NotOne);
        }
        let body = text.strip_prefix(PREFIX).ok_or(InvalidTicket::NotOne)?;
        let bytes = bs58::decode(body).into_vec().map_err(|_| InvalidTicket::NotOne)?;
        let (bytes, check) = bytes.split_last_chunk::<4>().ok_or(InvalidTicket::Damaged)?;
        if Digest::of(bytes).0[..4] != *check {
            return Err(InvalidTicket::Damaged);
        }
        let ticket: Self = postcard::from_bytes(bytes).map_err(|_| InvalidTicket::Damaged)?;
        let fits = |entry: &NodeEntry| entry.address.len() <= NODE_TEXT_BYTES_MAX;
        if ticket.contacts.len() > CONTACTS_MAX || !ticket.contacts.iter().all(fits) {
            return Err(InvalidTicket::Damaged);
        }
        Ok(ticket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_read_back_and_a_changed_one_is_not() {
        let contact = NodeEntry { address: "10.0.0.1:9293".to_owned(), ..NodeEntry::default() };
        let ticket = JoinTicket { secret: [7; 32], contacts: vec![contact] };
        let text = ticket.to_string();
        assert_eq!(text.parse(), Ok(ticket));
        assert_eq!(text[..text.len() - 1].parse::<JoinTicket>(), Err(InvalidTicket::Damaged));
        assert_eq!("".parse::<JoinTicket>(), Err(InvalidTicket::NotOne));
        assert_eq!("pgjoin1.".parse::<JoinTicket>(), Err(InvalidTicket::Damaged));
        assert_eq!("pgjoin1.0OIl".parse::<JoinTicket>(), Err(InvalidTicket::NotOne));
        assert!(!format!("{:?}", text.parse::<JoinTicket>()).contains("7, 7"), "no secret in logs");
    }
}
