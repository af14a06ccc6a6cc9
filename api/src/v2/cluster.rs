//! The cluster: who is in it, and how that changes. Not Glance's; for administrators only.

use std::collections::BTreeSet;
use std::str::FromStr;

use axum::body::Body;
use axum::http::StatusCode;
use peerglass_catalog::node::NODE_TEXT_BYTES_MAX;
use peerglass_catalog::{
    CONTACTS_MAX, Command, ImageId, JoinGrant, JoinTicket, NodeEntry, NodeId, NodeRole, Timestamp,
};
use peerglass_consensus::{ChangeError, ClusterStatus, MemberStatus};
use serde_json::{Value, json};

use super::no_content;
use crate::call::{Answer, Call};
use crate::error::{ApiError, Step};
use crate::front;
use crate::policy::Target;
use crate::wire::{DocumentProblem, read_json};

/// Longest life of a token, in seconds: a month.
const EXPIRES_MAX_S: u64 = 31 * 24 * 3_600;
/// Life of a token whose request does not say, in seconds.
const EXPIRES_DEFAULT_S: u64 = 3_600;

/// What is wrong with a request about the cluster.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ClusterProblem {
    #[error("{0} must be {1}.")]
    Field(&'static str, &'static str),
    #[error(
        "No member has {0} as its id, as a beginning of it, or as its peer address; see `cluster status`."
    )]
    NoSuchMember(String),
    #[error("Several members have an id that begins with {0}.")]
    Ambiguous(String),
    #[error("No member is at the site {0:?}; see `cluster status`.")]
    NoSuchSite(String),
    #[error("Image {0} has no data.")]
    NoBytes(ImageId),
    #[error("No member has a peer port. Start the node with --peer-listen ADDRESS:PORT first.")]
    NoPeerPort,
    #[error("{0}.")]
    Change(#[from] ChangeError),
}

/// `GET /v2/cluster`: the cluster as this node knows it, also without a majority.
pub(crate) async fn status(call: Call) -> Answer {
    call.check(Target::Service)?;
    let status = call.api.consensus.status();
    // While a snapshot is installed nobody can tell.
    let out = call.api.consensus.read_stale(|catalog| catalog.nodes_out()).ok().and_then(|(out, _)| out.ok());
    let out: BTreeSet<String> =
        out.unwrap_or_default().into_iter().map(|(node, _)| node.0.to_string()).collect();
    let mut status = json!(status);
    for member in status["members"].as_array_mut().into_iter().flatten() {
        let is_out = member["node"].as_str().is_some_and(|node| out.contains(node));
        member["out"] = is_out.into();
    }
    let document = json!({
        "status": status,
        "version": env!("CARGO_PKG_VERSION"),
        "stored_bytes": call.api.transfer.usage().stored_bytes,
    });
    Ok(front::json(StatusCode::OK, document.to_string()))
}

/// `POST /v2/cluster/tokens`: a token with which one node may join.
pub(crate) async fn issue_token(call: Call, body: Body) -> Answer {
    call.check(Target::Service)?;
    let wanted = read_json(&call.head.headers, body, &call.api.settings).await?;
    let fields = wanted.as_object().ok_or(DocumentProblem::NotAnObject)?;
    if let Some(_unknown) =
        fields.keys().find(|key| !["role", "site", "rack", "expires_s"].contains(&key.as_str()))
    {
        return Err(ClusterProblem::Field("each key", "role, site, rack or expires_s").into());
    }
    let role = text(&wanted, "role", "voter")?;
    let role = NodeRole::from_str(&role).map_err(|_| ClusterProblem::Field("role", "voter or learner"))?;
    let expires_s = if wanted["expires_s"].is_null() {
        EXPIRES_DEFAULT_S
    } else {
        let given = wanted["expires_s"].as_u64().filter(|seconds| (1..=EXPIRES_MAX_S).contains(seconds));
        given.ok_or(ClusterProblem::Field("expires_s", "from 1 to 2678400 seconds"))?
    };
    let (site, rack) = (text(&wanted, "site", "")?, text(&wanted, "rack", "")?);
    let contacts = contacts(&call)?;
    let mut secret = [0; 32];
    secret[..16].copy_from_slice(&call.api.random());
    secret[16..].copy_from_slice(&call.api.random());
    let ticket = JoinTicket { secret, contacts };
    let at = call.api.now();
    let micros = i64::try_from(expires_s).unwrap_or(i64::MAX).saturating_mul(1_000_000);
    let grant = JoinGrant { role, site, rack, expires_at: Timestamp(at.0.saturating_add(micros)) };
    call.submit(Step::Record, Command::IssueToken { token: ticket.digest(), grant, at }).await?;
    let document = json!({ "token": ticket.to_string(), "expires_s": expires_s });
    Ok(front::json(StatusCode::CREATED, document.to_string()))
}

/// `POST /v2/cluster/members/{member}/promote`: let it vote.
pub(crate) async fn promote(call: Call) -> Answer {
    let node = member(&call)?;
    done(call.api.consensus.promote(node).await)
}

/// `POST /v2/cluster/members/{member}/demote`: let it follow only.
pub(crate) async fn demote(call: Call) -> Answer {
    let node = member(&call)?;
    done(call.api.consensus.demote(node).await)
}

