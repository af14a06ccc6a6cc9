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
    /// Form a cluster, join one, look at it, change it
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// See where images are, have them fetched ahead or kept; for everything else, use Glance's clients
    #[command(subcommand)]
    Image(ImageCommand),
    /// Look at settings
    #[command(subcommand)]
    Config(ConfigCommand),
}

/// What operators do with a cluster.
///
/// init, join and recover work on the data directory of a node that is not running; the others ask a
/// running node, whichever.
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Make the data directory the first node of a new cluster
    Init(ServeOptions),
    /// Print a token with which one node may join, once
    Token(TokenOptions),
    /// Make the data directory a node of the cluster that issued the token; then start it with `serve`
    Join {
        /// The token, as `cluster token` printed it
        token: String,
        /// Find the nodes that the token names wherever they are on this LAN, and at --bootstrap addresses
        #[arg(long)]
        discover: bool,
        /// Settings
        #[command(flatten)]
        options: ServeOptions,
    },
    /// Show who is in the cluster, who leads and who lags
    Status(AdminOptions),
    /// Let a node vote
    Promote(MemberOptions),
    /// Let a node follow only
    Demote(MemberOptions),
    /// Remove a node for good: it needs a new token and an empty disk to come back
    Remove(MemberOptions),
    /// Have a voter lead
    TransferLeader(MemberOptions),
    /// When a majority is lost for good: make this data directory the only voter of what is left
    Recover {
        /// Do it. Without this it only says what would be lost
        #[arg(long)]
        yes: bool,
        /// Settings
        #[command(flatten)]
        options: ServeOptions,
    },
}

/// What operators do with images that Glance's clients have no word for.
#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    /// Show how much of an image each node has
    Where {
        /// The image's id
        image: String,
        /// Follow the nodes that fetch it, with a progress bar each, until they have it
        #[arg(long)]
        watch: bool,
        /// Which node to ask
        #[command(flatten)]
        admin: AdminOptions,
    },
    /// Have the node that is asked fetch an image, before anybody wants it there
    Prefetch {
        /// The image's id
        image: String,
        /// Have all nodes of this site fetch it instead
        #[arg(long, value_name = "NAME")]
        site: Option<String>,
        /// Wait until they have it, with a progress bar each
        #[arg(long)]
        wait: bool,
        /// Which node to ask
        #[command(flatten)]
        admin: AdminOptions,
    },
    /// Have every node of a site keep an image, whatever else it lets go of
    Pin(PinOptions),
    /// Take one pin back
    Unpin(PinOptions),
}

/// An image and a site.
#[derive(Clone, Debug, Args)]
pub struct PinOptions {
    /// The image's id
    pub image: String,
    /// The site; `--site ''` stands for every node [default: the site of the node that is asked]
    #[arg(long, value_name = "NAME")]
    pub site: Option<String>,
    /// Which node to ask
    #[command(flatten)]
    pub admin: AdminOptions,
}

/// Which running node to ask, and as whom.
#[derive(Clone, Debug, Args)]
pub struct AdminOptions {
    /// Image API of a running node
    #[arg(long, env = "PEERGLASS_ENDPOINT", value_name = "URL", default_value = "http://127.0.0.1:9292")]
    pub endpoint: String,
    /// User, where sign-in is http-basic
    #[arg(long, env = "PEERGLASS_USER", value_name = "NAME")]
    pub user: Option<String>,
    /// Its password. Better given by the environment, where other users cannot see it
    #[arg(long, env = "PEERGLASS_PASSWORD", value_name = "PASSWORD", hide_env_values = true)]
    pub password: Option<String>,
    /// Print JSON for programs
    #[arg(long)]
    pub json: bool,
}

/// A token to be issued.
#[derive(Clone, Debug, Args)]
pub struct TokenOptions {
    /// Which node to ask
    #[command(flatten)]
    pub admin: AdminOptions,
    /// What the new node may become: voter or learner
    #[arg(long, default_value = "voter")]
    pub role: peerglass_catalog::NodeRole,
    /// The site it is in
    #[arg(long, default_value = "")]
    pub site: String,
    /// The rack within the site
    #[arg(long, default_value = "")]
    pub rack: String,
    /// Seconds until the token expires
    #[arg(long, value_name = "SECONDS", default_value_t = 3_600)]
    pub expires: u64,
}

/// A member of the cluster.
#[derive(Clone, Debug, Args)]
pub struct MemberOptions {
    /// Its address, its node id or peer id, or a beginning of either id that no other has; see `cluster status`
    pub member: String,
    /// Which node to ask
    #[command(flatten)]
    pub admin: AdminOptions,
}

/// Looking at settings.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print every setting with its default and what it is for
    Print,
    /// Say whether the settings are valid, without starting anything
    Check(Box<ServeOptions>),
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
    /// The node among others
    #[command(flatten)]
    pub peers: PeerOptions,
    /// How log lines look [default: text]
    #[arg(long, env = "PEERGLASS_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// What is logged: error, warn, info, debug, trace, or per module [default: info,openraft=error,libp2p_mdns=error]
    #[arg(long, env = "PEERGLASS_LOG_LEVEL", value_name = "FILTER")]
    pub log_level: Option<String>,
}

/// How a node and others reach each other.
#[derive(Clone, Debug, Default, Args)]
pub struct PeerOptions {
    /// Address and port for other nodes (UDP and TCP) [default: none, this node talks to nobody]
    #[arg(long, env = "PEERGLASS_PEER_LISTEN", value_name = "ADDRESS:PORT")]
    pub peer_listen: Option<SocketAddr>,
    /// Where other nodes reach that port, if not there
    #[arg(long, env = "PEERGLASS_ADVERTISE", value_name = "HOST:PORT")]
    pub advertise: Option<String>,
    /// Site of a node that forms a cluster
    #[arg(long, env = "PEERGLASS_SITE", value_name = "NAME")]
    pub site: Option<String>,
    /// Its rack within the site
    #[arg(long, env = "PEERGLASS_RACK", value_name = "NAME")]
    pub rack: Option<String>,
    /// Peer port of some node, where mDNS does not reach; may be given several times
    #[arg(long, env = "PEERGLASS_BOOTSTRAP", value_name = "HOST:PORT", value_delimiter = ',')]
    pub bootstrap: Vec<String>,
}
