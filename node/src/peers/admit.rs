//! A new node at the door: what it says, and what it is told.
//!
//! One stream, one request, one answer, each `length:u32le version:u8 postcard`. The secret of the token
//! is sent only after the handshake proved that a member of the token's list is at the other end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use peerglass_catalog::node::NODE_TEXT_BYTES_MAX;
use peerglass_catalog::{Digest, NodeEntry, NodeId, PeerKey, Refusal, Timestamp};
use peerglass_consensus::{AdmitError, ChangeError, ClusterId, Consensus, SubmitError};
use quinn::{Connection, RecvStream, SendStream, VarInt};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};

const VERSION: u8 = 1;
/// Longest answer: a list of a few thousand members.
pub(super) const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Longest request: a secret, an id and an address.
const REQUEST_BYTES_MAX: usize = 1 << 10;
/// How long a node may take to say what it wants.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// How long it waits until it is decided on.
const PLACE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long changes of others to the membership are waited for, and how often it is looked whether they are done.
const BUSY_FOR_MAX: Duration = Duration::from_secs(5);
const BUSY_PAUSE: Duration = Duration::from_millis(50);
/// How long the whole exchange may take.
pub(super) const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(15);

/// What a new node says.
#[derive(Serialize, Deserialize)]
pub(super) struct JoinRequest {
    pub(super) secret: [u8; 32],
    pub(super) node: NodeId,
    pub(super) address: String,
}

/// What it is told.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum JoinAnswer {
    Welcome {
        cluster: ClusterId,
        members: BTreeMap<NodeId, NodeEntry>,
    },
    /// A rule says no; asking again is of no use.
    Refused(String),
    /// Not now.
    Later(String),
}

/// Read the clock of this machine.
pub(crate) type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Serve one node that wants to join. `deciding` bounds how many are decided on at once. Answers with why
/// it was not let in, if it said who it is and was not.
pub(super) async fn admit(
    connection: Connection,
    key: PeerKey,
    (consensus, now): (Consensus, Clock),
    deciding: &Semaphore,
) -> Option<String> {
    let exchange = async {
        let request = async {
            let (out, mut back) = connection.accept_bi().await.map_err(|error| error.to_string())?;
            Ok::<_, String>((out, receive::<JoinRequest>(&mut back, REQUEST_BYTES_MAX).await?))
        };
        // Whoever says nothing takes nobody else's place for long.
        let request = timeout(REQUEST_TIMEOUT, request).await;
        let (mut out, request) = request.map_err(|_| "it said nothing".to_owned())??;
        let answer = match timeout(PLACE_TIMEOUT, deciding.acquire()).await {
            Ok(Ok(_place)) => decide(&consensus, key, &request, now()).await,
            Ok(Err(_)) | Err(_) => JoinAnswer::Later("too many nodes join at once".to_owned()),
        };
        send(&mut out, &answer).await?;
        // Closing throws away what is not acknowledged yet.
        let _ = out.stopped().await;
        Ok::<_, String>(match answer {
            JoinAnswer::Welcome { .. } => {
                tracing::info!(peer = %key, node = request.node.0, address = request.address, "admitted a node");
                None
            }
            JoinAnswer::Refused(why) | JoinAnswer::Later(why) => Some(why),
        })
    };
    let refused = match timeout(EXCHANGE_TIMEOUT, exchange).await {
        Ok(Ok(refused)) => refused,
        Ok(Err(error)) => {
            tracing::debug!(peer = %key, error, "a node at the door went away");
            None
        }
        Err(_) => {
            tracing::debug!(peer = %key, "a node at the door took too long");
            None
        }
    };
    connection.close(VarInt::from_u32(0), b"");
    refused
}

async fn decide(consensus: &Consensus, key: PeerKey, request: &JoinRequest, at: Timestamp) -> JoinAnswer {
    if request.address.is_empty() || request.address.len() > NODE_TEXT_BYTES_MAX {
        return JoinAnswer::Refused("its address is empty or too long".to_owned());
    }
    let token = Digest::of(&request.secret);
    let began = Instant::now();
    let admitted = loop {
        match consensus.admit(token, request.node, (key, request.address.clone()), at).await {
            // Of many nodes that are started at once, each has its turn.
            Err(AdmitError::Change(ChangeError::Busy)) if began.elapsed() < BUSY_FOR_MAX => {
                sleep(BUSY_PAUSE).await;
            }
            admitted => break admitted,
        }
    };
    match admitted {
        Ok(admission) => JoinAnswer::Welcome { cluster: admission.cluster, members: admission.members },
        Err(AdmitError::Token(SubmitError::Refused(refusal))) => JoinAnswer::Refused(refused(&refusal)),
        Err(error @ (AdmitError::Token(SubmitError::Failed(_)) | AdmitError::Change(_))) => {
            JoinAnswer::Later(error.to_string())
        }
    }
}

fn refused(refusal: &Refusal) -> String {
    format!("{refusal}; ask for a new one with `peerglass cluster token`")
}

pub(super) async fn send<T: Serialize>(stream: &mut SendStream, value: &T) -> Result<(), String> {
    let frame = postcard::to_extend(value, vec![0, 0, 0, 0, VERSION]).map_err(|error| error.to_string())?;
    let length = u32::try_from(frame.len() - 4).map_err(|error| error.to_string())?;
    let mut frame = frame;
    frame[..4].copy_from_slice(&length.to_le_bytes());
    stream.write_all(&frame).await.map_err(|error| error.to_string())?;
    stream.finish().map_err(|error| error.to_string())
}

pub(super) async fn receive<T: DeserializeOwned>(
    stream: &mut RecvStream,
    bytes_max: usize,
) -> Result<T, String> {
    // The other end says no more than one frame, so its end is the frame's.
    let frame = stream.read_to_end(bytes_max + 4).await.map_err(|error| error.to_string())?;
    let Some((length, body)) = frame.split_first_chunk::<4>() else {
        return Err("a frame is cut short".to_owned());
    };
    if u32::from_le_bytes(*length) as usize != body.len() {
        return Err("a frame is cut short".to_owned());
    }
    match body.split_first() {
        Some((&VERSION, body)) => postcard::from_bytes(body).map_err(|error| error.to_string()),
        Some((version, _)) => Err(format!("version {version} of the join protocol is not known here")),
        None => Err("a frame is empty".to_owned()),
    }
}
