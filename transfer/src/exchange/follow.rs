//! The peers a pull follows: asked for news of the manifest at once, heard until they are gone.
//!
//! # What it promises
//!
//! * At most [`FOLLOWED_MAX`] peers are followed.
//! * A peer that broke the protocol is not followed again by this pull.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::sync::Arc;

use futures::StreamExt;
use futures::future::{AbortHandle, abortable};
use futures::stream::FuturesUnordered;
use peerglass_catalog::keyspace::BoxFuture;
use peerglass_catalog::{ManifestRoot, NodeId};

use super::ask::{AskError, Following, Link, on_a_link};
use super::wire::News;
use crate::connection::Connection;
use crate::peers::{Peers, Place};

/// Peers followed at once: each is a stream, and its news cost a message a piece.
const FOLLOWED_MAX: usize = 64;
/// Peers left at once for others.
const LEFT_AT_ONCE: usize = 16;

/// What was heard of a peer.
pub(super) enum Heard {
    News(News),
    /// It is not heard of any more.
    Gone(AskError),
}

/// How a peer is listened to, and what it said.
type Said = Result<(Arc<Link>, Following, News), AskError>;
/// `None` if it was left meanwhile.
type Next = BoxFuture<'static, (NodeId, Option<Said>)>;

/// See the module.
pub(super) struct Followed {
    peers: Arc<dyn Peers>,
    root: ManifestRoot,
    waiting: VecDeque<NodeId>,
    links: BTreeMap<NodeId, Arc<Link>>,
    banned: BTreeSet<NodeId>,
    /// How to end each.
    following: BTreeMap<NodeId, AbortHandle>,
    next: FuturesUnordered<Next>,
}

impl Followed {
    pub(super) fn new(peers: Arc<dyn Peers>, root: ManifestRoot) -> Self {
        Self {
            peers,
            root,
            waiting: VecDeque::new(),
            links: BTreeMap::new(),
            banned: BTreeSet::new(),
            following: BTreeMap::new(),
            next: FuturesUnordered::new(),
        }
    }

    /// This node.
    pub(super) fn me(&self) -> NodeId {
        self.peers.me()
    }

    /// Where a node is.
    pub(super) fn place(&self, node: NodeId) -> Place {
        self.peers.place(node)
    }

    /// Follow every candidate that is not followed.
    pub(super) fn everybody(&mut self) {
        self.waiting.retain(|node| !self.banned.contains(node));
        for node in self.peers.candidates() {
            self.also(node, None);
        }
    }

    /// Follow one more, on this connection if there is one.
    pub(super) fn also(&mut self, node: NodeId, connection: Option<Connection>) {
        if self.banned.contains(&node) || self.following.contains_key(&node) {
            return;
        }
        if self.following.len() >= FOLLOWED_MAX && connection.is_none() {
            // Once, however often it is met: so there are never more than members.
            if !self.waiting.contains(&node) {
                self.waiting.push_back(node);
            }
            return;
        }
        let (peers, root) = (Arc::clone(&self.peers), self.root);
        self.listen(node, async move {
            let follow = |link: Arc<Link>| async move {
                let mut following = link.follow(root).await?;
                let news = following.next().await?;
                Ok((link, following, news))
            };
            match connection {
                Some(connection) => follow(Arc::new(Link::new(connection))).await,
                None => on_a_link(&*peers, node, follow).await,
            }
        });
    }

    /// Not to be heard of again.
    pub(super) fn ban(&mut self, node: NodeId) {
        self.banned.insert(node);
        self.leave(node);
    }

    /// Not to be heard of until it is followed again.
    pub(super) fn leave(&mut self, node: NodeId) {
        self.links.remove(&node);
        if let Some(following) = self.following.remove(&node) {
            following.abort();
        }
        if let Some(waiting) = self.waiting.pop_front() {
            self.also(waiting, None);
        }
    }

    /// Leave some for some that wait, if there are any: nobody who is followed has had anything for a while.
    pub(super) fn make_room(&mut self) -> Vec<NodeId> {
        let count = self.waiting.len().min(LEFT_AT_ONCE);
        let left: Vec<NodeId> = self.following.keys().copied().take(count).collect();
        for node in &left {
            self.leave(*node);
            self.waiting.push_back(*node);
        }
        left
    }

    /// How to ask a peer that is followed.
    pub(super) fn link(&self, node: NodeId) -> Option<Arc<Link>> {
        self.links.get(&node).cloned()
    }

    /// Whether anybody is still asked, or has something or may come to have it.
    pub(super) fn is_empty(&self) -> bool {
        self.following.is_empty()
    }

    /// What is heard next, of whom; never, if nobody is followed.
    pub(super) async fn next(&mut self) -> (NodeId, Heard) {
        loop {
            let Some((node, heard)) = self.next.next().await else { return std::future::pending().await };
            let heard = match heard {
                None => continue,
                Some(Ok((link, mut following, news))) => {
                    if matches!(news, News::Nothing | News::Ended) {
                        self.leave(node);
                    } else {
                        self.links.insert(node, Arc::clone(&link));
                        self.listen(node, async move {
                            following.next().await.map(|news| (link, following, news))
                        });
                    }
                    Heard::News(news)
                }
                Some(Err(error)) => {
                    if matches!(error, AskError::Breach(_)) {
                        self.banned.insert(node);
                    }
                    self.leave(node);
                    Heard::Gone(error)
                }
            };
            return (node, heard);
        }
    }

    fn listen(&mut self, node: NodeId, said: impl Future<Output = Said> + Send + 'static) {
        let (said, end) = abortable(said);
        self.following.insert(node, end);
        self.next.push(Box::pin(async move { (node, said.await.ok()) }));
    }
}
