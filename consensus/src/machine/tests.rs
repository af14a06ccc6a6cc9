//! Snapshots of the state machine: written down in pieces, received, installed.

use openraft::storage::RaftSnapshotBuilder;
use peerglass_catalog::MemoryKeyspace;
use peerglass_catalog::testing::populate;

use super::*;
use crate::session::ProposalKey;
use crate::snapshot::install::Unfit;
use crate::snapshot::spool::{self, Title, Way};

fn applied_at(index: u64) -> Applied {
    let log_id = openraft::testing::log_id::<Types>(3, 1, index);
    Applied { log_id: Some(log_id), membership: Membership::default() }
}

/// A state with images, a session with one reply, and an applied mark.
fn populated(seed: u64, index: u64) -> Arc<dyn Keyspace> {
    let state = Arc::new(MemoryKeyspace::new());
    populate(&*state, seed, 100, 10);
    let (mut sessions, mut changes) = (Sessions::default(), Changes::default());
    let key = ProposalKey { node: peerglass_catalog::NodeId(seed), epoch: 1, sequence: 4 };
    sessions.judge(key, 2, &mut changes);
    sessions.remember(key, &Reply::Nothing, &mut changes);
    let mut batch = Batch::default();
    changes.write(&mut batch);
    put_applied(&mut batch, &applied_at(index));
    state.write(batch).unwrap();
    state
}

fn alone() -> tokio::sync::OwnedMutexGuard<()> {
    Arc::new(tokio::sync::Mutex::new(())).try_lock_owned().unwrap()
}

/// Everything but spools.
fn entries(state: &Arc<dyn Keyspace>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let everything = keyspace::KeyRange { from: Vec::new(), to: None };
    let entries = state.scan(everything, keyspace::Direction::Ascending).map(Result::unwrap);
    entries.filter(|(key, _)| !key.starts_with(spool::SPOOLS)).collect()
}

/// Carry pieces from one state to another, from where the receiver says it is up to `pieces_max`.
fn carry(from: &Arc<dyn Keyspace>, to: &Arc<dyn Keyspace>, title: &Title, pieces_max: u32) -> u32 {
    let have = spool::expect(&**to, title).unwrap();
    for number in have..title.pieces.min(pieces_max) {
        let piece = spool::piece(&**from, Way::Out, number).unwrap().unwrap();
        spool::keep(&**to, number, piece).unwrap();
    }
    have
}

/// I-M7: a replica that was handed a snapshot holds what the sender held, sessions included, and
/// nothing of its own.
#[tokio::test]
async fn a_received_snapshot_replaces_the_state() {
    let (sender, receiver) = (populated(1, 70), populated(2, 9));
    let title = spool::make(&sender, ()).await.unwrap();
    carry(&sender, &receiver, &title, u32::MAX);
    let mut machine = Machine::open(Arc::clone(&receiver)).await.unwrap();
    let data = SnapshotData::Received { state: Arc::clone(&receiver), _alone: alone() };
    machine.install_snapshot(&title.meta, data).await.unwrap();
    assert_eq!(*machine.watch().borrow(), 70);
    assert_eq!(entries(&receiver), entries(&sender));
    assert_eq!(machine.sessions, keyspace::look(&*sender, Sessions::load).unwrap());
    let again = Machine::open(receiver).await.unwrap();
    assert_eq!(again.applied.log_id, title.meta.last_log_id);
}

/// A transfer that broke off goes on where it was; one of another snapshot begins again.
#[tokio::test]
async fn a_transfer_is_resumed_if_it_is_the_same_snapshot() {
    let (sender, receiver) = (populated(1, 70), populated(2, 9));
    let large = vec![b'x'; 3 * spool::PIECE_BYTES];
    let mut batch = Batch::default();
    batch.put(b"#r01234567".to_vec(), Vec::new());
    batch.remove(b"#r01234567".to_vec());
    sender.write(batch).unwrap();
    // Enough text for several pieces.
    for n in 0..6u8 {
        let mut dice = peerglass_catalog::testing::Dice(u64::from(n));
        let mut image = dice.image(peerglass_catalog::Timestamp(i64::from(n)));
        image.id = peerglass_catalog::ImageId::from_random([n + 100; 16]);
        image
            .properties
            .insert("large".to_owned(), String::from_utf8(large[..spool::PIECE_BYTES / 2].to_vec()).unwrap());
        let mut overlay_batch = keyspace::look(&*sender, |read| {
            let mut overlay = Overlay::new(read);
            let limits = peerglass_catalog::Limits::default();
            let create = peerglass_catalog::Command::CreateImage { image: Box::new(image), limits };
            peerglass_catalog::apply(&mut overlay, create).unwrap().unwrap();
            overlay.into_batch()
        });
        put_applied(&mut overlay_batch, &applied_at(70));
        sender.write(overlay_batch).unwrap();
    }
    let title = spool::make(&sender, ()).await.unwrap();
    assert!(title.pieces >= 3, "{} pieces", title.pieces);
    assert_eq!(carry(&sender, &receiver, &title, 2), 0);
    assert_eq!(carry(&sender, &receiver, &title, 2), 2, "two pieces are here");
    let other = Title { digest: [0; 32], ..title.clone() };
    assert_eq!(spool::expect(&*receiver, &other).unwrap(), 0);
    carry(&sender, &receiver, &title, u32::MAX);
    install::install(&receiver).await.unwrap();
    assert_eq!(entries(&receiver), entries(&sender));
}

