use std::sync::Arc;
use bytes::Bytes;
use futures::{StreamExt, stream};
use peerglass_catalog::*;
use peerglass_transfer::*;
fn rss() -> String { std::fs::read_to_string("/proc/self/status").unwrap().lines().filter(|l| l.starts_with("VmHWM")).collect() }
#[tokio::main]
async fn main() {
    let dir = tempfile::tempdir_in("/work/cache").unwrap();
    let t = Transfer::open(TransferSettings::default(), TransferDisk { packs: Arc::new(DirectoryPacks::open(&dir.path().join("p")).unwrap()), index: Arc::new(MemoryKeyspace::new()) }, Workers::Threads, 0).await.unwrap();
    let gib = 1u64 << 30;
    let body = |seed: u64| {
        let mut x = blake3::Hasher::new(); x.update(&seed.to_le_bytes());
        let mut r = x.finalize_xof();
        stream::iter(0..gib / 262144).map(move |_| { let mut b = vec![0u8; 262144]; r.fill(&mut b); Ok::<_, std::io::Error>(Bytes::from(b)) })
    };
    let order = || UploadOrder { announced_bytes: Some(gib), bytes_max: gib, os_hash: HashAlgorithm::Sha512, inspect: None };
    let s = std::time::Instant::now();
    { let mut b = Box::pin(body(1)); while let Some(x) = b.next().await { std::hint::black_box(x.unwrap()); } }
    println!("generate alone {:?}", s.elapsed());
    let s = std::time::Instant::now();
    let st = t.upload(order(), Box::pin(body(1))).await.unwrap();
    println!("upload {:?} {}", s.elapsed(), rss());
    let root = st.content().manifest;
    for _ in 0..2 {
        let s = std::time::Instant::now();
        let mut d = t.download(root, 0..gib).await.unwrap(); let mut n = 0;
        while let Some(x) = d.next().await { n += x.unwrap().len(); }
        println!("download {n} {:?}", s.elapsed());
    }
    let s = std::time::Instant::now();
    let zeros = Bytes::from(vec![0u8; 262144]);
    t.upload(order(), Box::pin(stream::iter(0..gib / 262144).map(|_| Ok::<_, std::io::Error>(zeros.clone())))).await.unwrap();
    println!("upload zeros {:?}", s.elapsed());
    let s = std::time::Instant::now();
    t.upload(order(), Box::pin(body(1))).await.unwrap();
    println!("upload again {:?}", s.elapsed());
    if std::env::args().nth(1).is_some() {
        let s = std::time::Instant::now();
        let all: Vec<_> = (2..10).map(|i| t.upload(order(), Box::pin(body(i)))).collect();
        for r in futures::future::join_all(all).await { r.unwrap(); }
        println!("8 uploads {:?} {}", s.elapsed(), rss());
    }
}
