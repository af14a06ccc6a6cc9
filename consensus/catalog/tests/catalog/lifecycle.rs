//! The life of an image: what each step needs and what it leaves.

use peerglass_catalog::testing::Dice;
use peerglass_catalog::{
    Catalog, Command, Content, Digest, Edit, HashAlgorithm, Image, ImageId, Keyspace, Limits, ManifestRoot,
    MemoryKeyspace, NodeId, Outcome, Overlay, Presence, Refusal, Status, StoreId, Timestamp, Upload,
    UploadId, Visibility, apply, keyspace,
};

const NODE: NodeId = NodeId(7);
pub(crate) const FIRST: UploadId = UploadId(1);
const SECOND: UploadId = UploadId(2);
pub(crate) const AT: Timestamp = Timestamp(1_000_000);

pub(crate) struct World(MemoryKeyspace);

impl World {
    pub(crate) fn new() -> Self {
        Self(MemoryKeyspace::new())
    }

    pub(crate) fn run(&self, command: Command) -> Result<Outcome, Refusal> {
        let (batch, result) = keyspace::look(&self.0, |read| {
            let mut overlay = Overlay::new(read);
            let result = apply(&mut overlay, command).unwrap();
            (overlay.into_batch(), result)
        });
        assert!(result.is_ok() || batch.is_empty(), "a refusal changes nothing");
        self.0.write(batch).unwrap();
        result
    }

