//! `GET /metrics`: what Prometheus scrapes, in OpenMetrics' text. For administrators only; a scraper signs in as one.
//!
//! Values are read when they are asked for; counters begin at 0 when the node starts. Labels are of few values each: no image
//! and no project is named.

use std::fmt::Debug;

use axum::body::Body;
use axum::http::{HeaderValue, Response, header};
use peerglass_consensus::ClusterStatus;
use peerglass_transfer::{Counts, Distance, Transport, Usage};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::Registry;

use crate::call::{Answer, Call};
use crate::policy::Target;

const CONTENT_TYPE: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// Labels and their values.
type Labels<const N: usize> = [(&'static str, String); N];

/// The page.
pub(crate) async fn page(call: Call) -> Answer {
    call.check(Target::Service)?;
    let mut page = Page(Registry::with_prefix("peerglass"));
    let version = [("version", env!("CARGO_PKG_VERSION").to_owned())];
    page.gauges("build_info", "Which build runs", [(version, 1)]);
    page.raft(&call.api.consensus.status());
    page.swarm(&call.api.transfer.counts());
    page.store(&call.api.transfer.usage());
    let mut text = String::new();
    encode(&mut text, &page.0).expect("writing to a text cannot fail");
    let mut response = Response::new(Body::from(text));
    response.headers_mut().insert(header::CONTENT_TYPE, CONTENT_TYPE);
    Ok(response)
}

struct Page(Registry);

impl Page {
    fn gauge<N: TryInto<i64, Error: Debug>>(&mut self, name: &str, help: &str, value: N) {
        self.0.register(name, help, ConstGauge::new(whole(value)));
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.0.register(name, help, ConstCounter::new(value));
    }

    fn gauges<const N: usize, V: TryInto<i64, Error: Debug>>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels<N>, V)>,
    ) {
        let family = Family::<Labels<N>, Gauge>::default();
        for (labels, value) in values {
            family.get_or_create(&labels).set(whole(value));
        }
        self.0.register(name, help, family);
    }

    fn counters<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels<N>, u64)>,
    ) {
        let family = Family::<Labels<N>, Counter>::default();
        for (labels, value) in values {
            family.get_or_create(&labels).inc_by(value);
        }
        self.0.register(name, help, family);
    }

    fn raft(&mut self, status: &ClusterStatus) {
        let leads = status.leader == Some(status.node);
        self.gauge("raft_is_leader", "Whether this node leads", i64::from(leads));
        self.gauge(
            "raft_has_leader",
            "Whether this node knows who leads",
            i64::from(status.leader.is_some()),
        );
        self.gauge("raft_term", "The term", status.term);
        self.gauge("raft_last_log_index", "The last entry of the log", status.last_log);
        self.gauge("raft_commit_index", "The last entry known to be committed", status.committed);
        self.gauge("raft_applied_index", "The last entry that is applied", status.applied);
        let voters = status.members.iter().filter(|member| member.voter).count();
        self.gauge("raft_voters", "Members that vote", voters);
        self.gauge("raft_learners", "Members that do not vote", status.members.len() - voters);
        let lag = status.members.iter().filter_map(|member| Some((member.node, member.lag?)));
        let lag = lag.map(|(node, lag)| ([("peer", node.to_string())], lag));
        self.gauges("raft_replication_lag_entries", "Entries a member lacks, as the leader knows", lag);
    }

    fn swarm(&mut self, counts: &Counts) {
        let received = Distance::ALL.into_iter().zip(counts.received_bytes).flat_map(|(distance, bytes)| {
            let over = Transport::ALL.into_iter().zip(bytes);
            over.map(move |(over, bytes)| ([scope(distance), transport(over)], bytes))
        });
        self.counters("swarm_received_bytes", "Sound bytes from other nodes", received);
        let sent = Distance::ALL.into_iter().zip(counts.sent_bytes);
        let sent = sent.map(|(distance, bytes)| ([scope(distance)], bytes));
        self.counters("swarm_sent_bytes", "Bytes sent to other nodes", sent);
        self.counter("swarm_hash_failures", "Answers with wrong bytes", counts.hash_failures);
        self.counter("swarm_bans", "Nodes that a pull does not ask again", counts.bans);
        let [whole, failed] = counts.pulls;
        let results = [([("result", "ok".to_owned())], whole), ([("result", "failed".to_owned())], failed)];
        self.counters("swarm_pulls", "Pulls of an image that have ended", results);
        let [hits, misses] = counts.cache;
        self.counter("cache_hits", "Downloads of what was here", hits);
        self.counter("cache_misses", "Downloads of what had to be fetched", misses);
        self.counter(
            "cache_evicted_bytes",
            "Bytes let go of because other nodes keep them",
            counts.evicted_bytes,
        );
        self.counter("scrub_bytes", "Bytes read again to find damage", counts.scrubbed_bytes);
    }

    fn store(&mut self, usage: &Usage) {
        self.gauge("swarm_active_transfers", "Images being fetched from other nodes", usage.pulls);
        self.gauge("uploads", "Uploads under way", usage.uploads);
        self.gauge("downloads", "Downloads under way", usage.downloads);
        let kinds = [
            ([("kind", "physical".to_owned())], usage.stored_bytes),
            ([("kind", "unique".to_owned())], usage.referenced_bytes),
        ];
        self.gauges("store_bytes", "Bytes of packs, and of what is referred to in them", kinds);
        self.gauge("store_packs", "Packs", usage.packs);
        self.gauge("store_chunks", "Blobs that are referred to", usage.chunks);
    }
}

fn scope(distance: Distance) -> (&'static str, String) {
    let name = match distance {
        Distance::Rack => "rack",
        Distance::Site => "site",
        Distance::Wan => "wan",
    };
    ("scope", name.to_owned())
}

fn transport(over: Transport) -> (&'static str, String) {
    let name = match over {
        Transport::Tcp => "tcp",
        Transport::Quic => "quic",
    };
    ("transport", name.to_owned())
}

/// As a gauge holds it.
fn whole<N: TryInto<i64>>(value: N) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}
