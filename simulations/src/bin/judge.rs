//! Judges a history that clients of a real cluster recorded; `deploy/lab/chaos.py` makes one.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use peerglass_simulations::judge::{Verdict, judge};

/// One in so many images may be too vague to judge.
const VAGUE_SHARE: usize = 10;
/// Violations printed.
const SHOWN_MAX: usize = 20;

/// Check that the recorded history of each image is linearizable and no acknowledged write is lost.
#[derive(Parser)]
#[command(name = "judge")]
struct Cli {
    /// JSON lines, one request and its answer a line.
    history: PathBuf,
}

fn main() -> ExitCode {
    let path = Cli::parse().history;
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()));
    match text.and_then(|text| judge(&text)) {
        Ok(verdict) => report(&verdict),
        Err(error) => {
            eprintln!("judge: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn report(verdict: &Verdict) -> ExitCode {
    let Verdict { calls, endings, images, vague, violations } = verdict;
    println!("judge: {calls} requests about {images} images; {vague} images too vague to judge");
    let endings: Vec<String> = endings.iter().map(|(name, count)| format!("{name}: {count}")).collect();
    println!("judge: {}", endings.join(", "));
    for violation in violations.iter().take(SHOWN_MAX) {
        println!("{violation}");
    }
    println!("judge: {} violations", violations.len());
    let said_enough = *images > 0 && vague * VAGUE_SHARE <= *images;
    if !said_enough {
        println!("judge: too little could be judged");
    }
    if violations.is_empty() && said_enough { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
