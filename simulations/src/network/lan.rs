//! How nodes find each other in a simulated network, at the level of meaning: a peer is seen, is gone, tells news.
//!
//! What mDNS and gossip do on a machine is here a list of who is up and where. Each node looks at it now and
//! then, and sees whom it could hear. Besides that it is told lies, as anybody on a LAN may.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use peerglass::{Circle, Discovery, Finding, Introduction, News};
use peerglass_catalog::PeerKey;
use peerglass_catalog::keyspace::BoxFuture;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::links::Way;
use crate::chronicle::Chronicle;
use crate::dice::Dice;

/// Shortest and longest pause between two looks, in milliseconds.
const LOOK_MS: (u64, u64) = (200, 900);
/// How often a look comes with a lie, in 1,000.
const LIES: u64 = 100;

/// Who is up, and where. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Lan(Arc<Mutex<Shared>>);

#[derive(Default)]
struct Shared {
    present: BTreeMap<PeerKey, Present>,
    cut: BTreeSet<Way>,
}

/// One node that is up.
struct Present {
    node: usize,
    me: Introduction,
    news: News,
}

/// One life of one node, looking around.
struct Lookabout {
    lan: Lan,
    node: usize,
    key: PeerKey,
    dice: Dice,
    chronicle: Chronicle,
}

impl Lan {
    fn locked(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on nobody is heard over these ways.
    pub(crate) fn cut(&self, cut: BTreeSet<Way>) {
        self.locked().cut = cut;
    }

    /// The discovery of one life of `node`.
    pub(crate) fn discovery(
        &self,
        node: usize,
        key: PeerKey,
        dice: Dice,
        chronicle: Chronicle,
    ) -> Box<dyn Discovery> {
        Box::new(Lookabout { lan: self.clone(), node, key, dice, chronicle })
    }
}

/// Takes its node off the list, however its life ends.
struct Entered(Lan, PeerKey);

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.locked().present.remove(&self.1);
    }
}

impl Discovery for Lookabout {
    fn run(
        mut self: Box<Self>,
        me: Introduction,
        circle: watch::Receiver<Circle>,
        found: mpsc::Sender<Finding>,
    ) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let _entered = Entered(self.lan.clone(), self.key);
            let mut seen = BTreeSet::new();
            loop {
                sleep(Duration::from_millis(self.dice.between(LOOK_MS.0, LOOK_MS.1))).await;
                let circle = circle.borrow().clone();
                let present = Present { node: self.node, me: me.clone(), news: circle.news.clone() };
                self.lan.locked().present.insert(self.key, present);
                for finding in self.look(&me, &circle, &mut seen) {
                    // A node that is too busy to hear of it hears of it the next time.
                    let _ = found.try_send(finding);
                }
            }
        })
    }
}

impl Lookabout {
    fn look(&mut self, me: &Introduction, circle: &Circle, seen: &mut BTreeSet<PeerKey>) -> Vec<Finding> {
        let mut findings = Vec::new();
        let heard = self.heard(me);
        for (&key, (address, news)) in &heard {
            if circle.members.get(&key).is_some_and(|known| known != address) {
                self.chronicle.count("discovery: member seen at another address");
            }
            findings.push(Finding::Seen { key, address: address.clone() });
            if circle.members.contains_key(&key) {
                findings.push(Finding::News { key, news: news.clone() });
            }
        }
        for &key in seen.iter().filter(|key| !heard.contains_key(key)) {
            self.chronicle.count("discovery: peer gone");
            findings.push(Finding::Gone { key });
        }
        *seen = heard.keys().copied().collect();
        if self.dice.chance(LIES)
            && let Some(lie) = self.lie(circle)
        {
            self.chronicle.count("discovery: peer seen where it is not");
            findings.push(lie);
        }
        findings
    }

    /// Where those are that can be heard here, and what they tell.
    fn heard(&self, me: &Introduction) -> BTreeMap<PeerKey, (String, News)> {
        let shared = self.lan.locked();
        let audible = shared.present.iter().filter(|(key, other)| {
            **key != self.key
                && other.me.cluster == me.cluster
                && !shared.cut.contains(&(other.node, self.node))
        });
        audible.map(|(key, other)| (*key, (other.me.address.clone(), other.news.clone()))).collect()
    }

    /// One member is said to be where another one is.
    fn lie(&mut self, circle: &Circle) -> Option<Finding> {
        let members: Vec<_> = circle.members.iter().collect();
        if members.len() < 2 {
            return None;
        }
        let (&key, _) = members[self.dice.index(members.len())];
        let address = members[self.dice.index(members.len())].1.clone();
        if self.dice.chance(500) {
            return Some(Finding::Seen { key, address });
        }
        let news = News { members_at: self.dice.magnitude(40), leader: None, address };
        Some(Finding::News { key, news })
    }
}
