//! The sections of the settings file.
//!
//! Where Glance has an option for the same thing, the name and the default are Glance's.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::section::section;

section! {
    /// The image API that clients talk to.
    "api" => ApiSection {
        /// Address and port. Without sign-in only loopback is accepted.
        listen: SocketAddr = SocketAddr::from((Ipv4Addr::LOCALHOST, 9292)),
        /// Base of links in version documents, such as `https://images.example.net`. Empty: from the request.
        public_endpoint: String = String::new(),
        /// Largest image accepted, in bytes (1 TiB).
        image_size_cap: u64 = 1 << 40,
        /// Hash that clients verify downloads with: sha256, sha384 or sha512.
        hashing_algorithm: String = "sha512".into(),
        /// Images on a page when the request does not say.
        limit_param_default: u32 = 25,
        /// Most images on a page.
        api_limit_max: u32 = 1_000,
        /// Custom properties an image may have; negative: unlimited.
        image_property_quota: i64 = 128,
        /// Tags an image may have; negative: unlimited.
        image_tag_quota: i64 = 128,
        /// Disk formats clients may declare.
        disk_formats: Vec<String> =
            ["ami", "ari", "aki", "vhd", "vhdx", "vmdk", "raw", "qcow2", "vdi", "iso", "ploop"].map(String::from).into(),
        /// Container formats clients may declare.
        container_formats: Vec<String> =
            ["ami", "ari", "aki", "bare", "ovf", "ova", "docker", "compressed"].map(String::from).into(),
        /// Refuse an upload whose bytes are not of the declared disk format.
        require_image_format_match: bool = true,
        /// Longest request id that a client may choose, in characters.
        max_request_id_length: u32 = 64,
        /// While this file exists, /healthcheck answers 503 so that load balancers look elsewhere. Empty: none.
        disable_by_file_path: PathBuf = PathBuf::new(),
        /// Connections served at once.
        connections_max: u32 = 4_096,
        /// Connections served at once to one address.
        connections_per_address_max: u32 = 256,
        /// Seconds a client may take to send a request's head.
        header_timeout_s: u64 = 10,
        /// Seconds an idle connection is kept for the next request.
        keep_alive_timeout_s: u64 = 75,
        /// Seconds a client may stay silent in the middle of a body.
        body_idle_timeout_s: u64 = 60,
        /// Seconds a client may take nothing of an answer before its connection is closed.
        write_idle_timeout_s: u64 = 300,
        /// Seconds that requests in progress get to finish when the node is stopped.
        drain_timeout_s: u64 = 30,
    }
}

section! {
    /// Who may call.
    "auth" => AuthSection {
        /// "none" (everybody on loopback is an administrator) or "http-basic".
        mode: AuthMode = AuthMode::None,
        /// Users for http-basic, one a line: user:bcrypt-hash, if you like with :project:role,role after it.
        htpasswd: PathBuf = PathBuf::new(),
    }
}

section! {
    /// Where records and bytes are kept.
    "storage" => StorageSection {
        /// The directory; one node at a time may use it.
        data_dir: PathBuf = PathBuf::from("./peerglass-data"),
        /// Uploads received at once, at most 1024. Each takes three threads, up to 8 MiB of memory, and until it
        /// ends up to 3.5 MiB more for each GiB of new bytes.
        uploads_max: u32 = 64,
        /// Downloads sent at once, at most 4096. Each takes at most 2 MiB of memory, also if its client is slow.
        downloads_max: u32 = 512,
        /// Seconds between looks for bytes that no image names any more.
        reclaim_interval_s: u64 = 30,
        /// Mebibytes that image bytes may take before images are let go that only were read here and that other nodes
        /// keep, least recently used first. What this node is to keep counts, but stays. 0: never.
        cache_max_mib: u64 = 0,
        /// Mebibytes a second at which what is kept is read again and checked; what is damaged is fetched from other
        /// nodes. 0: never.
        scrub_mib_per_s: u64 = 8,
        /// Kibibytes of an upload that goes on after which other nodes fetch them, if they are to have copies.
        part_kib: u64 = 16_384,
        /// Kibibytes that a node fetches from others before they are made durable, so that they need not be fetched
        /// again if it restarts or the others are gone. A 64th of the image, if that is more.
        checkpoint_kib: u64 = 65_536,
        /// Seconds for which they are kept if nobody goes on fetching the image.
        resume_within_s: u64 = 3_600,
    }
}

section! {
    /// The replicated log.
    "raft" => RaftSection {
        /// Entries after which the catalog is made durable and the log purged.
        snapshot_entries: u64 = 20_000,
        /// Entries kept behind that point. As many may be written while a node that starts from nothing is sent
        /// the state; beyond it has to be sent again.
        log_entries_kept: u64 = 10_000,
    }
}

