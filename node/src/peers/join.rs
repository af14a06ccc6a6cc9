//! Becoming a member: what a new node does with its token before it first serves.

use axum::serve::Listener;
use peerglass_catalog::{Fault, InvalidTicket, JoinTicket, NodeEntry, NodeId};
use peerglass_consensus::{Admission, ClusterId};
use tokio::time::timeout;

use super::admit::{ANSWER_BYTES_MAX, EXCHANGE_TIMEOUT, JoinAnswer, JoinRequest, receive, send};
use super::candidates::Candidates;
use super::dial::Dialer;
use super::port::Purpose;
use crate::config::Settings;
use crate::discovery::{BrowseError, Sightings};
use crate::surroundings::Surroundings;

/// Where the members are looked for that a token names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Search {
    /// Where the token and the bootstrap list say.
    Named,
    /// On the LAN as well.
    Lan,
}

/// What came of a join.
#[derive(Clone, Debug)]
pub struct Joined {
    /// The id of this node.
    pub node: NodeId,
    /// The cluster it belongs to now.
    pub cluster: ClusterId,
    /// How many members there were before it.
    pub members: usize,
}

/// Why a node did not join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The token.
    #[error(transparent)]
    Ticket(#[from] InvalidTicket),
    /// This node could not be reached by the others.
    #[error(
        "a node that joins needs a peer port: give --peer-listen ADDRESS:PORT (or cluster.listen), and --advertise if \
         others reach it by another address"
    )]
    NoPort,
    /// It listens everywhere, which is no address to turn to.
    #[error("{0} is no address that other nodes can use; give --advertise ADDRESS:PORT")]
    Unspecific(String),
    /// The data directory has a log already.
    #[error(
        "this data directory belongs to cluster {0} already; to join another one, or to join again after a removal, \
         start with an empty directory"
    )]
    BelongsElsewhere(ClusterId),
    /// A rule says no.
    #[error("the cluster does not admit this node: {0}")]
    Refused(String),
    /// The LAN cannot be searched.
    #[error(transparent)]
    Browse(#[from] BrowseError),
    /// Nobody of the token's list answered.
    #[error("no member could be reached: {0}")]
    NobodyAnswers(String),
    /// The disk.
    #[error("cannot write down who this node is: {0}")]
    Fault(#[from] Fault),
}

/// Use `token`: have the cluster admit this node, and write down that it did.
///
/// Safe to repeat until it succeeds: the token admits the same node once.
///
/// # Errors
///
/// When the token is no good, the directory has a log already, or nobody answers.
pub async fn join<L: Listener>(
    settings: &Settings,
    surroundings: &Surroundings<L>,
    token: &str,
    search: Search,
) -> Result<Joined, JoinError> {
    let ticket: JoinTicket = token.parse()?;
    let log = &*surroundings.disk.log;
    if let Some(cluster) = peerglass_consensus::belongs_to(log)? {
        return Err(JoinError::BelongsElsewhere(cluster));
    }
    let port = surroundings.peers.clone().ok_or(JoinError::NoPort)?;
    let address = settings.cluster.reachable().map_err(JoinError::Unspecific)?.ok_or(JoinError::NoPort)?;
    let node = peerglass_consensus::reserve_node(log, surroundings.seed).await?;
    let request = JoinRequest { secret: ticket.secret, node, address };
    let dialer = Dialer::new(port, Sightings::default());
    let mut candidates = Candidates::new(&ticket, settings, search, &surroundings.key)?;
    while let Some(contact) = candidates.next().await {
        match ask(&dialer, &contact, &request).await {
            Ok(JoinAnswer::Welcome { cluster, members }) => {
                let joined = Joined { node, cluster, members: members.len() };
                peerglass_consensus::adopt_cluster(log, &Admission { cluster, members }).await?;
                return Ok(joined);
            }
            Ok(JoinAnswer::Refused(why)) => return Err(JoinError::Refused(why)),
            Ok(JoinAnswer::Later(why)) | Err(why) => candidates.failed(&contact, &why),
        }
    }
    Err(JoinError::NobodyAnswers(candidates.tried()))
}

async fn ask(dialer: &Dialer, contact: &NodeEntry, request: &JoinRequest) -> Result<JoinAnswer, String> {
    let connection = dialer.connect(contact, Purpose::Join).await.map_err(|error| error.to_string())?;
    let exchange = async {
        let (mut out, mut back) = connection.open_bi().await.map_err(|error| error.to_string())?;
        send(&mut out, request).await?;
        receive(&mut back, ANSWER_BYTES_MAX).await
    };
    timeout(EXCHANGE_TIMEOUT, exchange).await.map_err(|_| "no answer in time".to_owned())?
}
