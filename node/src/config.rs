//! Settings: a file, the environment and the command line, in rising order.
//!
//! Every field has a default that works on a laptop. An unknown key is an error, because a misspelt
//! limit that is silently ignored is a limit that is not there. Nothing reads the environment after
//! [`Settings::load`].

mod for_api;
mod section;
mod sections;

use std::path::{Path, PathBuf};

use peerglass_api::InvalidApiSettings;
use serde::Deserialize;

use crate::cli::{PeerOptions, ServeOptions};

pub use sections::{
    ApiSection, AuthMode, AuthSection, ClusterSection, DiscoverySection, LogFormat, LogSection, RaftSection,
    StaleReads, StorageSection,
};

/// Everything a node can be told.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// `[api]`
    pub api: ApiSection,
    /// `[auth]`
    pub auth: AuthSection,
    /// `[storage]`
    pub storage: StorageSection,
    /// `[raft]`
    pub raft: RaftSection,
    /// `[cluster]`
    pub cluster: ClusterSection,
    /// `[discovery]`
    pub discovery: DiscoverySection,
    /// `[log]`
    pub log: LogSection,
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML, or has an unknown key or a value of the wrong type.
    #[error("{}:{line}: {problem}", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// Which line, counted from 1.
        line: usize,
        /// What is wrong, in one line.
        problem: String,
    },
    /// Anyone who can reach the address would be an administrator.
    #[error(
        "sign-in `none` makes every caller an administrator, so it listens on loopback only, not on {listen}; \
         use --auth http-basic with --htpasswd FILE, or listen on 127.0.0.1"
    )]
    OpenToTheNetwork {
        /// The address asked for.
        listen: std::net::SocketAddr,
    },
    /// http-basic without users.
    #[error("sign-in `http-basic` needs --htpasswd FILE (or auth.htpasswd in the settings file)")]
    NoHtpasswd,
    /// The API cannot do with it.
    #[error(transparent)]
    Api(#[from] InvalidApiSettings),
    /// A value is outside of what makes sense.
    #[error("{key} must be {must}")]
    OutOfRange {
        /// The key, with its section.
        key: &'static str,
        /// What it must be.
        must: &'static str,
    },
}

impl SettingsError {
    fn malformed(path: &Path, text: &str, error: &toml::de::Error) -> Self {
        let start = error.span().map_or(0, |span| span.start);
        let line = 1 + text.bytes().take(start).filter(|byte| *byte == b'\n').count();
        let problem = error.message().split_whitespace().collect::<Vec<_>>().join(" ");
        let key = text.lines().nth(line - 1).and_then(|line| line.split_once('=')).map(|(key, _)| key.trim());
        let problem = match key {
            Some(key) if !problem.contains(key) => format!("{key}: {problem}"),
            Some(_) | None => problem,
        };
        Self::Malformed { path: path.to_owned(), line, problem }
    }
}