section! {
    /// This node among others.
    "cluster" => ClusterSection {
        /// Address and port for other nodes (UDP, and TCP unless `tcp` says no), such as "10.0.0.1:9293". Empty: this node talks to nobody.
        listen: String = String::new(),
        /// Whether image bytes go over TCP where both nodes allow it and can reach each other so; else over QUIC, which
        /// costs more processor time. Everything else goes over QUIC in any case.
        tcp: bool = true,
        /// Where others reach that port, if not at `listen`: host:port.
        advertise: String = String::new(),
        /// The site of a node that forms a cluster; others get theirs from their join token.
        site: String = String::new(),
        /// Its rack within the site.
        rack: String = String::new(),
        /// Voters wanted: 1, 3, 5 or 7. Nodes that may vote are promoted, spread over sites and racks, until there
        /// are that many. 0: promote by hand.
        voters: u32 = 3,
        /// Nodes that hold an image's bytes before its upload is acknowledged, as far as there are nodes, and that keep
        /// it from then on, spread over sites and racks. Should be the same on every node.
        copies: u32 = 2,
        /// Seconds after which other nodes keep what a silent one kept.
        out_after_s: u64 = 600,
        /// When reads may be answered from what this node has, however old: "on-request" (the request says so) or
        /// "when-cut-off" (also when no majority answers).
        stale_reads: StaleReads = StaleReads::OnRequest,
        /// Bytes a second of a snapshot sent to a node that is far behind.
        snapshot_bytes_per_s: u64 = 64 << 20,
    }
}

section! {
    /// How nodes find each other when their addresses are not known, or not known any more.
    "discovery" => DiscoverySection {
        /// Address and port for libp2p (UDP), which must be one above those of the peer port for other sites to find
        /// it. Empty: there, on the peer port's address; only a node with a peer port is found. "off": nowhere.
        listen: String = String::new(),
        /// Whether to look for other nodes on the LAN, and to be seen there (mDNS, UDP port 5353 multicast). Never
        /// on a node whose peer port is on loopback.
        mdns: bool = true,
        /// Peer ports of some nodes (host:port), where mDNS does not reach.
        bootstrap: Vec<String> = Vec::new(),
    }
}

section! {
    /// What the node says about its work, on standard error.
    "log" => LogSection {
        /// "text" or "json".
        format: LogFormat = LogFormat::Text,
        /// A level (error, warn, info, debug, trace), also per module. Two are told to keep quiet: what openraft
        /// says about healthy elections, and libp2p about everybody on the LAN, would bury the rest.
        level: String = "info,openraft=error,libp2p_mdns=error".into(),
    }
}

/// How clients sign in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum AuthMode {
    /// Not at all: every caller is an administrator. Loopback only.
    None,
    /// User and password, checked against an htpasswd file.
    HttpBasic,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// When a read may be stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StaleReads {
    /// When the request asks for it.
    OnRequest,
    /// Also when the newest state cannot be had.
    WhenCutOff,
}

impl StorageSection {
    /// Most uploads at once: each has three threads of its own.
    pub const UPLOADS_MAX: u32 = 1_024;
    /// Most downloads at once: each has a thread while it reads.
    pub const DOWNLOADS_MAX: u32 = 4_096;

    /// Threads that uploads and downloads may take together.
    pub fn threads_max(&self) -> usize {
        3 * self.uploads_max as usize + self.downloads_max as usize
    }
}

impl DiscoverySection {
    /// What `listen` says when there is to be none.
    pub const OFF: &str = "off";
    /// Addresses in a bootstrap list: all of them are tried in turn.
    pub const BOOTSTRAP_MAX: usize = 32;

    /// Where libp2p listens on a node whose peer port is `peer_port`; `None` for nowhere.
    pub fn listener(&self, peer_port: &str) -> Option<SocketAddr> {
        if !self.listen.is_empty() {
            return self.listen.parse().ok();
        }
        let peer_port: SocketAddr = peer_port.parse().ok()?;
        let port = peer_port.port().checked_add(1).filter(|_| peer_port.port() != 0)?;
        Some(SocketAddr::new(peer_port.ip(), port))
    }
}

impl ClusterSection {
    /// The address other nodes turn to; `None` if this node talks to nobody.
    ///
    /// # Errors
    ///
    /// The address it listens on, if that is every address and no other one is given.
    pub fn reachable(&self) -> Result<Option<String>, String> {
        if self.listen.is_empty() {
            return Ok(None);
        }
        if !self.advertise.is_empty() {
            return Ok(Some(self.advertise.clone()));
        }
        match self.listen.parse::<SocketAddr>() {
            Ok(address) if address.ip().is_unspecified() || address.port() == 0 => Err(self.listen.clone()),
            Ok(_) | Err(_) => Ok(Some(self.listen.clone())),
        }
    }
}
