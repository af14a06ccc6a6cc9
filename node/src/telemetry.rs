//! Where log lines go and how they look.

use std::io;

use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, LogSection};

/// Send log lines to standard error. Called once, before anything else runs.
pub fn install(settings: &LogSection) {
    let filter = EnvFilter::try_new(&settings.level).unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match settings.format {
        LogFormat::Text => lines.with_ansi(false).init(),
        LogFormat::Json => {
            lines.json().flatten_event(true).with_current_span(true).with_span_list(false).init()
        }
    }
}
