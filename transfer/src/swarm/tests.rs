//! What the plan comes to when many nodes follow it, in virtual time.

mod world;

use std::time::Duration;

use peerglass_catalog::NodeId;
use proptest::prelude::*;

use super::{Fetch, Plan, Setback};
use world::{Shape, World};

const MBIT: f64 = 1e6 / 8.0;

/// An image of 512 MiB in pieces of 512 KiB.
fn shape(sites: &[usize]) -> Shape {
    Shape {
        sites: sites.to_vec(),
        rate: 100.0 * MBIT,
        wan_rate: 50.0 * MBIT,
        wan_delay: Duration::from_millis(20),
        pieces: 1024,
        piece_bytes: 512 << 10,
        turns: 16,
        slice: 64 << 10,
        seed: 7,
    }
}

fn last(done: &[Duration]) -> f64 {
    done.last().unwrap().as_secs_f64()
}

#[test]
fn sixteen_nodes_take_little_more_than_one_link_time_and_the_seed_sends_one_copy() {
    let mut world = World::new(shape(&[16]));
    let done = world.run();
    let (ratio, copies) = (last(&done) / world.ideal(100.0 * MBIT), world.seed_copies());
    println!("16 nodes: last/ideal {ratio:.3}, seed {copies:.3}");
    assert!(ratio < 1.1 && copies < 1.05, "{ratio} {copies}");
}

#[test]
fn each_link_between_sites_carries_one_copy() {
    for sites in [&[6, 6][..], &[4, 4, 4], &[1, 6], &[1, 4, 4, 4], &[2, 5, 1], &[6]] {
        let mut world = World::new(shape(sites));
        let done = world.run();
        let ratio = last(&done) / world.ideal(50.0 * MBIT);
        let (copies, into, out) = (world.seed_copies(), world.copies_in(), world.copies_out());
        println!("{sites:?}: last/ideal {ratio:.3}, seed {copies:.3}, in {into:.3?}, out of home {out:.3}");
        assert!(ratio < 1.2 && out < 1.05 && copies < 1.08, "{sites:?}");
        assert!(into[1..].iter().all(|copies| *copies < 1.03), "{sites:?}");
    }
}

/// A whole fleet in ten sites: how much later the last are than most. `make bench-fleet` asks for 1,000 nodes.
#[test]
fn a_fleet_ends_together() {
    let nodes: usize = std::env::var("PEERGLASS_FLEET").map_or(60, |nodes| nodes.parse().unwrap());
    let mut world = World::new(Shape { pieces: 256, slice: 512 << 10, ..shape(&[nodes / 10; 10]) });
    let done = world.run();
    let (p50, p99) = (done[done.len() / 2], done[done.len() * 99 / 100]);
    let spread = p99.as_secs_f64() / p50.as_secs_f64();
    let (ratio, into) = (last(&done) / world.ideal(50.0 * MBIT), world.copies_in());
    println!(
        "{nodes} nodes in 10 sites: p99/p50 {spread:.3}, last/ideal {ratio:.3}, seed {:.3}, into sites {:.3?}, \
         out of the seed's {:.3}",
        world.seed_copies(),
        &into[1..],
        world.copies_out()
    );
    let (spread_max, copies_max) = if nodes > 60 { (1.3, 1.05) } else { (1.1, 1.03) };
    assert!(spread <= spread_max && into[1..].iter().all(|copies| *copies <= copies_max));
}

#[test]
fn nodes_that_die_half_way_cost_the_others_little() {
    let mut world = World::new(shape(&[16]));
    for who in [3, 7, 8, 15] {
        world.dies(who, Duration::from_secs(20) + Duration::from_millis(100) * who as u32);
    }
    let done = world.run();
    let ratio = last(&done) / world.ideal(100.0 * MBIT);
    println!("4 of 15 die: last/ideal {ratio:.3}, seed {:.3}", world.seed_copies());
    assert!(ratio < 1.25, "{ratio}");
}

