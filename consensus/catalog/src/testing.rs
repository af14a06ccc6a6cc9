//! Random commands and queries from a seed, for tests of this and other packages.
//!
//! Few ids, names and projects are drawn from, so that commands meet each other: creations collide,
//! uploads are superseded, tags that are not there are removed.

use std::collections::{BTreeMap, BTreeSet};

use crate::digest::Digest;
use crate::image::{
    Content, Edit, HashAlgorithm, Image, ImageId, Limits, ManifestRoot, NodeId, Presence, Status, StoreId,
    Timestamp, Upload, UploadId, Visibility,
};
use crate::node::{JoinGrant, NodeRole, PeerKey};
use crate::query::{
    Comparison, Direction, Filter, ImageQuery, NumberField, SortKey, TextField, Viewer, VisibilityFilter,
};
use crate::{Batch, Command, Keyspace, Overlay, keyspace};

/// A small generator (SplitMix64) whose whole state is its seed.
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// The next number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.roll() % end
    }

    /// One of `choices`, which is not empty.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::try_from(self.below(choices.len() as u64)).unwrap_or(0)]
    }

    /// True once in `n` times.
    pub fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// One of twenty ids.
    pub fn image_id(&mut self) -> ImageId {
        let mut bytes = [0; 16];
        bytes[15] = u8::try_from(self.below(20)).unwrap_or(0);
        ImageId::from_random(bytes)
    }

    fn word(&mut self) -> String {
        self.pick(&["", "a", "ab", "b", "\0", "a\0b", "é", "zz"]).to_owned()
    }

    fn project(&mut self) -> Option<String> {
        self.pick(&[None, Some("red"), Some("blue")]).map(str::to_owned)
    }

    fn visibility(&mut self) -> Visibility {
        self.pick(&[Visibility::Public, Visibility::Private, Visibility::Shared, Visibility::Community])
    }

    fn format(&mut self) -> Option<String> {
        self.pick(&[None, Some("raw"), Some("raw"), Some("qcow2")]).map(str::to_owned)
    }

    fn tags(&mut self) -> BTreeSet<String> {
        (0..self.below(3)).map(|_| self.word()).collect()
    }

    /// A queued image.
    pub fn image(&mut self, at: Timestamp) -> Image {
        Image {
            id: self.image_id(),
            name: (!self.once_in(3)).then(|| self.word()),
            status: Status::Queued,
            visibility: self.visibility(),
            protected: self.once_in(8),
            hidden: self.once_in(8),
            owner: self.project(),
            container_format: self.format(),
            disk_format: self.format(),
            min_disk_gb: u32::try_from(self.below(4)).unwrap_or(0),
            min_ram_mb: 0,
            tags: self.tags(),
            properties: (0..self.below(3)).map(|_| (self.word(), self.word())).collect::<BTreeMap<_, _>>(),
            content: None,
            upload: None,
            created_at: at,
            updated_at: at,
        }
    }

    fn content(&mut self) -> Content {
        let size = self.below(4);
        Content {
            manifest: ManifestRoot(Digest::of(&[u8::try_from(size).unwrap_or(0)])),
            size,
            virtual_size: None,
            checksum: format!("{size:032x}"),
            os_hash_algo: HashAlgorithm::Sha512,
            os_hash_value: format!("{size:0128x}"),
            stores: vec![StoreId("peer".into())],
        }
    }

    fn edit(&mut self) -> Edit {
        match self.below(11) {
            0 => Edit::Name((!self.once_in(3)).then(|| self.word())),
            1 => Edit::Visibility(self.visibility()),
            2 => Edit::Hidden(self.once_in(2)),
            3 => Edit::Owner(self.project()),
            4 => Edit::DiskFormat(self.format()),
            5 => Edit::Tags(self.tags()),
            6 => Edit::AddTag(self.word()),
            7 => Edit::RemoveTag(self.word()),
            8 => Edit::SetProperty {
                name: self.word(),
                value: self.word(),
                presence: self.pick(&[Presence::Any, Presence::Absent, Presence::Present]),
            },
            9 => Edit::RemoveProperty(self.word()),
            _ => Edit::Protected(self.once_in(8)),
        }
    }

    /// A command, and the time it carries.
    pub fn command(&mut self, at: Timestamp) -> Command {
        let limits = Limits { properties_max: Some(4), tags_max: Some(4) };
        let image = self.image_id();
        let upload = UploadId(u128::from(self.below(2)));
        let node = NodeId(self.below(2));
        match self.below(18) {
            0..=3 => Command::CreateImage { image: Box::new(self.image(at)), limits },
            4..=6 => {
                let edits = (0..self.below(3)).map(|_| self.edit()).collect();
                Command::EditImage { image, edits, limits, at }
            }
            7 | 8 => Command::BeginUpload { image, upload: Upload { id: upload, node }, at },
            9 => Command::FinishUpload { image, upload, content: self.content(), at },
            10 => Command::AbortUpload { image, upload, at },
            11 => Command::Deactivate { image, at },
            12 if self.once_in(4) => Command::AbandonUploads { node, at },
            12 => Command::Reactivate { image, at },
            13 => Command::DeleteImage { image, at },
            14 => Command::ClaimManifest { image, upload, manifest: self.content().manifest },
            15 => Command::MarkNode { node, out: self.once_in(2), at },
            16 if self.once_in(3) => Command::UnpinImage { image, site: self.word(), at },
            16 => Command::PinImage { image, site: self.word(), at },
            _ => self.token_command(at),
        }
    }

    fn token_command(&mut self, at: Timestamp) -> Command {
        let token = Digest([u8::try_from(self.below(3)).unwrap_or(0); 32]);
        let key = PeerKey([u8::try_from(self.below(2)).unwrap_or(0); 32]);
        if self.once_in(2) {
            return Command::RedeemToken { token, key, node: NodeId(self.below(2)), at };
        }
        let expires_at = Timestamp(at.0 + i64::try_from(self.below(3)).unwrap_or(0) * 1_000_000);
        let grant = JoinGrant {
            role: self.pick(&[NodeRole::Voter, NodeRole::Learner]),
            site: self.word(),
            rack: String::new(),
            expires_at,
        };
        Command::IssueToken { token, grant, at }
    }

    /// A list request over the same few words.
    pub fn query(&mut self) -> ImageQuery {
        let keys = [
            SortKey::Name,
            SortKey::Status,
            SortKey::ContainerFormat,
            SortKey::DiskFormat,
            SortKey::Size,
            SortKey::Id,
            SortKey::CreatedAt,
            SortKey::UpdatedAt,
        ];
        let directions = [Direction::Ascending, Direction::Descending];
        let sort = (0..self.below(3)).map(|_| (self.pick(&keys), self.pick(&directions))).collect();
        ImageQuery {
            viewer: Viewer { admin: self.once_in(3), project: self.project() },
            visibility: match self.below(6) {
                0 => VisibilityFilter::All,
                1 => VisibilityFilter::Only(self.visibility()),
                _ => VisibilityFilter::Default,
            },
            hidden: self.once_in(6),
            filters: (0..self.below(3)).map(|_| self.filter()).collect(),
            sort: ImageQuery::sort_with_tie_break(sort),
            marker: self.once_in(2).then(|| self.image_id()),
            limit: usize::try_from(self.below(8)).unwrap_or(0),
        }
    }

    fn filter(&mut self) -> Filter {
        match self.below(6) {
            0 => Filter::Text {
                field: TextField::Name,
                any_of: (0..=self.below(3)).map(|_| self.word()).collect(),
            },
            1 => Filter::Text {
                field: self.pick(&[TextField::Status, TextField::DiskFormat, TextField::Owner]),
                any_of: vec![self.pick(&["active", "queued", "raw", "red"]).to_owned()],
            },
            2 => Filter::Tag(self.word()),
            3 => Filter::Property { name: self.word(), value: self.word() },
            4 => Filter::Text { field: TextField::Id, any_of: vec![self.image_id().to_string()] },
            _ => Filter::Number {
                field: NumberField::Size,
                comparison: Comparison::GreaterOrEqual,
                value: self.below(4),
            },
        }
    }
}

/// Apply `count` random commands to `keyspace`, `group` at a time.
pub fn populate(keyspace: &dyn Keyspace, seed: u64, count: usize, group: usize) {
    let mut dice = Dice(seed);
    let commands: Vec<_> = (0..count)
        .map(|step| {
            // Some commands share a time, so that ties have to be broken.
            let at = Timestamp(i64::try_from(step / 3).unwrap_or(0) * 1_000_000);
            dice.command(at)
        })
        .collect();
    for group in commands.chunks(group.max(1)) {
        let batch: Batch = keyspace::look(keyspace, |read| {
            let mut overlay = Overlay::new(read);
            for command in group {
                let _refused_or_done =
                    crate::apply(&mut overlay, command.clone()).expect("memory cannot fail");
            }
            overlay.into_batch()
        });
        keyspace.write(batch).expect("test disks do not fail");
    }
}
