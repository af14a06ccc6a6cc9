//! The look at everything after the last fault.
//!
//! Nothing fails any more, so every request must succeed, and everything must come to rest: the
//! list is complete on every node, every complete image downloads from every node, nothing is stuck,
//! no byte is leaked.

use std::time::Duration;

use tokio::time::sleep;

use super::berth::Berth;
use crate::dice::Dice;
use crate::invariants::{agreed, independent, kept_sound, listed_once, no_leak, not_stuck, whole};
use crate::oracle::Ending;
use crate::scenarios::Plan;
use crate::workload::observed::Observed;
use crate::workload::{Client, Downloaded, Scene};

/// The host of the client that looks at everything.
pub(super) const HOST: &str = "audit";

/// Time a healed node has before it must answer, and before it must have come to rest.
const REST_S: u64 = 30;
/// How long the end of pulls is waited for: one in which nothing comes gives up after three minutes.
const PULLS_END_S: u64 = 600;

/// Time that healed nodes have to agree, once each of them answers.
const AGREEMENT_S: u64 = 10;

/// Time until the others give up the uploads of a node that will never answer again.
const ABSENT_S: u64 = 60;

/// How often an upload is tried after the last fault.
const UPLOADS_MAX: u32 = 8;

/// Faults after which a node is another one, and its uploads those of nobody.
const IDENTITY_LOST: [&str; 3] = [
    "F-C3 node removed, wiped and let in again",
    "F-D11 empty disk",
    "F-D11 node noticed that its disk was old",
];

/// Bits to flip in packs at rest.
const ROTTEN_BITS: u32 = 20;

struct Audit {
    scene: Scene,
    berths: Vec<Berth>,
    client: Client,
    dice: Dice,
    /// Who still lies.
    liar: Option<usize>,
}

/// Look at everything. Broken promises end up in the chronicle.
pub(super) async fn run(scene: Scene, berths: Vec<Berth>, plan: Plan) {
    let client = Client::new("audit", scene.clone());
    let dice = Dice::new(scene.seed, "where the audit looks");
    let liar = plan.liar.filter(|liar| liar.to_the_end).map(|liar| liar.node);
    let mut audit = Audit { scene, berths, client, dice, liar };
    let mut images = None;
    for node in 0..audit.berths.len() {
        audit.client.stay_at(node);
        images = audit.wait_for_list().await;
        if images.is_none() {
            return;
        }
    }
    if audit.berths.len() > 1 {
        audit.check_agreement().await;
        if IDENTITY_LOST.iter().any(|fault| audit.scene.chronicle.has_counted(fault)) {
            images = audit.wait_for_lost_uploads().await.or(images);
        }
    }
    if plan.ends_in_blackout {
        // Every node lives anew, and they have just agreed on what to answer.
        audit.scene.oracle().settle();
    }
    let vague = audit.scene.oracle().vague() as u64;
    audit.scene.chronicle.count_many("images too vague to check", vague);
    audit.look(images.unwrap_or_default(), plan.rot).await;
}

impl Audit {
    /// I-L1: one leader, and everybody as far as it.
    async fn check_agreement(&mut self) {
        let mut doubt = None;
        for _ in 0..AGREEMENT_S * 10 {
            let standings: Vec<_> = self.berths.iter().map(|it| it.standing().map(|(_, it)| it)).collect();
            doubt = agreed::check(&standings, AGREEMENT_S);
            if doubt.is_none() {
                return;
            }
            sleep(Duration::from_millis(100)).await;
        }
        doubt.into_iter().for_each(|doubt| self.scene.chronicle.violate(doubt));
    }

    /// Have any node take an upload next, but one that lies: those it asks to hold a copy would not get one.
    fn turn_to_honest(&mut self) {
        let among: Vec<usize> = (0..self.berths.len()).filter(|node| Some(*node) != self.liar).collect();
        let node = *self.dice.pick(&among);
        self.client.stay_at(node);
    }

