//! `[api]`: what the API accepts and how much of it.
//!
//! Defaults are Glance's, or a limit chosen so that one client cannot exhaust a node.

use std::time::Duration;

use peerglass_catalog::{HashAlgorithm, Limits};
use serde::{Deserialize, Serialize};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const TIB: u64 = 1 << 40;
/// Longer is meant as "never", and added to the time it may be more than a clock can hold.
const TIMEOUT_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// How the API behaves. Every field has a default that works on a laptop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApiSettings {
    /// Where clients reach this service: scheme, host, and if need be port and path, without a trailing
    /// slash. Unset: taken from each request's `Host`.
    pub public_endpoint: Option<String>,
    /// Values `disk_format` may take. Clients read them from the image schema.
    pub disk_formats: Vec<String>,
    /// Values `container_format` may take.
    pub container_formats: Vec<String>,
    /// Refuse bytes that are recognised as another format than `disk_format` says.
    pub require_image_format_match: bool,
    /// Most bytes one image may have.
    pub image_size_cap: u64,
    /// Most custom properties of one image; negative is unlimited.
    pub image_property_quota: i64,
    /// Most tags of one image; negative is unlimited.
    pub image_tag_quota: i64,
    /// Images on a page whose request names no `limit`.
    pub limit_param_default: usize,
    /// Most images on a page; a larger `limit` is lowered to it.
    pub api_limit_max: usize,
    /// What `os_hash_value` is made with: sha256, sha384 or sha512.
    #[serde(with = "hash_name")]
    pub hashing_algorithm: HashAlgorithm,
    /// Longest request id a client may choose, in characters.
    pub max_request_id_length: usize,
    /// While this file exists, `/healthcheck` answers 503 so that a load balancer looks elsewhere.
    pub disable_by_file_path: Option<std::path::PathBuf>,
    /// Most bytes of all headers of one request; tokens alone can take 16 KiB.
    pub header_bytes_max: usize,
    /// Most headers of one request.
    pub headers_max: usize,
    /// Most bytes of a JSON body.
    pub json_bytes_max: usize,
    /// How deep JSON may nest.
    pub json_depth_max: usize,
    /// Seconds a client may take from connecting to the end of its first request's headers.
    #[serde(with = "seconds")]
    pub header_read_timeout: Duration,
    /// Seconds from an answer to the end of the next request's headers on the same connection. Longer
    /// than load balancers keep idle connections, or they would use one that is just being closed.
    #[serde(with = "seconds")]
    pub keep_alive_timeout: Duration,
    /// Seconds the API waits for a body that does not come. A body that trickles slower than
    /// [`ApiSettings::body_window_bytes_min`] in this time counts as not coming.
    #[serde(with = "seconds")]
    pub body_idle_timeout: Duration,
    /// Bytes a body must bring in each `body_idle_timeout` of waiting for it.
    pub body_window_bytes_min: usize,
    /// Seconds a client may take nothing of its answers while there is something to take. A client that pauses
    /// longer, as behind a slow disk, has to come back with a range. The buffers of the kernel take megabytes
    /// ahead and then nothing until a third is gone: who takes less than 2 MiB in this time may look like nobody.
    #[serde(with = "seconds")]
    pub write_idle_timeout: Duration,
    /// Downloads under way at once; the next one is told to come back. Each holds up to 2 MiB.
    pub downloads_max: usize,
    /// Connections open at once; further ones wait in the kernel's queue.
    pub connections_max: usize,
    /// Connections open at once from one address; further ones are closed.
    pub connections_per_address_max: usize,
    /// Requests in flight on one HTTP/2 connection.
    pub http2_streams_max: u32,
    /// Passwords checked at once. Each check takes a core for tens of milliseconds.
    pub password_checks_max: usize,
    /// Whether reads are answered from an older state when no majority answers.
    pub stale_when_cut_off: bool,
    /// Nodes that hold an image's bytes before its upload is acknowledged, as far as there are nodes.
    pub copies: usize,
    /// Seconds that requests in flight may take to finish when the node stops.
    #[serde(with = "seconds")]
    pub drain_timeout: Duration,
}

