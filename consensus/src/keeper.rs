//! What a node does for its cluster without being asked.
//!
//! A member that starts shows itself to every voter: whoever saw more of its disk than is there has to
//! hear of it, and a follower or a learner would talk to its leader alone.
//!
//! Twice a second: a leader writes down what its followers have stored, and they what it has, so that one
//! that comes back with an older disk is noticed. A leader promotes nodes while fewer vote than are
//! wanted, finishes changes that were interrupted, and has everybody know where a node is that moved. A
//! node that no leader writes to asks the members it knows who else there is, in case the cluster went
//! on without it; at once when it hears that the list of members has changed.

use std::collections::BTreeSet;
use std::sync::Weak;
use std::time::Duration;

use futures::FutureExt;
use futures::future::join_all;
use openraft::ChangeMembers;
use openraft::async_runtime::watch::WatchReceiver;
use peerglass_catalog::{NodeEntry, NodeId};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::handle::{Consensus, ConsensusSettings, Inner};
use crate::membership::{self, Change, spread};
use crate::network::wire::{Answer, Request};

/// A node that no leader has written to for this long asks around. Raft itself keeps naming the last
/// leader it voted for, dead or removed.
const SILENCE_MAX: Duration = Duration::from_secs(2);
/// How often it looks.
const INTERVAL: Duration = Duration::from_millis(500);
/// How long one member may take to say who is in the cluster.
const ASK_TIMEOUT: Duration = Duration::from_secs(1);
/// Entries a node may lack and still count as caught up.
const READY_LAG_MAX: u64 = 64;
/// A node that was silent for longer is not made a voter.
const READY_SILENCE_MAX_MS: u64 = 1_500;

/// Look after the cluster until the node stops.
pub(crate) async fn keep(consensus: Weak<Inner>, settings: ConsensusSettings) {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(inner) = consensus.upgrade() else { return };
        let consensus = Consensus::of(inner);
        if consensus.is_leader() {
            remember_followers(&consensus);
            relocate(&consensus).await;
            finish_joint(&consensus).await;
            if settings.voters > 0 {
                spread_votes(&consensus, settings.voters).await;
            }
        } else if consensus.silence() > SILENCE_MAX
            || consensus.silence() > INTERVAL && consensus.heard_of_newer_members()
        {
            learn_members(&consensus).await;
        } else {
            consensus.forget_learned();
            remember_leader(&consensus).await;
        }
        say_where(&consensus, &settings.entry).await;
    }
}

/// Greet every other voter once, as soon as this node is a member.
pub(crate) async fn meet_voters(consensus: Weak<Inner>) {
    let mut met = BTreeSet::new();
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(inner) = consensus.upgrade() else { return };
        let consensus = Consensus::of(inner);
        if !consensus.is_member(consensus.node()) {
            continue;
        }
        let voters: BTreeSet<u64> = membership::effective(consensus.raft()).voter_ids().collect();
        let mut unmet = consensus.others();
        unmet.retain(|(node, _)| voters.contains(&node.0) && !met.contains(node));
        if unmet.is_empty() {
            return; // who votes later has not seen an earlier start of this node
        }
        let deadline = Instant::now() + ASK_TIMEOUT;
        // Greetings are what opens a connection; the question is only there to have one.
        let asks = unmet.iter().map(|(node, entry)| {
            let asked = consensus.links().ask((*node, entry), &Request::Members, deadline);
            asked.map(|answer| answer.is_ok().then_some(*node))
        });
        met.extend(join_all(asks).await.into_iter().flatten());
    }
}

/// Have everybody know where nodes are that moved, this one included, as when a node that was alone
/// opens a peer port.
async fn relocate(consensus: &Consensus) {
    let mut moved = std::mem::take(&mut *consensus.moved());
    let address = consensus.links().address.clone();
    if !address.is_empty() && consensus.member(consensus.node()).is_some_and(|me| me.address != address) {
        moved.insert(consensus.node(), address);
    }
    for (node, address) in moved {
        let change = Change::Move { node, address: address.clone() };
        match membership::carry_out(consensus.raft(), change).await {
            Ok(()) => tracing::info!(node = node.0, address, "a node has a new address"),
            // It is heard of again when it connects again; this node itself is looked at every time.
            Err(error) => {
                tracing::warn!(node = node.0, address, %error, "a node's new address is not known yet")
            }
        }
    }
}