    /// Ask any node next.
    fn turn(&mut self) {
        self.client.stay_at(self.dice.index(self.berths.len()));
    }

    /// The list, once the node answers.
    async fn wait_for_list(&mut self) -> Option<Vec<Observed>> {
        for _ in 0..REST_S * 5 {
            if let Some(found) = self.client.list().await {
                return Some(found);
            }
            sleep(Duration::from_millis(200)).await;
        }
        self.scene.chronicle.violate(not_stuck::silent(REST_S, "no complete list"));
        None
    }

    /// The list, once no upload is left of nodes that are gone, or ought to be.
    async fn wait_for_lost_uploads(&mut self) -> Option<Vec<Observed>> {
        let mut found = None;
        for _ in 0..ABSENT_S + REST_S {
            self.turn();
            found = self.client.list().await;
            let images = found.as_deref().unwrap_or_default();
            if found.is_some() && images.iter().all(|image| image.status != "saving") {
                break;
            }
            sleep(Duration::from_secs(1)).await;
        }
        found
    }

    async fn look(&mut self, images: Vec<Observed>, rot: bool) {
        for found in &images {
            if !self.scene.oracle().adopt(found) {
                let ids = [found.id.clone()];
                let phantom = listed_once::check(&ids, &Default::default(), &Default::default());
                phantom.into_iter().for_each(|phantom| self.scene.chronicle.violate(phantom));
            }
        }
        let known = self.scene.oracle().ids();
        for image in known {
            self.turn();
            self.client.show(&image).await;
        }
        let interrupted = self.interrupt_uploads().await;
        self.settle().await;
        for image in interrupted {
            self.turn_to_honest();
            if !self.upload(&image).await {
                self.scene.chronicle.violate(not_stuck::stuck(&image, "it takes no second upload", REST_S));
            }
        }
        let mut images = self.settle().await;
        self.check_leaks(images.len()).await;
        self.download_all(&images, 0).await;
        self.check_kept().await;
        if rot {
            self.check_rot(&images).await;
            return;
        }
        let kept = images.split_off(images.len() / 2);
        self.delete_all(&images).await;
        self.check_leaks(kept.len()).await;
        self.download_all(&kept, images.len()).await;
        self.delete_all(&kept).await;
        self.check_leaks(0).await;
    }

    /// I-L11 without any crash: the node itself has to notice a client that went away.
    async fn interrupt_uploads(&mut self) -> Vec<String> {
        let mut interrupted = Vec::new();
        for announced in [true, false] {
            self.turn();
            if let Some(image) = self.client.create().await {
                self.client.upload_cut(&image, announced).await;
                interrupted.push(image);
            }
        }
        interrupted
    }

    /// Whether an upload succeeds: at once on a lone node; in a cluster that just healed it may be told
    /// to come again.
    async fn upload(&mut self, image: &str) -> bool {
        let mut unknown = false;
        for _ in 0..UPLOADS_MAX {
            match self.client.upload_whole(image).await {
                Ending::Done => return true,
                // The one before had taken effect after all.
                Ending::Refused(409) if unknown => return true,
                // What was left of an interrupted one was on its way when the image was last seen.
                Ending::Refused(409) if self.berths.len() > 1 => {}
                Ending::Unknown if self.berths.len() > 1 => unknown = true,
                Ending::Unknown | Ending::Refused(_) | Ending::NoRoom => return false,
            }
            self.scene.chronicle.count("upload told to come again after the last fault");
            sleep(Duration::from_secs(1)).await;
        }
        false
    }

    /// The ids of all images, once none of them is in the middle of something.
    async fn settle(&mut self) -> Vec<String> {
        for _ in 0..REST_S {
            self.turn();
            let Some(images) = self.client.list().await else { continue };
            if images.iter().all(|image| image.status != "saving") {
                return images.into_iter().map(|image| image.id).collect();
            }
            sleep(Duration::from_secs(1)).await;
        }
        for image in self.client.list().await.unwrap_or_default() {
            if image.status == "saving" {
                self.scene.chronicle.violate(not_stuck::stuck(&image.id, &image.status, REST_S));
            }
        }
        Vec::new()
    }