impl Default for ApiSettings {
    fn default() -> Self {
        let words = |words: &[&str]| words.iter().map(ToString::to_string).collect();
        Self {
            public_endpoint: None,
            disk_formats: words(&[
                "ami", "ari", "aki", "vhd", "vhdx", "vmdk", "raw", "qcow2", "vdi", "iso", "ploop",
            ]),
            container_formats: words(&["ami", "ari", "aki", "bare", "ovf", "ova", "docker", "compressed"]),
            require_image_format_match: true,
            image_size_cap: TIB,
            image_property_quota: 128,
            image_tag_quota: 128,
            limit_param_default: 25,
            api_limit_max: 1000,
            hashing_algorithm: HashAlgorithm::Sha512,
            max_request_id_length: 64,
            disable_by_file_path: None,
            header_bytes_max: 64 * KIB,
            headers_max: 100,
            json_bytes_max: MIB,
            json_depth_max: 64,
            header_read_timeout: Duration::from_secs(10),
            keep_alive_timeout: Duration::from_secs(75),
            body_idle_timeout: Duration::from_secs(60),
            body_window_bytes_min: 4 * KIB,
            write_idle_timeout: Duration::from_secs(300),
            downloads_max: 512,
            connections_max: 4096,
            connections_per_address_max: 256,
            http2_streams_max: 100,
            password_checks_max: 2,
            stale_when_cut_off: false,
            copies: 2,
            drain_timeout: Duration::from_secs(30),
        }
    }
}

