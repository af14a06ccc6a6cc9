//! Plays the world of one seed or of many.

mod drill;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, bail, ensure};
use clap::{Parser, ValueEnum};
use peerglass_simulations::{Coverage, Mutation, Options, Report, Violation, coverage, run_apart};

/// Play nodes and clusters through crashes, bad disks and bad networks, and check every promise they made.
#[derive(Parser)]
#[command(name = "simulate")]
struct Cli {
    /// Play one seed.
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Play many, such as 1..200 (both included).
    #[arg(long, value_parser = parse_range)]
    seeds: Option<(u64, u64)>,
    /// Print every event of the seed.
    #[arg(short, long)]
    verbose: bool,
    /// Print the nodes' own log, such as "warn" or "peerglass_transfer=debug".
    #[arg(long)]
    log: Option<String>,
    /// Put a known bug back.
    #[arg(long)]
    mutation: Option<Mutation>,
    /// List the known bugs.
    #[arg(long)]
    list_mutations: bool,
    /// Put every known bug back, one after the other; fail when one is not found.
    #[arg(long)]
    drill: bool,
    /// Succeed when a broken promise is found, fail when none is.
    #[arg(long)]
    expect_violation: bool,
    /// Play all seeds, also after one broke a promise.
    #[arg(long)]
    keep_going: bool,
    /// Play each seed twice and compare the events.
    #[arg(long)]
    twice: bool,
    /// Worlds played at once.
    #[arg(long, default_value_t = 2)]
    threads: u64,
}

fn parse_range(text: &str) -> anyhow::Result<(u64, u64)> {
    let (first, last) = text.split_once("..").context("write it like 1..200")?;
    let range = (first.parse()?, last.trim_start_matches('=').parse()?);
    ensure!(range.0 <= range.1, "the first seed comes first");
    Ok(range)
}

fn main() -> ExitCode {
    match play(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("simulate: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn play(cli: &Cli) -> anyhow::Result<()> {
    if cli.list_mutations {
        for mutation in Mutation::value_variants() {
            let value = mutation.to_possible_value().context("every mutation has a name")?;
            println!(
                "{:<24} {}",
                value.get_name(),
                value.get_help().map(ToString::to_string).unwrap_or_default()
            );
        }
        return Ok(());
    }
    if let Some(filter) = &cli.log {
        let filter = tracing_subscriber::EnvFilter::try_new(filter).context("--log")?;
        tracing_subscriber::fmt().without_time().with_env_filter(filter).init();
    }
    if cli.drill {
        return drill::run(cli.threads);
    }
    let (first, last) = match (cli.seed, cli.seeds) {
        (Some(seed), _) => (seed, seed),
        (None, Some(seeds)) => seeds,
        (None, None) => (1, coverage::SEEDS_FOR_ALL),
    };
    let played = play_seeds(cli, first, last);
    print_coverage(&played.coverage, played.seeds);
    match (played.violated, cli.expect_violation) {
        (Some(seed), true) => {
            println!("found at seed {seed}, as expected");
            Ok(())
        }
        (None, true) => {
            bail!("no promise was broken in {} seeds, but the known bug should break one", played.seeds)
        }
        (Some(seed), false) => bail!("seed {seed} breaks a promise"),
        (None, false) => {
            let missing = coverage::missing(&played.coverage);
            let enough = played.seeds >= coverage::SEEDS_FOR_ALL;
            ensure!(!enough || missing.is_empty(), "never happened: {}", missing.join(", "));
            println!("{} seeds, nothing found", played.seeds);
            Ok(())
        }
    }
}

struct Played {
    seeds: u64,
    coverage: Coverage,
    /// The smallest seed that broke a promise.
    violated: Option<u64>,
}

/// Play the seeds from `first` to `last`, a few at once, until one breaks a promise.
fn play_seeds(cli: &Cli, first: u64, last: u64) -> Played {
    let next = AtomicU64::new(first);
    let played = Mutex::new(Played { seeds: 0, coverage: BTreeMap::new(), violated: None });
    let options = Options { mutation: cli.mutation };
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed > last {
                return;
            }
            let mut report = run_apart(seed, options);
            if cli.twice {
                compare(&mut report, &run_apart(seed, options));
            }
            let mut played = played.lock().expect("a reporting thread does not panic");
            played.seeds += 1;
            coverage::add(&mut played.coverage, &report.coverage);
            if report.violation.is_some() {
                if !cli.keep_going {
                    next.store(u64::MAX / 2, Ordering::Relaxed);
                }
                played.violated = Some(played.violated.map_or(seed, |other| other.min(seed)));
            }
            print_report(cli, &report);
            if played.seeds.is_multiple_of(25) {
                println!("{} seeds played", played.seeds);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..cli.threads.clamp(1, last - first + 1) {
            scope.spawn(work);
        }
    });
    played.into_inner().expect("a reporting thread does not panic")
}

/// A seed that plays differently the second time cannot be replayed, which is as bad as a broken promise.
fn compare(first: &mut Report, second: &Report) {
    if first.trace_digest() == second.trace_digest() {
        return;
    }
    let (ours, theirs) = (&first.events, &second.events);
    let at = ours.iter().zip(theirs).position(|(ours, theirs)| ours != theirs);
    let at = at.unwrap_or(ours.len().min(theirs.len()));
    let event = |events: &[String]| events.get(at).cloned().unwrap_or_else(|| "the end".to_owned());
    let violation = Violation {
        invariant: "one seed, one run",
        subject: format!("event {at}"),
        expected: event(ours),
        got: event(theirs),
    };
    first.violation = Some(violation);
}

fn print_report(cli: &Cli, report: &Report) {
    if cli.verbose {
        report.events.iter().for_each(|event| println!("{event}"));
    }
    if cli.verbose || cli.seed.is_some() {
        let (events, elapsed) = (report.events.len(), report.elapsed);
        println!("seed {}: {events} events in {elapsed:?}, trace {}", report.seed, report.trace_digest());
    }
    let Some(violation) = &report.violation else { return };
    println!("seed {}: {violation}", report.seed);
    println!("  the last events:");
    let tail = report.events.len().saturating_sub(30);
    report.events[tail..].iter().for_each(|event| println!("    {event}"));
    let mutation = cli.mutation.and_then(|mutation| mutation.to_possible_value());
    let mutation = mutation.map(|value| format!(" --mutation {}", value.get_name())).unwrap_or_default();
    println!(
        "replay it:\n  cargo run --release -p peerglass-simulations --bin simulate -- --seed {}{mutation}",
        report.seed
    );
}

fn print_coverage(coverage: &Coverage, seeds: u64) {
    println!("what happened in {seeds} seeds:");
    for (what, times) in coverage {
        println!("  {times:>10}  {what}");
    }
}
