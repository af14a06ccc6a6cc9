//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::{AuthMode, LogFormat};

/// An image registry for OpenStack that speaks the Glance v2 API on every node.
///
/// `peerglass serve` starts a complete registry for one person: loopback only, no sign-in, data in
/// ./peerglass-data. Point any Glance client at it:
///
///   export OS_AUTH_TYPE=none OS_ENDPOINT=http://127.0.0.1:9292
///   openstack image create --disk-format raw --container-format bare --file disk.raw demo
#[derive(Debug, Parser)]
#[command(name = "peerglass", version, verbatim_doc_comment, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a node until SIGTERM or Ctrl-C
    Serve(ServeOptions),
    /// Look at settings
    #[command(subcommand)]
    Config(ConfigCommand),
}

/// Looking at settings.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print every setting with its default and what it is for
    Print,
    /// Say whether the settings are valid, without starting anything
    Check(ServeOptions),
}

/// Settings from the command line. Each wins over the environment, which wins over the file.
#[derive(Clone, Debug, Default, Args)]
pub struct ServeOptions {
    /// Settings file (TOML). `peerglass config print` shows what may be in it
    #[arg(long, env = "PEERGLASS_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address and port of the image API [default: 127.0.0.1:9292]
    #[arg(long, env = "PEERGLASS_LISTEN", value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// Where images and their records are kept [default: ./peerglass-data]
    #[arg(long, env = "PEERGLASS_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// How clients sign in. `none` is for loopback only [default: none]
    #[arg(long, env = "PEERGLASS_AUTH", value_name = "MODE")]
    pub auth: Option<AuthMode>,
    /// Users for http-basic: lines of user:bcrypt-hash, if you like with :project:role,role after it
    #[arg(long, env = "PEERGLASS_HTPASSWD", value_name = "FILE")]
    pub htpasswd: Option<PathBuf>,
    /// How log lines look [default: text]
    #[arg(long, env = "PEERGLASS_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// What is logged: error, warn, info, debug, trace, or per module [default: info,openraft=error]
    #[arg(long, env = "PEERGLASS_LOG_LEVEL", value_name = "FILTER")]
    pub log_level: Option<String>,
}