#[test]
fn a_slow_node_holds_up_nobody() {
    let mut world = World::new(shape(&[8]));
    world.slow(4, 10.0 * MBIT);
    let done = world.run();
    let ratio = done[done.len() - 2].as_secs_f64() / world.ideal(100.0 * MBIT);
    println!("one slow: last but it {ratio:.3}, it {:.3}", last(&done) / world.ideal(10.0 * MBIT));
    assert!(ratio < 1.5, "{ratio}");
}

#[test]
fn a_node_that_says_to_have_all_and_has_nothing_is_found_out() {
    let mut world = World::new(shape(&[8]));
    world.liar(5);
    let done = world.run();
    let ratio = last(&done) / world.ideal(100.0 * MBIT);
    println!("a liar: {ratio:.3}");
    assert!(ratio < 1.3, "{ratio}");
}

#[test]
fn when_the_seed_dies_after_one_copy_the_rest_share_what_they_have() {
    let mut world = World::new(shape(&[6]));
    // One copy takes it 42.95 s.
    world.dies(0, Duration::from_millis(48_000));
    let done = world.run();
    println!("the seed dies: {:.3}", last(&done) / world.ideal(100.0 * MBIT));
}

#[test]
fn a_reader_gets_what_it_waits_for_first() {
    let mut plan = Plan::new(NodeId(1), 0, 1000, 3);
    plan.joined(NodeId(2), 0, true);
    plan.is_whole(NodeId(2));
    (0..1000).for_each(|piece| plan.know(piece, 1 << 20));
    plan.read_at([700].into_iter(), Duration::ZERO);
    let asked: Vec<usize> =
        std::iter::from_fn(|| plan.next(Duration::ZERO)).map(|fetch| fetch.piece).collect();
    assert_eq!(asked, [700, 701]);
}

/// A reader goes on to somebody else when whoever was asked does not answer, and only until it has the piece.
#[test]
fn a_reader_is_helped_past_one_who_does_not_answer() {
    let mut plan = Plan::new(NodeId(1), 0, 4, 3);
    for node in [2, 3] {
        plan.joined(NodeId(node), 0, true);
        plan.is_whole(NodeId(node));
    }
    (0..4).for_each(|piece| plan.know(piece, 1 << 20));
    plan.read_at([0].into_iter(), Duration::ZERO);
    let first = plan.next(Duration::ZERO).unwrap();
    while plan.next(Duration::ZERO).is_some() {}
    let later = Duration::from_secs(5);
    let second = plan.next(later).unwrap();
    assert_eq!((first.piece, second.piece), (0, 0));
    assert_ne!(first.from, second.from);
    assert_eq!(plan.got(0, second.from, later), [first.from], "who need not send it any more");
    let more: Vec<usize> = std::iter::from_fn(|| plan.next(later)).map(|fetch| fetch.piece).collect();
    assert!(!more.contains(&0), "{more:?}");
}

/// What is on its way for long at the end is asked of one more, who has nothing else to do, and of no third.
#[test]
fn the_last_pieces_are_asked_for_once_more() {
    const PIECES: usize = 4;
    let mut plan = Plan::new(NodeId(1), 0, PIECES, 3);
    for node in [2, 3, 4] {
        plan.joined(NodeId(node), 0, true);
    }
    (0..PIECES).for_each(|piece| plan.has(NodeId(2), piece));
    (0..PIECES).for_each(|piece| plan.know(piece, 1 << 20));
    let at = Duration::from_millis;
    let all_at = |plan: &mut Plan, ms| -> Vec<Fetch> { std::iter::from_fn(|| plan.next(at(ms))).collect() };
    let mut first = all_at(&mut plan, 0);
    first.extend(first.clone().iter().flat_map(|fetch| {
        assert_eq!(plan.got(fetch.piece, fetch.from, at(100)), []);
        all_at(&mut plan, 100)
    }));
    assert_eq!(plan.left(), 2, "on their way from the only one who has them");
    for node in [3, 4] {
        (0..PIECES).for_each(|piece| plan.has(NodeId(node), piece));
    }
    plan.backlog(NodeId(3), 0, at(400));
    plan.backlog(NodeId(4), 1, at(400));
    assert_eq!(all_at(&mut plan, 590), [], "so soon they may come yet");
    let again = all_at(&mut plan, 700);
    assert_eq!(again.len(), 1, "one node is idle: {again:?}");
    assert_eq!(again[0].from, NodeId(3));
    plan.backlog(NodeId(4), 0, at(800));
    let more = all_at(&mut plan, 900);
    assert_eq!(more.len(), 1, "{more:?}");
    assert_ne!(more[0].piece, again[0].piece);
    assert_eq!(plan.got(again[0].piece, NodeId(3), at(950)), [NodeId(2)], "who need not send it any more");
    assert_eq!(plan.got(more[0].piece, NodeId(2), at(950)), [NodeId(4)]);
    assert!(plan.is_sound() && plan.left() == 0);
}