    pub(crate) fn ask<T>(&self, question: impl FnOnce(&Catalog<'_>) -> T) -> T {
        keyspace::look(&self.0, |read| question(&Catalog::new(read)))
    }

    fn image(&self, id: ImageId) -> Option<Image> {
        self.ask(|catalog| catalog.image(&id).unwrap())
    }

    pub(crate) fn create(&self) -> ImageId {
        let image = blank(Dice(1).image_id());
        self.run(Command::CreateImage { image: Box::new(image.clone()), limits: Limits::default() }).unwrap();
        image.id
    }

    pub(crate) fn begin(&self, image: ImageId, id: UploadId) -> Result<Outcome, Refusal> {
        self.run(Command::BeginUpload { image, upload: Upload { id, node: NODE }, at: AT })
    }

    pub(crate) fn finish(&self, image: ImageId, upload: UploadId) -> Result<Outcome, Refusal> {
        self.run(Command::FinishUpload { image, upload, content: content(), at: AT })
    }

    fn edit(&self, image: ImageId, edits: Vec<Edit>) -> Result<Outcome, Refusal> {
        let limits = Limits { properties_max: Some(2), tags_max: Some(2) };
        self.run(Command::EditImage { image, edits, limits, at: AT })
    }
}

fn blank(id: ImageId) -> Image {
    Image {
        id,
        name: None,
        status: Status::Queued,
        visibility: Visibility::Shared,
        protected: false,
        hidden: false,
        owner: Some("red".into()),
        container_format: Some("bare".into()),
        disk_format: Some("raw".into()),
        min_disk_gb: 0,
        min_ram_mb: 0,
        tags: Default::default(),
        properties: Default::default(),
        content: None,
        upload: None,
        created_at: AT,
        updated_at: AT,
    }
}

pub(crate) fn content() -> Content {
    Content {
        manifest: ManifestRoot(Digest::of(b"bytes")),
        size: 5,
        virtual_size: None,
        checksum: "00".into(),
        os_hash_algo: HashAlgorithm::Sha512,
        os_hash_value: "00".into(),
        stores: vec![StoreId("peer".into())],
    }
}

/// I-M8: the ordinary way from nothing to active.
#[test]
fn an_upload_makes_an_image_active() {
    let world = World::new();
    let id = world.create();
    world.begin(id, FIRST).unwrap();
    assert_eq!(world.image(id).unwrap().status, Status::Saving);
    world.finish(id, FIRST).unwrap();
    let image = world.image(id).unwrap();
    assert_eq!((image.status, image.content, image.upload), (Status::Active, Some(content()), None));
    assert!(world.ask(|catalog| catalog.names_manifest(&content().manifest).unwrap()));
    assert!(world.ask(|catalog| catalog.uploads_of(NODE).unwrap()).is_empty());
}

/// Two uploads race on different nodes; only the log's order can tell them apart.
#[test]
fn the_second_upload_is_refused_at_once_and_cannot_finish() {
    let world = World::new();
    let id = world.create();
    world.begin(id, FIRST).unwrap();
    assert_eq!(world.begin(id, SECOND), Err(Refusal::WrongStatus { image: id, is: Status::Saving }));
    assert_eq!(world.finish(id, SECOND), Err(Refusal::UploadSuperseded(id)));
    world.finish(id, FIRST).unwrap();
    assert_eq!(world.finish(id, FIRST), Err(Refusal::UploadSuperseded(id)), "active is final");
}

/// I-L11: whatever ended an upload, the image can be tried again, and the old upload has no say.
#[test]
fn an_aborted_upload_leaves_a_queued_image() {
    let world = World::new();
    let id = world.create();
    world.begin(id, FIRST).unwrap();
    world.run(Command::AbortUpload { image: id, upload: FIRST, at: AT }).unwrap();
    assert_eq!(world.image(id).unwrap().status, Status::Queued);
    world.begin(id, SECOND).unwrap();
    assert_eq!(world.finish(id, FIRST), Err(Refusal::UploadSuperseded(id)));
    let abort = Command::AbortUpload { image: id, upload: FIRST, at: AT };
    assert_eq!(world.run(abort), Err(Refusal::UploadSuperseded(id)));
}

#[test]
fn a_restarted_node_gives_up_its_uploads_and_nobody_elses() {
    let world = World::new();
    let id = world.create();
    world.begin(id, FIRST).unwrap();
    let abandon = |node| Command::AbandonUploads { node, at: AT };
    assert_eq!(world.run(abandon(NodeId(8))), Ok(Outcome::Abandoned(0)));
    assert_eq!(world.image(id).unwrap().status, Status::Saving);
    assert_eq!(world.run(abandon(NODE)), Ok(Outcome::Abandoned(1)));
    assert_eq!(world.image(id).unwrap().status, Status::Queued);
}

#[test]
fn bytes_need_both_formats_and_freeze_them() {
    let world = World::new();
    let id = world.create();
    world.edit(id, vec![Edit::DiskFormat(None)]).unwrap();
    assert_eq!(world.begin(id, FIRST), Err(Refusal::FormatsUnset(id)));
    world.edit(id, vec![Edit::DiskFormat(Some("qcow2".into()))]).unwrap();
    world.begin(id, FIRST).unwrap();
    let frozen = Err(Refusal::FormatsFrozen { image: id, is: Status::Saving });
    assert_eq!(world.edit(id, vec![Edit::DiskFormat(None)]), frozen);
    assert_eq!(world.edit(id, vec![Edit::ContainerFormat(None)]), frozen);
}

/// I-M9: an id is used once, deleted or not.
#[test]
fn an_id_is_never_used_again() {
    let world = World::new();
    let id = world.create();
    let again = || Command::CreateImage { image: Box::new(blank(id)), limits: Limits::default() };
    assert_eq!(world.run(again()), Err(Refusal::ImageExists(id)));
    world.run(Command::DeleteImage { image: id, at: AT }).unwrap();
    assert_eq!(world.run(again()), Err(Refusal::ImageExists(id)));
    assert_eq!(world.run(Command::DeleteImage { image: id, at: AT }), Err(Refusal::NoSuchImage(id)));
}

#[test]
fn deletion_frees_the_bytes_and_respects_protection() {
    let world = World::new();
    let id = world.create();
    world.begin(id, FIRST).unwrap();
    world.finish(id, FIRST).unwrap();
    world.edit(id, vec![Edit::Protected(true)]).unwrap();
    let delete = || Command::DeleteImage { image: id, at: AT };
    assert_eq!(world.run(delete()), Err(Refusal::Protected(id)));
    world.edit(id, vec![Edit::Protected(false)]).unwrap();
    assert_eq!(world.run(delete()), Ok(Outcome::Deleted { manifest: Some(content().manifest) }));
    assert!(!world.ask(|catalog| catalog.names_manifest(&content().manifest).unwrap()));
    assert_eq!(world.image(id), None);
}

#[test]
fn deactivation_goes_back_and_forth_between_active_and_deactivated_only() {
    let world = World::new();
    let id = world.create();
    let (off, on) = (Command::Deactivate { image: id, at: AT }, Command::Reactivate { image: id, at: AT });
    assert_eq!(world.run(off.clone()), Err(Refusal::WrongStatus { image: id, is: Status::Queued }));
    world.begin(id, FIRST).unwrap();
    world.finish(id, FIRST).unwrap();
    for (command, status) in [
        (&on, Status::Active),
        (&off, Status::Deactivated),
        (&off, Status::Deactivated),
        (&on, Status::Active),
    ] {
        world.run(command.clone()).unwrap();
        assert_eq!(world.image(id).unwrap().status, status);
    }
}

#[test]
fn edits_are_all_or_nothing_and_know_what_was_there() {
    let world = World::new();
    let id = world.create();
    let set = |name: &str, presence| Edit::SetProperty { name: name.into(), value: "1".into(), presence };
    let missing = Err(Refusal::NoSuchProperty { name: "b".into() });
    assert_eq!(world.edit(id, vec![set("a", Presence::Any), set("b", Presence::Present)]), missing);
    assert!(world.image(id).unwrap().properties.is_empty());
    world.edit(id, vec![set("a", Presence::Absent), set("a", Presence::Present)]).unwrap();
    assert_eq!(
        world.edit(id, vec![set("a", Presence::Absent)]),
        Err(Refusal::PropertyExists { name: "a".into() })
    );
    assert_eq!(
        world.edit(id, vec![Edit::RemoveTag("t".into())]),
        Err(Refusal::NoSuchTag { tag: "t".into() })
    );
}

/// RB-25, RB-26: quotas hold at the limit and one past it; what the service keeps is not counted.
#[test]
fn quotas_count_what_would_be_there() {
    let world = World::new();
    let id = world.create();
    let set =
        |name: &str| Edit::SetProperty { name: name.into(), value: String::new(), presence: Presence::Any };
    world.edit(id, vec![set("a"), set("b"), set("os_glance_x")]).unwrap();
    assert_eq!(world.edit(id, vec![set("c")]), Err(Refusal::TooManyProperties { count: 3, max: 2 }));
    world.edit(id, vec![Edit::RemoveProperty("a".into()), set("c")]).unwrap();
    world.edit(id, vec![Edit::AddTag("a".into()), Edit::AddTag("b".into())]).unwrap();
    assert_eq!(
        world.edit(id, vec![Edit::AddTag("c".into())]),
        Err(Refusal::TooManyTags { count: 3, max: 2 })
    );
    world.edit(id, vec![Edit::AddTag("a".into())]).unwrap();
}

/// What many requests add up to is bounded too, and what is too large already can shrink.
#[test]
fn a_record_does_not_grow_beyond_any_request() {
    let world = World::new();
    let id = world.create();
    let limits = Limits::default();
    let set = |name: &str, bytes: usize| {
        let value = "x".repeat(bytes);
        let edits = vec![Edit::SetProperty { name: name.to_owned(), value, presence: Presence::Any }];
        world.run(Command::EditImage { image: id, edits, limits, at: AT })
    };
    assert!(set("a", 300 << 10).is_ok());
    assert!(matches!(set("b", 300 << 10), Err(Refusal::RecordTooLarge { max: 524_288, .. })));
    assert!(set("b", 200 << 10).is_ok());
    assert!(set("a", 200 << 10).is_ok());
    let mut large = blank(Dice(2).image_id());
    large.properties = [("p".to_owned(), "x".repeat(600 << 10))].into();
    let created = world.run(Command::CreateImage { image: Box::new(large), limits });
    assert!(matches!(created, Err(Refusal::RecordTooLarge { .. })));
}