/// A node of which nobody knows where it is says so: it was alone, or its token named no site. What is on record
/// stays.
async fn say_where(consensus: &Consensus, NodeEntry { site, rack, .. }: &NodeEntry) {
    let nowhere = |me: NodeEntry| me.site.is_empty() && me.rack.is_empty();
    let knows_none = site.is_empty() && rack.is_empty();
    // Whoever hears no leader has more to do than to wait for an answer.
    let hears = consensus.is_leader() || consensus.silence() <= SILENCE_MAX;
    if knows_none || !hears || !consensus.member(consensus.node()).is_some_and(nowhere) {
        return;
    }
    let change = Change::Place { node: consensus.node(), site: site.clone(), rack: rack.clone() };
    if let Err(error) = consensus.change(change).await {
        tracing::warn!(site, rack, %error, "this node's site and rack are not known yet");
    }
}

/// A majority of others may commit an entry before the leader's own sync has ended, so only the leader can
/// say what it stored.
async fn remember_leader(consensus: &Consensus) {
    let leader = consensus.raft().metrics().borrow_watched().current_leader.map(NodeId);
    let Some((leader, entry)) = leader.and_then(|leader| Some((leader, consensus.member(leader)?))) else {
        return;
    };
    let deadline = Instant::now() + ASK_TIMEOUT;
    let asked = consensus.links().ask((leader, &entry), &Request::Stored, deadline).await;
    if let Ok(Answer::Stored(stored)) = asked {
        consensus.links().remember_stored(leader, stored);
    }
}

fn remember_followers(consensus: &Consensus) {
    for (node, stored) in consensus.stored() {
        if node != consensus.node() {
            consensus.links().remember_stored(node, stored);
        }
    }
}

async fn finish_joint(consensus: &Consensus) {
    if membership::effective(consensus.raft()).get_joint_config().len() < 2 {
        return;
    }
    let finished = tokio::time::timeout(membership::CHANGE_WAIT, membership::finish_joint(consensus.raft()));
    if let Ok(Ok(())) = finished.await {
        tracing::info!("finished a change of the membership that was interrupted");
    }
}

async fn spread_votes(consensus: &Consensus, wanted: usize) {
    let raft = consensus.raft();
    let members = membership::effective(raft);
    let status = consensus.status();
    let voters: BTreeSet<u64> = members.voter_ids().collect();
    let ready = status.members.iter().filter(|member| {
        member.lag.is_some_and(|lag| lag <= READY_LAG_MAX)
            && member.silent_ms.is_some_and(|ms| ms <= READY_SILENCE_MAX_MS)
    });
    let ready = ready.map(|member| member.node).collect();
    let nodes: Vec<_> = members.nodes().map(|(node, entry)| (*node, entry.clone())).collect();
    let promoted: BTreeSet<u64> = spread::promotions(&nodes, &voters, &ready, wanted).into_iter().collect();
    // Both say what becomes different, so that an operator's change in between is not undone.
    let change = if !promoted.is_empty() {
        ChangeMembers::AddVoterIds(promoted)
    } else if voters.len() == wanted
        && let Some((out, into)) = spread::exchange(&nodes, &voters, &ready, *raft.node_id())
    {
        let (into, out) = (BTreeSet::from([into]), BTreeSet::from([out]));
        ChangeMembers::Batch(vec![ChangeMembers::AddVoterIds(into), ChangeMembers::RemoveVoters(out)])
    } else {
        return;
    };
    let said = format!("{change:?}");
    let change = raft.change_membership(change, true);
    match tokio::time::timeout(membership::CHANGE_WAIT, change).await {
        Ok(Ok(_)) => tracing::info!(change = said, "other nodes vote now"),
        Ok(Err(error)) => tracing::debug!(%error, "who votes was not changed"),
        Err(_) => tracing::warn!("a change of who votes takes long"),
    }
}

async fn learn_members(consensus: &Consensus) {
    let mut known = consensus.learned().clone();
    known.extend(consensus.others());
    let mine = membership::effective(consensus.raft());
    for (node, entry) in known {
        if node == consensus.node() {
            continue;
        }
        let deadline = Instant::now() + ASK_TIMEOUT;
        let asked = consensus.links().ask((node, &entry), &Request::Members, deadline).await;
        let Ok(Answer::Members(members)) = asked else { continue };
        if members.log_id() > mine.log_id() {
            let nodes = members.nodes().map(|(node, entry)| (NodeId(*node), entry.clone()));
            *consensus.learned() = nodes.collect();
            return;
        }
    }
}
