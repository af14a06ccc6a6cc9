//! The pieces of one pull, from what peers have to what is here.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::{AbortHandle, abortable};
use peerglass_catalog::manifest::Root;
use peerglass_catalog::{Digest, ManifestRoot, NodeId};
use tokio::sync::watch;
use tokio::task::consume_budget;
use tokio::time::{Instant, sleep};

use super::contents::Contents;
use super::piece::{Fetched, Flight, fetch_piece};
use super::rounds::{self, Rounds};
use super::{PullError, count_breach, heed_met, held_blobs};
use crate::exchange::ask::{AskError, Want};
use crate::exchange::follow::{Followed, Heard};
use crate::exchange::pulls::{Pull, Purpose, View};
use crate::exchange::wire::{Breach, News};
use crate::form::Parcel;
use crate::gather::{Checkpoints, Gather, KeepError};
use crate::pack::BlobKind;
use crate::peers::Place;
use crate::store::BlobReader;
use crate::swarm::{Fetch, Plan, Setback};
use crate::traffic::Distance;
use crate::transfer::Inner;

/// How often the plan is asked while it waits for its turn.
const TICK: Duration = Duration::from_millis(100);
/// Pages looked for on this node at once.
const PAGES_AT_ONCE: usize = 64;
/// Checkpoints of one pull: each is a pack of its own.
const CHECKPOINTS_MAX: u64 = 64;
/// How often a peer may lack what it said it has before nothing more is believed of it.
const EMPTY_PROMISES_MAX: usize = 16;

/// See the module.
pub(super) struct Intake<'a> {
    transfer: &'a Arc<Inner>,
    pull: &'a Pull,
    says: &'a watch::Sender<View>,
    followed: Followed,
    name: ManifestRoot,
    root: Arc<Root>,
    contents: Option<Contents>,
    plan: Plan,
    here: Place,
    began: Instant,
    checkpoints: Checkpoints,
    rounds: Rounds,
    empty_promises: BTreeMap<NodeId, usize>,
    /// How to take back what was asked for.
    on_their_way: BTreeMap<(usize, NodeId), AbortHandle>,
}

impl<'a> Intake<'a> {
    pub(super) fn new(
        transfer: &'a Arc<Inner>,
        (pull, says): (&'a Pull, &'a watch::Sender<View>),
        followed: Followed,
        (name, root): (ManifestRoot, Arc<Root>),
        rounds: Rounds,
    ) -> Self {
        let mut reader = BlobReader::new(transfer.store.clone());
        reader.read_beside(Arc::clone(&pull.progress));
        let contents = Contents::new(Arc::clone(&root), reader);
        let me = followed.me();
        let here = followed.place(me);
        let count = contents.pieces.count();
        let every_bytes = transfer.settings.checkpoint_bytes.max(root.plain_len() / CHECKPOINTS_MAX);
        Self {
            plan: Plan::new(me, site_number(&here), count, transfer.seed),
            contents: Some(contents),
            transfer,
            pull,
            says,
            followed,
            name,
            root,
            here,
            began: Instant::now(),
            checkpoints: Checkpoints::new(transfer, every_bytes),
            rounds,
            empty_promises: BTreeMap::new(),
            on_their_way: BTreeMap::new(),
        }
    }

    /// Receive every page and chunk. `heard` is what peers said before.
    pub(super) async fn receive(
        &mut self,
        mut gather: Gather,
        heard: Vec<(NodeId, News)>,
    ) -> Result<Gather, PullError> {
        for (node, news) in heard {
            self.hear(node, Heard::News(news));
        }
        // Some may have been left meanwhile.
        self.followed.everybody();
        gather = self.pages_held(gather).await?;
        self.heed();
        let mut flight = Flight::new();
        loop {
            // What peers say without end must not keep this from being stopped.
            consume_budget().await;
            gather = self.ask(gather, &mut flight).await?;
            if self.plan.left() == 0 {
                self.checkpoints.finish().await?;
                return Ok(gather);
            }
            if flight.is_empty() && self.followed.is_empty() {
                if let Err(error) = self.rounds.nobody_left(&mut self.followed).await {
                    return self.give_up(gather, error).await;
                }
                self.heed();
                continue;
            }
            let pause = self.rounds.pause(flight.is_empty());
            tokio::select! {
                biased;
                () = rounds::at(pause) => {
                    match self.rounds.paused(&mut self.followed) {
                        Ok(left) => left.into_iter().for_each(|node| self.plan.left_by(node)),
                        Err(error) => return self.give_up(gather, error).await,
                    }
                }
                () = self.pull.nudge.notified() => self.heed(),
                Some(fetched) = flight.next() => if let Ok(fetched) = fetched {
                    gather = self.take(gather, fetched.map_err(PullError::Worker)?).await?;
                },
                done = self.checkpoints.go_on() => done?,
                (node, heard) = self.followed.next() => self.hear(node, heard),
                () = sleep(TICK), if self.plan.waits() => {}
            }
        }
    }

