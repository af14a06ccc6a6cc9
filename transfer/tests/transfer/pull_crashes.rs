//! A disk that fails at every step of a pull: a copy that was acknowledged is there, and nothing else is
//! (F-P1, F-D1 to F-D5, F-D8; I-D1, I-D6).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use peerglass_catalog::ManifestRoot;
use peerglass_transfer::{Transfer, TransferSettings, Workers};

use crate::bodies::noise;
use crate::crashes::chance;
use crate::exchange::settled;
use crate::world::cluster::{Network, Node};
use crate::world::faulty::{FaultyDisk, Fuse};
use crate::world::{assert_exact, read, reclaim, root, store};

/// What the copying node holds before, and the image that it takes a copy of.
fn images() -> (Vec<u8>, Vec<u8>) {
    let shared = noise(1, 200_000);
    let image = [noise(2, 100_000), shared.clone(), vec![0; 50_000], noise(3, 90_000)].concat();
    (shared, image)
}

struct Scene {
    network: Arc<Network>,
    giver: Node,
    name: ManifestRoot,
}

impl Scene {
    async fn new() -> Self {
        let network = Network::new();
        let giver = Node::start(&network, 1, &[2], Workers::Inline).await;
        let name = root(&store(&giver.transfer, &images().1).await.unwrap());
        Self { network, giver, name }
    }

    /// A node on `disk`, which makes several checkpoints of the copy it takes.
    async fn taker(&self, disk: &FaultyDisk) -> Node {
        let settings = TransferSettings {
            checkpoint_bytes: 50_000,
            resume_within: Duration::ZERO,
            ..TransferSettings::default()
        };
        let disk = (disk.disk(), settings);
        Node::start_with(&self.network, 2, &[1], Workers::Inline, disk).await.unwrap()
    }

    /// Have a node on `disk` take a copy, with `fuse` from then on. Answers with whether it was acknowledged,
    /// and with the name of what the node held before.
    async fn copy(&self, disk: &FaultyDisk, fuse: Fuse) -> (bool, ManifestRoot) {
        let taker = self.taker(disk).await;
        let before = root(&store(&taker.transfer, &images().0).await.unwrap());
        disk.rewire(fuse);
        let copied = self.giver.transfer.replicate(self.name, 1, &[]).await.is_ok();
        settled(&taker).await;
        taker.kill();
        (copied, before)
    }

    async fn settle(
        &self,
        transfer: &Transfer,
        disk: &FaultyDisk,
        copied: bool,
        before: ManifestRoot,
        when: &str,
    ) {
        let (shared, image) = images();
        let mut named = vec![before];
        let mut expected = vec![&shared[..]];
        if copied {
            let got = read(transfer, self.name, 0..image.len() as u64).await;
            assert!(got.is_ok_and(|got| got == image), "{when}: an acknowledged copy is lost");
            named.push(self.name);
            expected.push(&image);
        }
        reclaim(transfer, &named).await;
        assert_exact(transfer, disk, &expected).await;
        let got = read(transfer, before, 0..shared.len() as u64).await;
        assert!(got.is_ok_and(|got| got == shared), "{when}: what was there before is lost");
    }
}

async fn steps(scene: &Scene) -> usize {
    let disk = FaultyDisk::new(Fuse::Safe);
    assert!(scene.copy(&disk, Fuse::Safe).await.0, "a sound disk takes a copy");
    disk.steps_taken()
}

#[tokio::test]
async fn a_power_cut_during_a_pull_loses_nothing_acknowledged() {
    let scene = Scene::new().await;
    let steps = steps(&scene).await;
    assert!(steps > 10, "there are several steps to die at");
    for at in 0..=steps {
        let disk = FaultyDisk::new(Fuse::Safe);
        let (copied, before) = scene.copy(&disk, Fuse::Dead { at }).await;
        assert_eq!(copied, at == steps, "dead at step {at}");
        let disk = disk.after_power_cut(chance(at as u64 + 1), Fuse::Safe);
        let taker = scene.taker(&disk).await;
        scene.settle(&taker.transfer, &disk, copied, before, &format!("power cut at step {at}")).await;
    }
}

/// One failed step, a full disk included, fails one pull and leaves nothing behind, and the next is whole.
#[tokio::test]
async fn one_error_during_a_pull_leaks_nothing() {
    let scene = Scene::new().await;
    for kind in [io::ErrorKind::Other, io::ErrorKind::StorageFull] {
        for at in 0..steps(&scene).await {
            let disk = FaultyDisk::new(Fuse::Safe);
            let (copied, before) = scene.copy(&disk, Fuse::Once { at, kind }).await;
            disk.rewire(Fuse::Safe);
            let when = format!("{kind:?} at step {at}");
            let taker = scene.taker(&disk).await;
            scene.settle(&taker.transfer, &disk, copied, before, &when).await;
            let again = scene.giver.transfer.replicate(scene.name, 1, &[]).await;
            assert!(again.is_ok(), "{when}: {again:?}");
            scene.settle(&taker.transfer, &disk, true, before, &when).await;
            taker.kill();
        }
    }
}

/// The bytes are served even if there is no room to keep them.
#[tokio::test]
async fn a_full_disk_does_not_stop_a_download() {
    let scene = Scene::new().await;
    let (_, image) = images();
    for at in [0, 1, 2, 3] {
        let disk = FaultyDisk::new(Fuse::Full { at });
        let taker = Node::start_on(&scene.network, 2, &[1], Workers::Inline, disk.disk()).await.unwrap();
        let got = read(&taker.transfer, scene.name, 0..image.len() as u64).await;
        assert!(got.is_ok_and(|got| got == image), "full at step {at}");
        settled(&taker).await;
        taker.kill();
    }
}
