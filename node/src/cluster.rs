//! The `cluster` commands: what an operator says, and to whom.
//!
//! `init`, `join` and `recover` open the data directory of a node that does not run. The others are
//! requests to the API of one that does.

mod table;

use anyhow::{Context, anyhow, bail, ensure};
use axum::http::Method;
use peerglass_catalog::NodeEntry;
use peerglass_consensus::{Consensus, ConsensusDisk, ConsensusSettings};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use crate::cli::{AdminOptions, ClusterCommand, MemberOptions, ServeOptions, TokenOptions};
use crate::client::Client;
use crate::config::Settings;
use crate::peers::{Search, join};
use crate::surroundings::Surroundings;

/// Carry one command out.
///
/// # Errors
///
/// Each says what to do about it; none leaves a data directory half made.
pub async fn run(command: &ClusterCommand) -> anyhow::Result<()> {
    match command {
        ClusterCommand::Init(options) => init(options).await,
        ClusterCommand::Join { token, discover, options } => join_cluster(token, *discover, options).await,
        ClusterCommand::Recover { yes, options } => recover(*yes, options).await,
        ClusterCommand::Token(options) => token(options).await,
        ClusterCommand::Status(admin) => status(admin).await,
        ClusterCommand::Promote(options) => change(options, Method::POST, "/promote").await,
        ClusterCommand::Demote(options) => change(options, Method::POST, "/demote").await,
        ClusterCommand::TransferLeader(options) => change(options, Method::POST, "/transfer-leader").await,
        ClusterCommand::Remove(options) => change(options, Method::DELETE, "").await,
    }
}

/// Refuse to serve as one of several nodes from a data directory that was never made one: an operator whose
/// disk is not mounted would get a new, empty cluster that answers in the place of his. Changes nothing.
///
/// # Errors
///
/// When there is to be a peer port, and `belongs` says that the directory is no cluster's.
pub fn check_founded(settings: &Settings, belongs: bool) -> anyhow::Result<()> {
    ensure!(
        settings.cluster.listen.is_empty() || belongs,
        "{} belongs to no cluster yet (is its disk mounted?): `peerglass cluster init` makes it the first node of a \
         new one, `peerglass cluster join TOKEN` lets it join another",
        settings.storage.data_dir.display()
    );
    Ok(())
}

/// Refuse to serve alone as one of several: without a peer port nobody would ever hear of it.
///
/// # Errors
///
/// When there are other members, and no peer port.
pub fn check_reachable(settings: &Settings, consensus: &Consensus) -> anyhow::Result<()> {
    let others = consensus.others().len();
    ensure!(
        !settings.cluster.listen.is_empty() || others == 0,
        "this node is a member of a cluster with {others} other(s): give it its peer port again, with --peer-listen \
         ADDRESS:PORT or cluster.listen"
    );
    Ok(())
}

async fn init(options: &ServeOptions) -> anyhow::Result<()> {
    let settings = Settings::load(options)?;
    let address = settings.cluster.reachable().map_err(|address| {
        anyhow!("{address} is no address that other nodes can use; give --advertise ADDRESS:PORT")
    })?;
    let address = address.context("a cluster needs a peer port: give --peer-listen ADDRESS:PORT")?;
    let surroundings = Surroundings::of_this_machine(&settings).await?;
    let log = &*surroundings.disk.log;
    if let Some(cluster) = peerglass_consensus::belongs_to(log)? {
        bail!("this data directory belongs to cluster {cluster} already; start it with `peerglass serve`");
    }
    let entry = NodeEntry {
        key: surroundings.key.peer_key(),
        address,
        site: settings.cluster.site.clone(),
        rack: settings.cluster.rack.clone(),
        ..NodeEntry::default()
    };
    let disk = ConsensusDisk { log: surroundings.disk.log, state: surroundings.disk.state };
    let settings = ConsensusSettings { entry: entry.clone(), ..ConsensusSettings::default() };
    let consensus = Consensus::open(settings, disk, None, surroundings.seed).await?;
    consensus.read(|_| ()).await?;
    let status = consensus.status();
    consensus.stop().await;
    println!("cluster {} has its first node: {} ({})", status.cluster, status.node, entry.key);
    println!(
        "start it with `peerglass serve --peer-listen`, as you gave it here, then let others in with `peerglass \
         cluster token`"
    );
    Ok(())
}

async fn join_cluster(token: &str, discover: bool, options: &ServeOptions) -> anyhow::Result<()> {
    let settings = Settings::load(options)?;
    let surroundings = Surroundings::of_this_machine(&settings).await?;
    let search = if discover { Search::Lan } else { Search::Named };
    let joined = join(&settings, &surroundings, token, search).await?;
    println!("joined cluster {} as node {} ({})", joined.cluster, joined.node.0, surroundings.key.peer_key());
    println!(
        "start it with `peerglass serve`; it then fetches what the {} other node(s) have",
        joined.members
    );
    Ok(())
}

async fn recover(yes: bool, options: &ServeOptions) -> anyhow::Result<()> {
    let settings = Settings::load(options)?;
    let surroundings = Surroundings::of_this_machine(&settings).await?;
    let disk = ConsensusDisk { log: surroundings.disk.log, state: surroundings.disk.state };
    let recovery = peerglass_consensus::recover(&disk, yes).await?;
    println!("node {} would go on alone as cluster {}", recovery.node.0, recovery.cluster);
    println!(
        "its log ends at entry {}; it knows {} of them to be committed",
        recovery.last_log, recovery.committed
    );
    println!(
        "entries behind that end, which only the lost nodes may have, are gone; nobody can tell from here how many"
    );
    for (node, entry) in &recovery.lost {
        println!("shut out for ever: node {} at {} ({})", node.0, entry.address, entry.key);
    }
    ensure!(yes, "nothing was changed; if the nodes above are really lost, say it again with --yes");
    println!("done; start it with `peerglass serve` and let new nodes in with `peerglass cluster token`");
    Ok(())
}

async fn token(options: &TokenOptions) -> anyhow::Result<()> {
    let wanted = json!({
        "role": options.role,
        "site": options.site,
        "rack": options.rack,
        "expires_s": options.expires,
    });
    let client = Client::new(&options.admin)?;
    let answer = client.ask(Method::POST, "/v2/cluster/tokens", Some(&wanted)).await?;
    if options.admin.json {
        println!("{answer}");
    } else {
        println!("{}", answer["token"].as_str().context("the node answered without a token")?);
    }
    Ok(())
}

async fn status(admin: &AdminOptions) -> anyhow::Result<()> {
    let answer = Client::new(admin)?.ask(Method::GET, "/v2/cluster", None).await?;
    if admin.json {
        println!("{answer:#}");
    } else {
        print!("{}", table::of(&answer));
    }
    Ok(())
}

async fn change(options: &MemberOptions, method: Method, action: &str) -> anyhow::Result<()> {
    let member = utf8_percent_encode(&options.member, NON_ALPHANUMERIC);
    let path = format!("/v2/cluster/members/{member}{action}");
    let answer = Client::new(&options.admin)?.ask(method, &path, None).await?;
    if options.admin.json {
        println!("{}", if answer == Value::Null { json!({}) } else { answer });
    } else {
        println!("done");
    }
    Ok(())
}