    /// Nobody has the rest: keep what has come for a pull that finds somebody.
    async fn give_up(&mut self, gather: Gather, error: PullError) -> Result<Gather, PullError> {
        self.checkpoints.finish_with(gather).await?;
        Err(error)
    }

    /// Hear of nobody any more.
    pub(super) fn finish(self) -> Checkpoints {
        self.checkpoints
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// What readers and peers wish.
    fn heed(&mut self) {
        heed_met(&mut self.followed, self.pull);
        if let Some(contents) = &self.contents {
            let cursors: Vec<usize> =
                self.pull.read_at().into_iter().filter_map(|at| contents.for_reader(at)).collect();
            self.plan.read_at(cursors.into_iter(), self.began.elapsed());
        }
    }

    fn hear(&mut self, node: NodeId, heard: Heard) {
        let now = self.now();
        match heard {
            Heard::News(News::Nothing | News::Ended) => self.plan.left_by(node),
            Heard::News(News::Has { pieces, backlog }) => {
                self.joined(node);
                let count = self.plan.count();
                if pieces.iter().any(|piece| *piece as usize >= count) {
                    return self.ban(node, &Breach::NoSuchPiece.into());
                }
                pieces.into_iter().for_each(|piece| self.plan.has(node, piece as usize));
                self.plan.backlog(node, backlog, now);
            }
            Heard::News(News::Whole { backlog }) => {
                self.joined(node);
                self.plan.is_whole(node);
                self.plan.backlog(node, backlog, now);
            }
            Heard::Gone(error) => {
                count_breach(self.transfer, &error);
                self.plan.left_by(node);
                self.rounds.lost(node, &error);
            }
        }
    }

    fn joined(&mut self, node: NodeId) {
        let place = self.followed.place(node);
        self.plan.joined(node, site_number(&place), place == self.here);
    }

    fn ban(&mut self, node: NodeId, error: &AskError) {
        count_breach(self.transfer, error);
        self.rounds.lost(node, error);
        self.followed.ban(node);
        self.plan.left_by(node);
    }

    /// Take up the pages that are here already.
    async fn pages_held(&mut self, mut gather: Gather) -> Result<Gather, PullError> {
        let digests: Vec<Digest> = self.root.pages().iter().map(|page| page.digest).collect();
        for (batch, digests) in digests.chunks(PAGES_AT_ONCE).enumerate() {
            let held;
            (gather, held) = held_blobs(self.transfer, gather, digests.to_vec()).await?;
            for (at, held) in held.into_iter().enumerate() {
                let page = batch * PAGES_AT_ONCE + at;
                match held {
                    Some(encoded) => {
                        gather = self.enter_page(gather, page, encoded).await?;
                        self.know(page, 0);
                    }
                    None => self.know(page, self.page_bytes(page)),
                }
            }
        }
        Ok(gather)
    }

    /// About how long a page is that nobody has seen.
    fn page_bytes(&self, page: usize) -> u32 {
        const USUAL: u64 = 40 << 10;
        // Nothing counts as being here, so it is at least one.
        u32::try_from((self.root.pages()[page].plain_len / 1024).clamp(1, USUAL)).unwrap_or(1)
    }

    fn know(&mut self, piece: usize, bytes: u32) {
        self.plan.know(piece, bytes);
        if bytes == 0 {
            self.pull.having.add([piece].into_iter());
        }
    }

    async fn enter_page(
        &mut self,
        mut gather: Gather,
        page: usize,
        encoded: Bytes,
    ) -> Result<Gather, PullError> {
        let Some(mut contents) = self.contents.take() else { return Err(PullError::Stopped) };
        let enter = move || {
            let known = contents.enter_page(&mut gather, page, &encoded);
            (gather, contents, known)
        };
        let (gather, contents, known) = self.transfer.workers.run(enter).await.map_err(PullError::Worker)?;
        self.contents = Some(contents);
        for (piece, bytes) in known? {
            self.know(piece, bytes);
        }
        Ok(gather)
    }

    /// Ask for whatever the plan says.
    async fn ask(&mut self, mut gather: Gather, flight: &mut Flight) -> Result<Gather, PullError> {
        while let Some(fetch) = self.plan.next(self.now()) {
            let Some(mut contents) = self.contents.take() else { return Err(PullError::Stopped) };
            let look = move || {
                let wants = contents.wants(&mut gather, fetch.piece);
                (gather, contents, wants)
            };
            let (again, contents, wants) =
                self.transfer.workers.run(look).await.map_err(PullError::Worker)?;
            (gather, self.contents) = (again, Some(contents));
            let wants = wants?;
            if wants.is_empty() {
                self.kept(fetch);
                continue;
            }
            match self.followed.link(fetch.from) {
                Some(link) => {
                    let fetched = fetch_piece(link, self.transfer.workers, self.name, fetch, wants);
                    let (fetched, take_back) = abortable(fetched);
                    self.on_their_way.insert((fetch.piece, fetch.from), take_back);
                    flight.push(Box::pin(fetched));
                }
                None => self.plan.left_by(fetch.from),
            }
        }
        Ok(gather)
    }

    /// Every chunk of a piece is here.
    fn kept(&mut self, fetch: Fetch) {
        if !self.plan.is_here(fetch.piece) {
            self.pull.having.add([fetch.piece].into_iter());
        }
        for other in self.plan.got(fetch.piece, fetch.from, self.now()) {
            if let Some(take_back) = self.on_their_way.remove(&(fetch.piece, other)) {
                take_back.abort();
            }
        }
    }

    /// Keep what came, and think of whoever sent it what it deserves.
    async fn take(&mut self, mut gather: Gather, fetched: Fetched) -> Result<Gather, PullError> {
        let Fetched { fetch, wants, got, outcome, over } = fetched;
        let Fetch { piece, from } = fetch;
        self.on_their_way.remove(&(piece, from));
        let complete = got.iter().all(Option::is_some);
        let received: u64 = got.iter().flatten().map(|parcel| parcel.bytes.len() as u64).sum();
        if received > 0 {
            self.rounds.brought();
            let distance = Distance::between(&self.here, &self.followed.place(from));
            self.transfer.traffic.received(distance, over, received);
        }
        if piece < self.root.pages().len() {
            if let Some(Some(page)) = got.into_iter().next()
                && !self.plan.is_here(piece)
            {
                gather = self.enter_page(gather, piece, page.bytes).await?;
            }
        } else if received > 0 {
            gather = self.write(gather, wants, got).await?;
        }
        if complete {
            self.kept(fetch);
            if piece < self.root.pages().len() {
                self.heed();
            }
        }
        // Only then, so that readers find it.
        self.says.send_modify(|view| view.received += received);
        match outcome {
            Ok(()) if complete => {}
            Ok(()) => {
                self.plan.missed(piece, from, Setback::NotThere, self.now());
                // One whose pull has just failed says so next.
                let count = self.empty_promises.entry(from).or_default();
                *count += 1;
                let is_too_much = *count >= EMPTY_PROMISES_MAX && self.followed.link(from).is_some();
                if is_too_much && self.pull.purpose == Purpose::Ahead {
                    // An upload that was given up a moment ago.
                    self.followed.leave(from);
                    self.plan.left_by(from);
                } else if is_too_much {
                    self.ban(from, &Breach::EmptyPromise.into());
                }
            }
            Err(AskError::Busy) => self.plan.missed(piece, from, Setback::Busy, self.now()),
            Err(error @ AskError::Breach(_)) => self.ban(from, &error),
            Err(error @ (AskError::Unreachable(_) | AskError::Silent | AskError::Lost(_))) => {
                // Once for all that was asked of it.
                if self.followed.link(from).is_some() {
                    self.rounds.lost(from, &error);
                    self.followed.leave(from);
                }
                self.plan.left_by(from);
            }
        }
        Ok(gather)
    }

    async fn write(
        &mut self,
        mut gather: Gather,
        wants: Vec<Want>,
        got: Vec<Option<Parcel>>,
    ) -> Result<Gather, PullError> {
        let write = move || {
            for (want, parcel) in wants.iter().zip(got) {
                // It may have come with another piece meanwhile.
                if let Some(parcel) = parcel
                    && gather.is_new(&want.digest)?
                {
                    gather.add_parcel(want.digest, &parcel, BlobKind::Chunk);
                }
            }
            gather.write_run()?;
            Ok::<_, KeepError>(gather)
        };
        let mut gather = self.transfer.workers.run(write).await.map_err(KeepError::Disk)??;
        self.checkpoints.begin_if_due(&mut gather);
        poll_fn(|cx| Poll::Ready(self.checkpoints.check(cx))).await?;
        Ok(gather)
    }
}

/// Sites as the plan counts them: by a hash of the name, so that all nodes agree.
fn site_number(place: &Place) -> u64 {
    let Digest([a, b, c, d, e, f, g, h, ..]) = Digest::of(place.site.as_bytes());
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}
