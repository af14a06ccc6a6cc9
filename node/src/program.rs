//! The program: its command line, carried out.

use std::pin::pin;
use std::process::ExitCode;

use anyhow::anyhow;
use clap::Parser;
use tracing::{error, info};

use crate::cli::{Cli, Command, ConfigCommand, ServeOptions};
use crate::{Node, Settings, Surroundings, assemble, check_users, cluster, images, stop, telemetry};

/// Blocking threads for what is not the bytes of images. What peers fetch is part of it.
const OTHER_THREADS_MAX: usize = 512;

/// Do what the command line says. A node that starts is shown to `watch` once it is ready.
pub fn main(watch: fn(&Node)) -> ExitCode {
    let cli = Cli::parse();
    let done = match &cli.command {
        Command::Serve(options) => {
            Settings::load(options).map_err(Into::into).and_then(|settings| serve(settings, watch))
        }
        Command::Cluster(command) => runtime(0).and_then(|runtime| runtime.block_on(cluster::run(command))),
        Command::Image(command) => runtime(0).and_then(|runtime| runtime.block_on(images::run(command))),
        Command::Config(ConfigCommand::Print) => {
            print!("{}", Settings::sample());
            Ok(())
        }
        Command::Config(ConfigCommand::Check(options)) => check(options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peerglass: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What a start would refuse for the settings' sake, and the file of users they name.
fn check(options: &ServeOptions) -> anyhow::Result<()> {
    check_users(&Settings::load(options)?.auth)?;
    println!("the settings are valid");
    Ok(())
}

/// A core is left for what has threads of its own: hashing, syncing, the databases. Waking a further worker
/// for each step of a request also costs more than it brings: on two cores one worker answers a lone
/// client twice as fast as two do.
///
/// Image bytes may take `byte_threads` of the blocking threads, for as long as a client likes. Syncing the log
/// and everything else that blocks must find one beside them, or an upload would wait for uploads.
fn runtime(byte_threads: usize) -> anyhow::Result<tokio::runtime::Runtime> {
    let workers =
        std::thread::available_parallelism().map_or(1, |cores| cores.get().saturating_sub(1).max(1));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .max_blocking_threads(OTHER_THREADS_MAX + byte_threads)
        .enable_all()
        .build();
    runtime.map_err(|error| anyhow!("cannot start the runtime: {error}"))
}

fn serve(settings: Settings, watch: fn(&Node)) -> anyhow::Result<()> {
    let _logging = telemetry::install(&settings.log);
    let runtime = runtime(settings.storage.threads_max())?;
    // As a task: what waits here is woken with every entry of the log, and waking this thread for it would
    // be the largest cost of a lone client's request.
    let running = runtime.spawn(run(settings, watch));
    runtime.block_on(running)?
}

async fn run(settings: Settings, watch: fn(&Node)) -> anyhow::Result<()> {
    let no_signals = |error| anyhow!("cannot wait for a signal: {error}");
    let mut reloads = stop::Reloads::listen().map_err(no_signals)?;
    // First without touching the directory, which may be where a disk should be mounted.
    cluster::check_founded(&settings, settings.storage.data_dir.join("raft").exists())?;
    let surroundings = Surroundings::of_this_machine(&settings).await?;
    cluster::check_founded(&settings, peerglass_consensus::belongs_to(&*surroundings.disk.log)?.is_some())?;
    let ready = surroundings.ready_line(&settings);
    let node = assemble(&settings, surroundings).await?;
    if let Err(error) = cluster::check_reachable(&settings, node.consensus()) {
        node.stop().await;
        return Err(error);
    }
    watch(&node);
    println!("{ready}");
    let mut requested = pin!(stop::requested());
    let stopped = loop {
        tokio::select! {
            signal = requested.as_mut() => break signal.map(|()| info!("stopping")).map_err(no_signals),
            () = reloads.next() => node.reload(),
            failure = node.failed() => {
                error!(%failure, "ending");
                node.give_up().await;
                return Err(anyhow::Error::new(failure));
            }
        }
    };
    node.stop().await; // drains the API, then transfers, then Raft
    stopped
}
