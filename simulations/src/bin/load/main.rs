//! A load generator for benchmarks: clients that each send a request, wait for its answer and send the next.
//!
//! It speaks to Peerglass over HTTP/1.1 and to etcd over gRPC, so that both meet the same clients in the same
//! run. All clients share one thread: what they take of the processor is taken from the servers beside them.
//! Prints one line of JSON.

mod etcd;
mod loop_closed;
mod peerglass;
mod tally;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::{Parser, ValueEnum};
use tokio::task::LocalSet;

use loop_closed::Plan;

/// Load a server from closed-loop clients and print what it did.
#[derive(Parser)]
#[command(name = "load")]
struct Cli {
    /// What to ask.
    target: Target,
    /// host:port; given more than once, clients take them in turn.
    #[arg(long, required = true)]
    endpoint: Vec<String>,
    /// Clients, each with one request under way.
    #[arg(long, default_value_t = 1)]
    clients: usize,
    /// How long to ask, at most.
    #[arg(long, default_value_t = 8.0)]
    seconds: f64,
    /// Requests that begin earlier are made but not counted.
    #[arg(long, default_value_t = 1.0)]
    warm_up_seconds: f64,
    /// How often to ask, at most, warming up included.
    #[arg(long, default_value_t = 4_000_000)]
    requests: u64,
    /// Size of a written record: the JSON body of an image, the value of a key.
    #[arg(long, default_value_t = 512)]
    record_bytes: usize,
    /// Connections that gRPC clients share. HTTP/1.1 clients have one each.
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// etcd: the number of the first key written. Reads ask for the keys before it.
    #[arg(long, default_value_t = 0)]
    first: u64,
}

/// What is asked.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Target {
    /// POST /v2/images.
    PeerglassWrite,
    /// GET /v2/images/ID, linearizable, of the first page of images.
    PeerglassRead,
    /// Put of a new key.
    EtcdWrite,
    /// Range of one key, linearizable.
    EtcdRead,
}

/// More clients than any figure needs, and fewer than there are ports.
const CLIENTS_MAX: usize = 4_096;

fn main() -> ExitCode {
    match load(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn load(cli: &Cli) -> anyhow::Result<()> {
    ensure!((1..=CLIENTS_MAX).contains(&cli.clients), "between 1 and {CLIENTS_MAX} clients");
    ensure!(cli.connections > 0, "at least one connection");
    let plan = Plan {
        clients: cli.clients,
        lasts: Duration::try_from_secs_f64(cli.seconds).context("--seconds")?,
        warm_up: Duration::try_from_secs_f64(cli.warm_up_seconds).context("--warm-up-seconds")?,
        requests_max: cli.requests,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tally = LocalSet::new().block_on(&runtime, async {
        match cli.target {
            Target::PeerglassWrite => {
                let asked = peerglass::Question::Create(peerglass::Template::new(cli.record_bytes)?);
                loop_closed::run(&plan, peerglass::clients(&cli.endpoint, cli.clients, asked)).await
            }
            Target::PeerglassRead => {
                let asked = peerglass::Question::Show(peerglass::first_page(&cli.endpoint).await?);
                loop_closed::run(&plan, peerglass::clients(&cli.endpoint, cli.clients, asked)).await
            }
            Target::EtcdWrite => {
                let asked =
                    etcd::Question::Put { first: cli.first, value: vec![b'x'; cli.record_bytes].into() };
                let clients = etcd::clients(&cli.endpoint, cli.clients, cli.connections, asked).await?;
                loop_closed::run(&plan, clients).await
            }
            Target::EtcdRead => {
                ensure!(cli.first > 0, "--first says how many keys there are");
                let asked = etcd::Question::Range { keys: cli.first, bytes_min: cli.record_bytes };
                let clients = etcd::clients(&cli.endpoint, cli.clients, cli.connections, asked).await?;
                loop_closed::run(&plan, clients).await
            }
        }
    })?;
    println!("{}", tally.json(cli.clients));
    Ok(())
}