    /// I-D6 on every node, as soon as it holds and within [`REST_S`] of the end of the last pull: a peer that lies can
    /// make one take longer than that, but not for ever.
    async fn check_leaks(&mut self, images: usize) {
        let mut leaking: Vec<Berth> = self.berths.clone();
        let mut leak = None;
        let (mut rested, mut waited) = (0, 0);
        while rested < REST_S && waited < PULLS_END_S {
            sleep(Duration::from_secs(1)).await;
            let is_pulling = |berth: &Berth| berth.usage().is_some_and(|usage| usage.pulls > 0);
            rested = if leaking.iter().any(is_pulling) { 0 } else { rested + 1 };
            waited += 1;
            leaking.retain(|berth| {
                let Some(usage) = berth.usage() else { return true };
                leak = no_leak::check(&berth.list_packs(), &usage, images);
                leak.is_some()
            });
            if leaking.is_empty() {
                return;
            }
        }
        leak.into_iter().for_each(|leak| self.scene.chronicle.violate(leak));
    }

    /// Every image with bytes downloads whole from every node; `deleted` others are gone.
    async fn download_all(&mut self, images: &[String], deleted: usize) {
        for node in 0..self.berths.len() {
            self.client.stay_at(node);
            self.download_each(images, deleted).await;
        }
    }

    async fn download_each(&mut self, images: &[String], deleted: usize) {
        for image in images {
            let has_bytes = self.scene.oracle().certain_content(image).is_some();
            let got = match self.client.download(image).await {
                Downloaded::Whole => continue,
                Downloaded::Nothing if !has_bytes => continue,
                Downloaded::Nothing => "no bytes".to_owned(),
                Downloaded::Failed(how) => how,
            };
            let withheld = whole::withheld(image, got.clone());
            let violation =
                if deleted > 0 { Some(independent::harmed(image, deleted, &got)) } else { withheld };
            violation.into_iter().for_each(|violation| self.scene.chronicle.violate(violation));
        }
    }

    /// I-D9 on every node whose disks are sound, also for what nobody has read.
    async fn check_kept(&mut self) {
        for berth in self.berths.iter().filter(|berth| berth.has_sound_disks()) {
            let Some(transfer) = berth.transfer() else { continue };
            // Where the node was in its own round, and then all.
            for _ in 0..2 {
                while let Ok(Some(scrubbed)) = transfer.scrub_next(u64::MAX).await {
                    let manifest = scrubbed.manifest.0.to_string();
                    let bad = kept_sound::reread(berth.name(), &manifest, scrubbed.damaged);
                    bad.into_iter().for_each(|bad| self.scene.chronicle.violate(bad));
                }
            }
        }
    }

    async fn delete_all(&mut self, images: &[String]) {
        for image in images {
            self.turn();
            if self.client.delete(image).await != Ending::Done {
                self.scene.chronicle.violate(not_stuck::silent(0, &format!("no 204 for DELETE of {image}")));
            }
        }
    }

    /// I-D8: damaged chunks are never served. Each download is right or fails visibly, and the
    /// comparison of every byte that arrives is the oracle's. One machine of a cluster rots, and there
    /// the download may not even fail: other nodes have the bytes.
    async fn check_rot(&mut self, images: &[String]) {
        let node = self.dice.index(self.berths.len());
        self.client.stay_at(node);
        for _ in 0..ROTTEN_BITS {
            let flipped = self.berths[node].rot();
            if let Some((pack, at)) = flipped {
                self.scene.chronicle.note("world", format_args!("a bit of {pack} flips at byte {at}"));
                self.scene.chronicle.count("F-D6 bit flipped at rest");
            }
        }
        for image in images {
            if let Downloaded::Failed(_) = self.client.download(image).await {
                self.scene.chronicle.count("download refused because a chunk was rotten");
            }
        }
    }
}
