//! Where log lines go and how they look.

mod lines;

use std::io;

use tracing_subscriber::EnvFilter;

use self::lines::Lines;
pub use self::lines::Logging;
use crate::config::{LogFormat, LogSection};

/// Where openraft tells, once for each message to a node that has ended, the whole message: log entries of
/// hundreds of requests, after a disk failed. Why it ended is said elsewhere, once.
const UNHEARD: &str = "openraft::raft::raft_inner=off";

/// Send log lines to standard error for as long as the answer is kept. Called once, before anything else runs.
#[must_use = "dropping it ends the buffering of log lines"]
pub fn install(settings: &LogSection) -> Logging {
    let filter = filter(&settings.level);
    let (lines, logging) = Lines::to(Box::new(io::stderr()));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(lines);
    match settings.format {
        LogFormat::Text => lines.with_ansi(false).init(),
        LogFormat::Json => {
            lines.json().flatten_event(true).with_current_span(true).with_span_list(false).init()
        }
    }
    logging
}

/// Lines of `level`, without those nobody can use, unless they are asked for by name.
fn filter(level: &str) -> EnvFilter {
    let filter = EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info"));
    match UNHEARD.parse() {
        Ok(unheard) if !level.contains("openraft::raft") => filter.add_directive(unheard),
        Ok(_) | Err(_) => filter,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One failed disk must not fill the next with log lines.
    #[test]
    fn messages_to_a_raft_that_ended_are_not_written_out() {
        for (level, silent) in [
            ("info", true),
            ("debug,quinn=warn", true),
            ("info,openraft=warn", true),
            ("info,openraft::raft=debug", false),
        ] {
            assert_eq!(filter(level).to_string().contains(UNHEARD), silent, "{level}");
        }
    }
}