/// A setting that cannot be meant. Keys are named as operators write them, in the settings of a node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidApiSettings {
    /// A limit of zero would refuse everything.
    #[error("{0} must be at least 1")]
    Zero(&'static str),
    /// No image could be created.
    #[error("{0} must name at least one format")]
    Empty(&'static str),
    /// Longer than a clock can be relied on to count.
    #[error("{0} must be at most 31536000 seconds, a year")]
    TooLong(&'static str),
    /// The default page would be larger than the largest page.
    #[error("api.limit_param_default ({default}) is larger than api.api_limit_max ({max})")]
    DefaultAboveMax {
        /// The default page.
        default: usize,
        /// The largest page.
        max: usize,
    },
    /// Not a base of links.
    #[error("api.public_endpoint must be a URL such as https://images.example.net, without a query")]
    PublicEndpoint,
    /// JSON could nest deeper than the parser's stack allows.
    #[error("api.json_depth_max is at most 100")]
    JsonDepth,
}

impl ApiSettings {
    /// The first contradiction, if any.
    pub fn validate(&self) -> Result<(), InvalidApiSettings> {
        let lists =
            [("api.disk_formats", &self.disk_formats), ("api.container_formats", &self.container_formats)];
        if let Some((key, _)) = lists.into_iter().find(|(_, formats)| formats.is_empty()) {
            return Err(InvalidApiSettings::Empty(key));
        }
        self.validate_limits()?;
        self.validate_times()?;
        if self.limit_param_default > self.api_limit_max {
            return Err(InvalidApiSettings::DefaultAboveMax {
                default: self.limit_param_default,
                max: self.api_limit_max,
            });
        }
        if self.json_depth_max > 100 {
            return Err(InvalidApiSettings::JsonDepth);
        }
        if self.public_endpoint.as_deref().is_some_and(|url| !is_base(url)) {
            return Err(InvalidApiSettings::PublicEndpoint);
        }
        Ok(())
    }

    fn validate_limits(&self) -> Result<(), InvalidApiSettings> {
        let limits = [
            ("api.api_limit_max", self.api_limit_max),
            ("api.max_request_id_length", self.max_request_id_length),
            ("api.header_bytes_max", self.header_bytes_max),
            ("api.headers_max", self.headers_max),
            ("api.json_bytes_max", self.json_bytes_max),
            ("api.json_depth_max", self.json_depth_max),
            ("api.connections_max", self.connections_max),
            ("api.connections_per_address_max", self.connections_per_address_max),
            ("api.http2_streams_max", self.http2_streams_max as usize),
            ("api.password_checks_max", self.password_checks_max),
            ("storage.downloads_max", self.downloads_max),
            ("cluster.copies", self.copies),
        ];
        match limits.into_iter().find(|(_, limit)| *limit == 0) {
            Some((key, _)) => Err(InvalidApiSettings::Zero(key)),
            None => Ok(()),
        }
    }

    fn validate_times(&self) -> Result<(), InvalidApiSettings> {
        for (key, time) in [
            ("api.header_timeout_s", self.header_read_timeout),
            ("api.keep_alive_timeout_s", self.keep_alive_timeout),
            ("api.body_idle_timeout_s", self.body_idle_timeout),
            ("api.write_idle_timeout_s", self.write_idle_timeout),
        ] {
            if time.is_zero() {
                return Err(InvalidApiSettings::Zero(key));
            }
            if time > TIMEOUT_MAX {
                return Err(InvalidApiSettings::TooLong(key));
            }
        }
        if self.drain_timeout > TIMEOUT_MAX {
            return Err(InvalidApiSettings::TooLong("api.drain_timeout_s"));
        }
        Ok(())
    }

    /// The quotas a command carries to the catalog.
    pub(crate) fn limits(&self) -> Limits {
        let quota = |quota: i64| (quota >= 0).then(|| u32::try_from(quota).unwrap_or(u32::MAX));
        Limits { properties_max: quota(self.image_property_quota), tags_max: quota(self.image_tag_quota) }
    }
}

/// Whether links can be made by putting a path behind `url`.
fn is_base(url: &str) -> bool {
    url.parse::<axum::http::Uri>().is_ok_and(|uri| {
        let has_host = uri.host().is_some_and(|host| !host.is_empty());
        matches!(uri.scheme_str(), Some("http" | "https")) && has_host && !url.contains(['?', '#', '@'])
    }) && !url.ends_with('/')
}

/// Durations as seconds, whole or not.
mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        if duration.subsec_nanos() == 0 {
            serializer.serialize_u64(duration.as_secs())
        } else {
            serializer.serialize_f64(duration.as_secs_f64())
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        Duration::try_from_secs_f64(seconds).map_err(|_| D::Error::custom("expected a number of seconds"))
    }
}

/// A hash algorithm by hashlib's name for it.
mod hash_name {
    use peerglass_catalog::HashAlgorithm;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(algorithm: &HashAlgorithm, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(algorithm.name())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<HashAlgorithm, D::Error> {
        let name = String::deserialize(from)?;
        HashAlgorithm::from_name(&name).ok_or_else(|| D::Error::custom("expected sha256, sha384 or sha512"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_section_is_the_default_and_is_valid() {
        let settings: ApiSettings = toml::from_str("").unwrap();
        assert_eq!(settings, ApiSettings::default());
        assert_eq!(settings.validate(), Ok(()));
    }

    #[test]
    fn durations_are_seconds_and_unknown_keys_are_refused() {
        let settings: ApiSettings = toml::from_str("body_idle_timeout = 2.5\ndrain_timeout = 3").unwrap();
        assert_eq!(settings.body_idle_timeout, Duration::from_millis(2500));
        assert_eq!(settings.drain_timeout, Duration::from_secs(3));
        assert!(toml::from_str::<ApiSettings>("limit = 3").is_err());
        assert!(toml::from_str::<ApiSettings>("hashing_algorithm = 'md5'").is_err());
        assert!(toml::from_str::<ApiSettings>("drain_timeout = -1").is_err());
    }

    #[test]
    fn contradictions_are_named() {
        let zero = ApiSettings { headers_max: 0, ..ApiSettings::default() };
        assert_eq!(zero.validate(), Err(InvalidApiSettings::Zero("api.headers_max")));
        let page = ApiSettings { limit_param_default: 2000, ..ApiSettings::default() };
        assert!(page.validate().is_err());
        let list = ApiSettings { disk_formats: Vec::new(), ..ApiSettings::default() };
        assert_eq!(list.validate(), Err(InvalidApiSettings::Empty("api.disk_formats")));
        for (time, problem) in [
            (Duration::ZERO, InvalidApiSettings::Zero("api.write_idle_timeout_s")),
            (Duration::MAX, InvalidApiSettings::TooLong("api.write_idle_timeout_s")),
        ] {
            let settings = ApiSettings { write_idle_timeout: time, ..ApiSettings::default() };
            assert_eq!(settings.validate(), Err(problem));
        }
    }

    #[test]
    fn links_need_a_base() {
        let at = |url: &str| ApiSettings { public_endpoint: Some(url.to_owned()), ..ApiSettings::default() };
        for bad in [
            "",
            "example.org",
            "example.org:9292",
            "http://",
            "http://example.org/",
            "http://u@example.org",
            "http://example.org?x",
            "http://example.org#x",
            "ftp://example.org",
            "/images",
            "http://exa mple.org",
        ] {
            assert_eq!(at(bad).validate(), Err(InvalidApiSettings::PublicEndpoint), "{bad}");
        }
        for good in ["http://example.org", "https://[2001:db8::1]:9292", "https://example.org/image"] {
            assert_eq!(at(good).validate(), Ok(()), "{good}");
        }
    }

    #[test]
    fn a_negative_quota_is_none() {
        let settings = ApiSettings { image_tag_quota: -1, ..ApiSettings::default() };
        assert_eq!(settings.limits(), Limits { properties_max: Some(128), tags_max: None });
    }
}