/// `POST /v2/cluster/members/{member}/transfer-leader`: have it lead.
pub(crate) async fn transfer_leader(call: Call) -> Answer {
    let node = member(&call)?;
    done(call.api.consensus.transfer_leader(node).await)
}

/// `DELETE /v2/cluster/members/{member}`: remove it. Its uploads are given up, because nobody else can
/// finish them, and so is its token. Asked again by the node id, it completes what was left half done.
pub(crate) async fn remove(call: Call) -> Answer {
    let node = match member(&call) {
        Err(ApiError::Cluster(ClusterProblem::NoSuchMember(name))) => {
            if let Ok(node) = name.parse() {
                forget(&call, NodeId(node)).await?;
            }
            return Err(ClusterProblem::NoSuchMember(name).into());
        }
        found => found?,
    };
    done(call.api.consensus.remove(node).await)?;
    // The node that is asked may be the one that left, and then has nobody to tell.
    match forget(&call, node).await {
        Err(error) if node != call.api.consensus.node() => return Err(error),
        Err(error) => tracing::warn!(node = node.0, %error, "this node was removed and is not forgotten yet"),
        Ok(()) => {}
    }
    Ok(no_content())
}

async fn forget(call: &Call, node: NodeId) -> Result<(), ApiError> {
    let command = Command::ForgetNode { node, at: call.api.now() };
    call.submit(Step::Record, command).await.map(|_| ())
}

fn done(result: Result<(), ChangeError>) -> Answer {
    result.map(|()| no_content()).map_err(|error| ClusterProblem::Change(error).into())
}

/// The member the path names by its address, its node id or peer id, or by a beginning of either id.
fn member(call: &Call) -> Result<NodeId, ApiError> {
    call.check(Target::Service)?;
    let name = call.param("member");
    Ok(find(&call.api.consensus.status(), name)?)
}

fn find(status: &ClusterStatus, name: &str) -> Result<NodeId, ClusterProblem> {
    let fits = |id: &str| !name.is_empty() && id.starts_with(name);
    let is = |member: &&MemberStatus| {
        member.node.to_string() == name || member.peer == name || member.address == name
    };
    let exact = status.members.iter().find(is);
    let mut found =
        status.members.iter().filter(|member| fits(&member.node.to_string()) || fits(&member.peer));
    match (exact, found.next(), found.next()) {
        (Some(member), _, _) | (None, Some(member), None) => Ok(NodeId(member.node)),
        (None, None, _) => Err(ClusterProblem::NoSuchMember(name.to_owned())),
        (None, Some(_), Some(_)) => Err(ClusterProblem::Ambiguous(name.to_owned())),
    }
}

/// Members a new node can turn to: this one first.
fn contacts(call: &Call) -> Result<Vec<NodeEntry>, ClusterProblem> {
    let consensus = &call.api.consensus;
    let me = consensus.member(consensus.node()).into_iter();
    let others = consensus.others().into_iter().map(|(_, entry)| entry);
    let reachable = me.chain(others).filter(|entry| !entry.address.is_empty());
    let contacts: Vec<_> = reachable.take(CONTACTS_MAX).collect();
    if contacts.is_empty() { Err(ClusterProblem::NoPeerPort) } else { Ok(contacts) }
}

pub(super) fn text(document: &Value, key: &'static str, default: &str) -> Result<String, ClusterProblem> {
    if document[key].is_null() {
        return Ok(default.to_owned());
    }
    let fits = |text: &&str| text.len() <= NODE_TEXT_BYTES_MAX && !text.contains(char::is_control);
    let text = document[key].as_str().filter(fits);
    text.map(str::to_owned).ok_or(ClusterProblem::Field(key, "a text of at most 255 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(node: u64, peer: &str, address: &str) -> MemberStatus {
        MemberStatus {
            node,
            peer: peer.to_owned(),
            address: address.to_owned(),
            site: String::new(),
            rack: String::new(),
            role: NodeRole::Voter,
            voter: true,
            lag: None,
            silent_ms: None,
        }
    }

    /// An operator who types half an id must not remove the wrong node.
    #[test]
    fn a_member_is_found_by_id_by_beginning_and_by_address_if_only_one_fits() {
        let status = ClusterStatus {
            cluster: String::new(),
            node: 12,
            term: 1,
            leader: None,
            last_log: 0,
            committed: 0,
            applied: 0,
            snapshot: 0,
            purged: 0,
            members: vec![member(12, "12D3a", "10.0.0.1:9293"), member(123, "12D3b", "10.0.0.2:9293")],
        };
        assert_eq!(find(&status, "12"), Ok(NodeId(12)), "exact before beginning");
        assert_eq!(find(&status, "123"), Ok(NodeId(123)));
        assert_eq!(find(&status, "12D3b"), Ok(NodeId(123)));
        assert_eq!(find(&status, "10.0.0.2:9293"), Ok(NodeId(123)));
        assert!(matches!(find(&status, "1"), Err(ClusterProblem::Ambiguous(_))));
        assert!(matches!(find(&status, "10.0.0"), Err(ClusterProblem::NoSuchMember(_))));
        assert!(matches!(find(&status, ""), Err(ClusterProblem::NoSuchMember(_))));
    }
}