impl Settings {
    /// The settings of this start.
    pub fn load(options: &ServeOptions) -> Result<Self, SettingsError> {
        let mut settings = match &options.config {
            None => Self::default(),
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|source| SettingsError::Unreadable { path: path.clone(), source })?;
                toml::from_str(&text).map_err(|error| SettingsError::malformed(path, &text, &error))?
            }
        };
        settings.overlay(options);
        settings.validate()?;
        Ok(settings)
    }

    fn overlay(&mut self, options: &ServeOptions) {
        let ServeOptions { config: _, listen, data_dir, auth, htpasswd, peers, log_format, log_level } =
            options.clone();
        self.api.listen = listen.unwrap_or(self.api.listen);
        self.auth.mode = auth.unwrap_or(self.auth.mode);
        self.log.format = log_format.unwrap_or(self.log.format);
        if let Some(data_dir) = data_dir {
            self.storage.data_dir = data_dir;
        }
        if let Some(htpasswd) = htpasswd {
            self.auth.htpasswd = htpasswd;
        }
        if let Some(level) = log_level {
            self.log.level = level;
        }
        let PeerOptions { peer_listen, advertise, site, rack, bootstrap } = peers;
        if !bootstrap.is_empty() {
            self.discovery.bootstrap = bootstrap;
        }
        let given = [
            (&mut self.cluster.listen, peer_listen.map(|address| address.to_string())),
            (&mut self.cluster.advertise, advertise),
            (&mut self.cluster.site, site),
            (&mut self.cluster.rack, rack),
        ];
        for (setting, value) in given {
            if let Some(value) = value {
                *setting = value;
            }
        }
    }

    /// The first contradiction, if there is one.
    pub fn validate(&self) -> Result<(), SettingsError> {
        match self.auth.mode {
            AuthMode::None if !self.api.listen.ip().is_loopback() => {
                return Err(SettingsError::OpenToTheNetwork { listen: self.api.listen });
            }
            AuthMode::HttpBasic if self.auth.htpasswd.as_os_str().is_empty() => {
                return Err(SettingsError::NoHtpasswd);
            }
            AuthMode::None | AuthMode::HttpBasic => {}
        }
        let out_of_range = |key, must| Err(SettingsError::OutOfRange { key, must });
        if peerglass_catalog::HashAlgorithm::from_name(&self.api.hashing_algorithm).is_none() {
            return out_of_range("api.hashing_algorithm", "sha256, sha384 or sha512");
        }
        self.for_api().validate()?;
        if self.storage.data_dir.as_os_str().is_empty() {
            return out_of_range("storage.data_dir", "a folder; `.` for the one the node is started in");
        }
        let StorageSection { uploads_max, downloads_max, .. } = &self.storage;
        if !(1..=StorageSection::UPLOADS_MAX).contains(uploads_max) {
            return out_of_range("storage.uploads_max", "from 1 to 1024");
        }
        if !(1..=StorageSection::DOWNLOADS_MAX).contains(downloads_max) {
            return out_of_range("storage.downloads_max", "from 1 to 4096");
        }
        if self.storage.part_kib == 0 || self.storage.checkpoint_kib == 0 {
            return out_of_range("storage.part_kib and storage.checkpoint_kib", "at least 1");
        }
        if self.storage.reclaim_interval_s == 0 {
            return out_of_range("storage.reclaim_interval_s", "at least 1");
        }
        if self.raft.snapshot_entries == 0 {
            return out_of_range("raft.snapshot_entries", "at least 1");
        }
        self.validate_cluster()?;
        self.validate_discovery()?;
        if tracing_subscriber::EnvFilter::try_new(&self.log.level).is_err() {
            return out_of_range("log.level", "a level (info) or a filter (info,peerglass_api=debug)");
        }
        Ok(())
    }

    fn validate_cluster(&self) -> Result<(), SettingsError> {
        let ClusterSection {
            listen,
            advertise,
            site,
            rack,
            voters,
            copies,
            out_after_s,
            snapshot_bytes_per_s,
            ..
        } = &self.cluster;
        let out_of_range = |key, must| Err(SettingsError::OutOfRange { key, must });
        if !listen.is_empty() && listen.parse::<std::net::SocketAddr>().is_err() {
            return out_of_range("cluster.listen", "an address and a port in digits, such as 10.0.0.1:9293");
        }
        if !advertise.is_empty() && !advertise.contains(':') {
            return out_of_range("cluster.advertise", "host:port");
        }
        if [site, rack].into_iter().any(|text| text.contains(char::is_control)) {
            return out_of_range("cluster.site and cluster.rack", "one line of text each");
        }
        let too_long = |text: &String| text.len() > peerglass_catalog::node::NODE_TEXT_BYTES_MAX;
        if [advertise, site, rack].into_iter().any(too_long) {
            return out_of_range("cluster.advertise, cluster.site and cluster.rack", "at most 255 bytes");
        }
        if ![0, 1, 3, 5, 7].contains(voters) {
            return out_of_range("cluster.voters", "1, 3, 5 or 7, or 0 to promote by hand");
        }
        if !(1..=16).contains(copies) {
            return out_of_range("cluster.copies", "from 1 to 16");
        }
        if *out_after_s == 0 {
            return out_of_range("cluster.out_after_s", "at least 1");
        }
        if *snapshot_bytes_per_s < 1 << 16 {
            return out_of_range("cluster.snapshot_bytes_per_s", "at least 65536");
        }
        Ok(())
    }

    fn validate_discovery(&self) -> Result<(), SettingsError> {
        let DiscoverySection { listen, bootstrap, mdns: _ } = &self.discovery;
        let out_of_range = |key, must| Err(SettingsError::OutOfRange { key, must });
        let is_off = listen.is_empty() || listen == DiscoverySection::OFF;
        if !is_off && listen.parse::<std::net::SocketAddr>().is_err() {
            return out_of_range(
                "discovery.listen",
                "an address and a port in digits, such as 10.0.0.1:9294, or \"off\"",
            );
        }
        if !is_off && self.cluster.listen.is_empty() {
            return out_of_range("discovery.listen", "left out on a node without cluster.listen");
        }
        let fits = |address: &String| {
            let Some((host, port)) = address.rsplit_once(':') else { return false };
            let named = !host.is_empty() && !host.contains(|c: char| c == ':' || c.is_whitespace());
            let numbered = address.parse::<std::net::SocketAddr>().is_ok();
            address.len() <= peerglass_catalog::node::NODE_TEXT_BYTES_MAX
                && port.parse::<u16>().is_ok_and(|port| port != 0)
                && (named || numbered)
        };
        if bootstrap.len() > DiscoverySection::BOOTSTRAP_MAX || !bootstrap.iter().all(fits) {
            return out_of_range("discovery.bootstrap", "at most 32 peer ports, each host:port");
        }
        Ok(())
    }

    /// Every setting with its default and its description, as a settings file.
    pub fn sample() -> String {
        let head =
            "# Peerglass settings. Every value shown is the default; leave out what you do not change.\n";
        [
            head.to_owned(),
            ApiSection::sample(),
            AuthSection::sample(),
            StorageSection::sample(),
            RaftSection::sample(),
            ClusterSection::sample(),
            DiscoverySection::sample(),
            LogSection::sample(),
        ]
        .join("\n")
    }
}

#[cfg(test)]
mod tests;
