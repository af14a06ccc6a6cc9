//! Where a node that joins tries to reach the members that its token names.
//!
//! First what the LAN shows, as soon as it shows it; then the addresses of the token and of the bootstrap
//! list. Bounded by time and by the numbers of keys and addresses. Wherever a candidate is, the other end has
//! to prove one of the token's keys before it is told the secret.

use std::collections::VecDeque;
use std::time::Duration;

use peerglass_catalog::{JoinTicket, NodeEntry};
use tokio::time::{Instant, timeout_at};

use super::join::Search;
use super::key::NodeKey;
use crate::config::Settings;
use crate::discovery::{BrowseError, Browser};

/// How long the LAN is watched. A node answers within a second, and a lost packet is asked for again after
/// half a second, one second, two seconds.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(10);

/// Members to try, and what came of those that were tried.
pub(super) struct Candidates {
    contacts: Vec<NodeEntry>,
    named: VecDeque<NodeEntry>,
    browser: Option<Browser>,
    until: Instant,
    problems: Vec<String>,
}

impl Candidates {
    pub(super) fn new(
        ticket: &JoinTicket,
        settings: &Settings,
        search: Search,
        key: &NodeKey,
    ) -> Result<Self, BrowseError> {
        let contacts = ticket.contacts.clone();
        let mut named: VecDeque<NodeEntry> = contacts.clone().into();
        for address in &settings.discovery.bootstrap {
            // Nobody knows which of them is there.
            let there = contacts.iter().filter(|contact| contact.address != *address);
            named.extend(there.map(|contact| NodeEntry { address: address.clone(), ..contact.clone() }));
        }
        let browser = match search {
            Search::Named => None,
            Search::Lan => Some(Browser::new(key, contacts.iter().map(|contact| contact.key))?),
        };
        let until = Instant::now() + SEARCH_TIMEOUT;
        Ok(Self { contacts, named, browser, until, problems: Vec::new() })
    }

    /// The next one to try; `None` when there is nobody left.
    pub(super) async fn next(&mut self) -> Option<NodeEntry> {
        loop {
            // Whoever is on the LAN goes first, if it is known by now.
            let until = if self.named.is_empty() { self.until } else { Instant::now() };
            let found = match &mut self.browser {
                Some(browser) => timeout_at(until, browser.next()).await.ok(),
                None => None,
            };
            let Some((key, address)) = found else { return self.named.pop_front() };
            let contact = self.contacts.iter().find(|contact| contact.key == key).cloned();
            let address = address.to_string();
            if let Some(contact) = contact {
                self.named.retain(|named| named.key != key || named.address != address);
                return Some(NodeEntry { address, ..contact });
            }
        }
    }

    pub(super) fn failed(&mut self, contact: &NodeEntry, why: &str) {
        self.problems.push(format!("{}: {why}", contact.address));
    }

    /// What was tried, for people.
    pub(super) fn tried(self) -> String {
        let mut tried = self.problems;
        if let Some(browser) = &self.browser {
            let others = browser.strangers();
            let keys: Vec<String> = self.contacts.iter().map(|contact| contact.key.to_string()).collect();
            tried.push(format!(
                "within {} s mDNS on this LAN showed nobody else of the token's {} node(s) ({}), and {others} \
                 announcement(s) of others; is UDP port 5353 open for multicast on both sides?",
                SEARCH_TIMEOUT.as_secs(),
                keys.len(),
                keys.join(", ")
            ));
        }
        tried.join("; ")
    }
}
