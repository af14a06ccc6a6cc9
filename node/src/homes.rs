//! Which nodes are to keep an image, as this node knows the cluster.
//!
//! Computed from one state: the members after one log entry, and the images, marks and pins after the same one. So
//! two nodes that have applied the same entry agree, as far as their `cluster.copies` do.
//!
//! Homes are drawn from the id of the first image that has the bytes, which is known before an upload begins.

use std::collections::BTreeSet;
use std::time::Duration;

use peerglass_catalog::{Catalog, Digest, Fault, ImageId, ManifestRoot, Naming, NodeEntry, NodeId};
use peerglass_consensus::{Consensus, ConsensusError, Members};
use peerglass_transfer::{Keepers, Place, Since, placement};
use tokio::time::timeout;

/// How long an entry may take to be applied here that another node has applied.
const ENTRY_WITHIN: Duration = Duration::from_secs(3);

/// Says which nodes are to keep an image. Clones are one.
#[derive(Clone)]
pub(crate) struct Homes {
    consensus: Consensus,
    copies: usize,
}

/// The nodes among which homes are chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    nodes: Vec<(NodeId, Place)>,
    copies: usize,
}

impl Layout {
    fn new(catalog: &Catalog<'_>, members: &Members, copies: usize) -> Result<Self, Fault> {
        let out = catalog.nodes_out()?.into_iter().map(|(node, _)| node).collect::<BTreeSet<_>>();
        let reached = |(node, entry): &&(NodeId, NodeEntry)| !entry.address.is_empty() && !out.contains(node);
        let place = |entry: &NodeEntry| Place { site: entry.site.clone(), rack: entry.rack.clone() };
        let nodes = members.nodes.iter().filter(reached).map(|(node, entry)| (*node, place(entry)));
        Ok(Self { nodes: nodes.collect(), copies })
    }

    fn homes(&self, image: &ImageId) -> Vec<NodeId> {
        placement::homes(&Digest::of(image.as_str().as_bytes()), &self.nodes, self.copies)
    }

    /// The nodes that keep bytes of which `first` is the first image, and of which images are pinned to `pins`: their
    /// homes first.
    pub(crate) fn keepers(&self, first: &ImageId, pins: &BTreeSet<String>) -> Vec<NodeId> {
        let mut keepers = self.homes(first);
        let pinned = |place: &Place| pins.contains("") || pins.contains(&place.site);
        if !pins.is_empty() {
            let at_site = self.nodes.iter().filter(|(_, place)| pinned(place)).map(|(node, _)| *node);
            let more: Vec<NodeId> = at_site.filter(|node| !keepers.contains(node)).collect();
            keepers.extend(more);
        }
        keepers
    }
}

impl Homes {
    pub(crate) fn new(consensus: Consensus, copies: u32) -> Self {
        Self { consensus, copies: usize::try_from(copies).unwrap_or(usize::MAX) }
    }

    /// The nodes as this node knows them now, and the number of changes of pins.
    pub(crate) fn layout(&self) -> Result<(Layout, u64), ConsensusError> {
        let look = |catalog: &Catalog<'_>, members: &Members| {
            Ok::<_, Fault>((Layout::new(catalog, members, self.copies)?, catalog.pin_changes()?))
        };
        Ok(self.consensus.read_stale_with_members(look)??)
    }

    /// See [`Peers::homes`](peerglass_transfer::Peers::homes).
    pub(crate) fn of_image(&self, image: &ImageId) -> Vec<NodeId> {
        // While a snapshot is installed nothing is known.
        self.layout().map_or_else(|_| Vec::new(), |(layout, _)| layout.homes(image))
    }

    /// See [`Peers::keepers`](peerglass_transfer::Peers::keepers).
    pub(crate) async fn keepers(&self, root: ManifestRoot, since: Since) -> Option<Keepers> {
        match since {
            Since::Whenever => {}
            Since::Entry(at) => {
                let mut applied = self.consensus.applied();
                timeout(ENTRY_WITHIN, applied.wait_for(|applied| *applied >= at)).await.ok()?.ok()?;
            }
            Since::Now => self.consensus.read(|_| ()).await.ok()?,
        }
        let look = |catalog: &Catalog<'_>, members: &Members| {
            let layout = Layout::new(catalog, members, self.copies)?;
            let Naming { first, pins } = catalog.naming(&root)?;
            let anybody = pins.is_none();
            let pins = pins.unwrap_or_default();
            let nodes = first.map_or_else(Vec::new, |first| layout.keepers(&first, &pins));
            Ok::<_, Fault>(Keepers { at: members.at, nodes, anybody })
        };
        // A disk that fails ends the node elsewhere.
        self.consensus.read_stale_with_members(look).ok()?.ok()
    }
}
