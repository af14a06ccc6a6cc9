//! Marks and pins: what the catalog says of who keeps bytes.

use std::collections::BTreeSet;

use peerglass_catalog::{Command, Naming, NodeId, Outcome, Refusal};

use crate::lifecycle::{AT, FIRST, World, content};

fn pin(world: &World, image: peerglass_catalog::ImageId, site: &str) -> Result<Outcome, Refusal> {
    world.run(Command::PinImage { image, site: site.to_owned(), at: AT })
}

fn sites(names: &[&str]) -> BTreeSet<String> {
    names.iter().copied().map(str::to_owned).collect()
}

#[test]
fn a_node_is_out_until_it_is_heard_of_again_or_forgotten() {
    let world = World::new();
    let mark = |node, out| world.run(Command::MarkNode { node: NodeId(node), out, at: AT }).unwrap();
    let out = || world.ask(|catalog| catalog.nodes_out().unwrap());
    mark(1, true);
    mark(u64::MAX, true);
    mark(2, false);
    mark(1, true);
    assert_eq!(out(), [(NodeId(1), AT), (NodeId(u64::MAX), AT)]);
    mark(1, false);
    world.run(Command::ForgetNode { node: NodeId(u64::MAX), at: AT }).unwrap();
    assert_eq!(out(), []);
}

#[test]
fn pins_are_few_belong_to_an_image_and_go_with_it() {
    let world = World::new();
    let id = world.create();
    let changes = || world.ask(|catalog| catalog.pin_changes().unwrap());
    assert_eq!(pin(&world, id, "a"), Ok(Outcome::Noted), "before it has bytes as well");
    assert_eq!(pin(&world, id, "a"), Ok(Outcome::Noted));
    assert_eq!(changes(), 1, "the second changed nothing");
    for site in 1..16 {
        pin(&world, id, &site.to_string()).unwrap();
    }
    assert_eq!(pin(&world, id, ""), Err(Refusal::TooManyPins { image: id, max: 16 }));
    pin(&world, id, "a").unwrap();
    let unpin = |site: &str| world.run(Command::UnpinImage { image: id, site: site.to_owned(), at: AT });
    for site in 1..16 {
        unpin(&site.to_string()).unwrap();
    }
    assert_eq!(unpin("1"), Err(Refusal::NoSuchPin { image: id, site: "1".to_owned() }));
    world.begin(id, FIRST).unwrap();
    world.finish(id, FIRST).unwrap();
    let naming = || world.ask(|catalog| catalog.naming(&content().manifest).unwrap());
    assert_eq!(naming(), Naming { first: Some(id), pins: Some(sites(&["a"])) });
    let (kept, last) = world.ask(|catalog| catalog.kept_after(None, 10).unwrap());
    assert_eq!((kept.len(), &kept[0].pins, last), (1, &sites(&["a"]), Some(id)));
    assert_eq!(world.ask(|catalog| catalog.kept_after(last.as_ref(), 10).unwrap()), (vec![], None));
    world.run(Command::DeleteImage { image: id, at: AT }).unwrap();
    let nobody = Naming { first: None, pins: Some(sites(&[])) };
    assert_eq!((naming(), world.ask(|catalog| catalog.pins(&id).unwrap())), (nobody, sites(&[])));
    assert_eq!(pin(&world, id, "a"), Err(Refusal::NoSuchImage(id)));
    assert_eq!(unpin("a"), Err(Refusal::NoSuchImage(id)));
}
