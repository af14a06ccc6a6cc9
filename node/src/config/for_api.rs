//! From the sections of the file to what the API is told.

use std::time::Duration;

use peerglass_api::ApiSettings;
use peerglass_catalog::HashAlgorithm;

use super::{Settings, StaleReads};

impl Settings {
    /// What the API is told of these settings.
    pub(crate) fn for_api(&self) -> ApiSettings {
        let section = &self.api;
        // A slash is put behind it wherever it is used.
        let endpoint = section.public_endpoint.trim_end_matches('/');
        let count = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
        ApiSettings {
            public_endpoint: Some(endpoint.to_owned()).filter(|endpoint| !endpoint.is_empty()),
            image_size_cap: section.image_size_cap,
            hashing_algorithm: HashAlgorithm::from_name(&section.hashing_algorithm)
                .unwrap_or(HashAlgorithm::Sha512),
            limit_param_default: count(section.limit_param_default),
            api_limit_max: count(section.api_limit_max),
            image_property_quota: section.image_property_quota,
            image_tag_quota: section.image_tag_quota,
            disk_formats: section.disk_formats.clone(),
            container_formats: section.container_formats.clone(),
            require_image_format_match: section.require_image_format_match,
            max_request_id_length: count(section.max_request_id_length),
            disable_by_file_path: Some(section.disable_by_file_path.clone())
                .filter(|path| !path.as_os_str().is_empty()),
            connections_max: count(section.connections_max),
            connections_per_address_max: count(section.connections_per_address_max),
            header_read_timeout: Duration::from_secs(section.header_timeout_s),
            keep_alive_timeout: Duration::from_secs(section.keep_alive_timeout_s),
            body_idle_timeout: Duration::from_secs(section.body_idle_timeout_s),
            write_idle_timeout: Duration::from_secs(section.write_idle_timeout_s),
            downloads_max: count(self.storage.downloads_max),
            drain_timeout: Duration::from_secs(section.drain_timeout_s),
            stale_when_cut_off: self.cluster.stale_reads == StaleReads::WhenCutOff,
            copies: count(self.cluster.copies),
            ..ApiSettings::default()
        }
    }
}