/// F-D6: a snapshot damaged on its way changes nothing, and the next transfer begins anew.
#[tokio::test]
async fn a_damaged_snapshot_leaves_the_state_alone() {
    let (sender, receiver) = (populated(1, 70), populated(2, 9));
    let title = spool::make(&sender, ()).await.unwrap();
    carry(&sender, &receiver, &title, u32::MAX);
    let before = entries(&receiver);
    let mut piece = spool::piece(&*receiver, Way::In, 0).unwrap().unwrap();
    piece[40] ^= 1;
    spool::keep(&*receiver, 0, piece).unwrap();
    assert!(matches!(install::check(&receiver, title.clone()).await, Err(Unfit::NotWhole)));
    assert_eq!(entries(&receiver), before);
    assert_eq!(spool::expect(&*receiver, &title).unwrap(), 0);
}

/// F-C6: a snapshot of a release that writes another version, whole as it is, changes nothing here.
#[tokio::test]
async fn a_snapshot_that_this_release_cannot_read_leaves_the_state_alone() {
    let (sender, receiver) = (populated(1, 70), populated(2, 9));
    let title = spool::make(&sender, ()).await.unwrap();
    let mut piece = spool::piece(&*sender, Way::Out, 0).unwrap().unwrap();
    let at = piece.windows(9).position(|window| window == b"PGCATALOG").unwrap() + 9;
    for (damage, says) in [(at, "version"), (5, "damaged")] {
        let good = std::mem::replace(&mut piece[damage], 77);
        let title = Title { pieces: 1, digest: *blake3::hash(&piece).as_bytes(), ..title.clone() };
        spool::expect(&*receiver, &title).unwrap();
        spool::keep(&*receiver, 0, piece.clone()).unwrap();
        let before = entries(&receiver);
        let refused = install::check(&receiver, title).await.unwrap_err();
        assert!(matches!(&refused, Unfit::Unreadable(why) if why.contains(says)), "{refused}");
        assert_eq!(entries(&receiver), before);
        assert_eq!(Machine::open(Arc::clone(&receiver)).await.unwrap().applied.index(), 9);
        piece[damage] = good;
    }
}

/// Large records are answered a few at a time, and every one of them.
#[tokio::test]
async fn a_group_is_cut_where_its_answers_get_large() {
    let state: Arc<dyn Keyspace> = Arc::new(MemoryKeyspace::new());
    let mut machine = Machine::open(Arc::clone(&state)).await.unwrap();
    let mut applied = machine.watch();
    let entries = (1..=40u64).map(|index| {
        let mut image = peerglass_catalog::testing::Dice(index).image(peerglass_catalog::Timestamp(1));
        image.id = peerglass_catalog::ImageId::from_random([index as u8; 16]);
        image.properties = [("large".to_owned(), "x".repeat(400 << 10))].into();
        let limits = peerglass_catalog::Limits::default();
        let command = peerglass_catalog::Command::CreateImage { image: Box::new(image), limits };
        let key = ProposalKey { node: peerglass_catalog::NodeId(1), epoch: 1, sequence: index };
        let payload = EntryPayload::Normal(Proposal { key, settled: 0, command: Arc::new(command) });
        (openraft::Entry { log_id: openraft::testing::log_id::<Types>(3, 1, index), payload }, None)
    });
    let mut group = entries.collect::<Vec<_>>().into_iter();
    let mut cuts = Vec::new();
    while group.len() > 0 {
        machine.apply_some(&mut group).await.unwrap();
        cuts.push(*applied.borrow_and_update());
    }
    assert_eq!(cuts, [21, 40], "8 MiB hold 20 of 400 KiB and begin the next");
    let kept = keyspace::look(&*state, |read| {
        peerglass_catalog::Catalog::new(read).image(&peerglass_catalog::ImageId::from_random([40; 16]))
    });
    assert!(kept.unwrap().is_some());
}

/// SC: the process dies in the middle of the installation. The next start finishes it.
#[tokio::test]
async fn an_interrupted_installation_is_finished_at_the_next_start() {
    let (sender, receiver) = (populated(1, 70), populated(2, 9));
    let title = spool::make(&sender, ()).await.unwrap();
    carry(&sender, &receiver, &title, u32::MAX);
    let mut half = Batch::default();
    half.put(b"#installing".to_vec(), encode(&()));
    half.clear(keyspace::KeyRange { from: Vec::new(), to: Some(b"#".to_vec()) });
    half.clear(keyspace::KeyRange { from: b"I".to_vec(), to: Some(b"K".to_vec()) });
    receiver.write(half).unwrap();
    let machine = Machine::open(Arc::clone(&receiver)).await.unwrap();
    assert_eq!(machine.applied.index(), 70);
    assert_eq!(entries(&receiver), entries(&sender));
}

/// A snapshot claims no more than what was applied before its sync, or a purge could cut too far.
#[tokio::test]
async fn a_snapshot_claims_what_is_applied() {
    let state = populated(1, 9);
    let snapshot = Builder { state }.build_snapshot().await.unwrap();
    assert_eq!(snapshot.meta.last_log_id, applied_at(9).log_id);
}