/// What peers say and do, in any order, as often as they like.
#[derive(Clone, Debug)]
enum Said {
    Joined(u64),
    Has(u64, usize),
    Whole(u64),
    Backlog(u64, u64),
    Gone(u64),
    Came(usize),
    Missed(usize, bool),
    Known(usize, u32),
    ReadAt(usize),
    Ask,
    Later,
}

fn said() -> impl Strategy<Value = Said> {
    let (node, piece) = (1_u64..6, 0_usize..8);
    prop_oneof![
        node.clone().prop_map(Said::Joined),
        (node.clone(), piece.clone()).prop_map(|(node, piece)| Said::Has(node, piece)),
        node.clone().prop_map(Said::Whole),
        (node.clone(), 0_u64..10).prop_map(|(node, bytes)| Said::Backlog(node, bytes)),
        node.prop_map(Said::Gone),
        any::<usize>().prop_map(Said::Came),
        any::<(usize, bool)>().prop_map(|(at, there)| Said::Missed(at, there)),
        (piece.clone(), 0_u32..3).prop_map(|(piece, bytes)| Said::Known(piece, bytes)),
        piece.prop_map(Said::ReadAt),
        Just(Said::Ask),
        Just(Said::Later),
    ]
}

proptest! {
    /// I-S1: no peer can confuse what is counted, whatever it says.
    #[test]
    fn any_news_in_any_order_leave_the_plan_sound(said in prop::collection::vec(said(), 0..120)) {
        let mut plan = Plan::new(NodeId(0), 0, 8, 1);
        let mut flying = Vec::new();
        let mut now = Duration::ZERO;
        for said in said {
            now += Duration::from_millis(130);
            match said {
                Said::Joined(node) => plan.joined(NodeId(node), node % 2, node % 3 == 0),
                Said::Has(node, piece) => plan.has(NodeId(node), piece),
                Said::Whole(node) => plan.is_whole(NodeId(node)),
                Said::Backlog(node, bytes) => plan.backlog(NodeId(node), bytes, now),
                Said::Gone(node) => plan.left_by(NodeId(node)),
                Said::Known(piece, bytes) => plan.know(piece, bytes),
                Said::ReadAt(piece) => plan.read_at([piece].into_iter(), now),
                Said::Later => now += Duration::from_secs(3),
                Said::Ask => {
                    let fetch = plan.next(now);
                    prop_assert!(fetch.is_none_or(|fetch| !plan.is_here(fetch.piece)), "asked for what is here");
                    flying.extend(fetch);
                }
                Said::Came(at) if !flying.is_empty() => {
                    let fetch = flying.swap_remove(at % flying.len());
                    let others = plan.got(fetch.piece, fetch.from, now);
                    flying.retain(|other: &Fetch| other.piece != fetch.piece || !others.contains(&other.from));
                }
                Said::Missed(at, there) if !flying.is_empty() => {
                    let fetch = flying.swap_remove(at % flying.len());
                    let why = if there { Setback::Busy } else { Setback::NotThere };
                    plan.missed(fetch.piece, fetch.from, why, now);
                }
                Said::Came(_) | Said::Missed(..) => {}
            }
            prop_assert!(plan.is_sound(), "{plan:?}");
        }
    }
}
