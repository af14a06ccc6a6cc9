//! Messages that say no more than that another entry is committed.
//!
//! openraft sends one after each entry that no further entry follows at once. The next message to the
//! same node says it as well, and a client that writes one thing after the other causes that message a
//! moment later. So what says nothing else waits [`COMMIT_WAIT`] for company. Nobody waits with it: a read at
//! another node that needs the entry sends it on its way, and the write itself was answered when the entry
//! was committed.

use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use openraft::raft::AppendEntriesRequest;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::raft::Types;

/// How long the news of a commit may wait for the next message to the same node.
const COMMIT_WAIT: Duration = Duration::from_millis(1);

/// The last entry that somebody at another node waits to see applied there.
pub(crate) struct Awaited(watch::Sender<u64>);

impl Awaited {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(0))
    }

    /// Other nodes were told to wait for the entry at `index`.
    pub(crate) fn raise(&self, index: u64) {
        self.0.send_if_modified(|awaited| index > std::mem::replace(awaited, index.max(*awaited)));
    }

    /// `messages` without those that the next one makes superfluous. The last one is never left out.
    pub(crate) fn gather<S>(
        &self,
        messages: S,
    ) -> impl Stream<Item = AppendEntriesRequest<Types>> + Send + Unpin + 'static
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + Send + Unpin + 'static,
    {
        let begun = (messages.fuse(), self.0.subscribe());
        Box::pin(stream::unfold(begun, |(mut messages, mut awaited)| async move {
            let mut message = messages.next().await?;
            while message.entries.is_empty() {
                let commit = message.leader_commit.map_or(0, |id| id.index);
                let next = tokio::select! {
                    biased;
                    next = messages.next() => next,
                    _ = awaited.wait_for(|awaited| *awaited >= commit) => None,
                    () = sleep(COMMIT_WAIT) => None,
                };
                let Some(next) = next else { break };
                message = next;
            }
            Some((message, (messages, awaited)))
        }))
    }
}

#[cfg(test)]
mod tests {
    use openraft::EntryPayload;
    use openraft::entry::RaftEntry;
    use openraft::vote::RaftLeaderId;
    use tokio::sync::mpsc;
    use tokio::time::Instant;

    use super::*;
    use crate::raft::{Entry, LogId, Vote};

    fn log_id(index: u64) -> LogId {
        LogId::new(openraft::alias::LeaderIdOf::<Types>::new(1, 1).to_committed(), index)
    }

    /// The message behind entry `prev` with this many entries.
    fn message(prev: u64, entries: u64, commit: u64) -> AppendEntriesRequest<Types> {
        let entry = |index| Entry::new(log_id(index), EntryPayload::Blank);
        AppendEntriesRequest {
            vote: Vote::new(1, 1),
            prev_log_id: Some(log_id(prev)),
            entries: (prev + 1..=prev + entries).map(entry).collect(),
            leader_commit: Some(log_id(commit)),
        }
    }

    fn commit_of(message: Option<AppendEntriesRequest<Types>>) -> Option<u64> {
        message.and_then(|message| message.leader_commit).map(|id| id.index)
    }

    fn arriving() -> (
        mpsc::Sender<AppendEntriesRequest<Types>>,
        impl Stream<Item = AppendEntriesRequest<Types>> + Send + Unpin,
    ) {
        let (send, receive) = mpsc::channel(8);
        let received =
            |mut receive: mpsc::Receiver<_>| async { receive.recv().await.map(|next| (next, receive)) };
        (send, Box::pin(stream::unfold(receive, received)))
    }

    #[tokio::test(start_paused = true)]
    async fn the_news_of_a_commit_rides_along_with_the_entry_that_follows() {
        let (send, messages) = arriving();
        let awaited = Awaited::new();
        let mut gathered = awaited.gather(messages);
        for next in [message(1, 0, 1), message(1, 2, 1), message(3, 0, 2), message(3, 0, 3)] {
            send.send(next).await.unwrap();
        }
        let began = Instant::now();
        assert_eq!(gathered.next().await.map(|message| message.entries.len()), Some(2));
        assert_eq!(began.elapsed(), Duration::ZERO, "entries wait for nothing");
        assert_eq!(commit_of(gathered.next().await), Some(3), "the later of two");
        assert_eq!(began.elapsed(), COMMIT_WAIT, "and alone it goes after a moment");
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_message_is_sent_and_then_the_stream_ends() {
        let (send, messages) = arriving();
        let awaited = Awaited::new();
        let mut gathered = awaited.gather(messages);
        send.send(message(7, 0, 7)).await.unwrap();
        drop(send);
        let began = Instant::now();
        assert_eq!(commit_of(gathered.next().await), Some(7));
        assert!(gathered.next().await.is_none());
        assert_eq!(began.elapsed(), Duration::ZERO, "a probe is not held up");
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_elsewhere_is_not_kept_waiting() {
        let (send, messages) = arriving();
        let awaited = Awaited::new();
        let mut gathered = awaited.gather(messages);
        let began = Instant::now();
        // Before the message is there, and while it waits.
        awaited.raise(4);
        send.send(message(4, 0, 4)).await.unwrap();
        assert_eq!(commit_of(gathered.next().await), Some(4));
        send.send(message(5, 0, 5)).await.unwrap();
        let (sent, ()) = tokio::join!(gathered.next(), async {
            awaited.raise(3); // no step back
            tokio::task::yield_now().await;
            awaited.raise(5);
        });
        assert_eq!(commit_of(sent), Some(5));
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
