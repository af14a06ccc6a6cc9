//! What the settings accept and refuse.

use super::*;

fn parse(text: &str) -> Result<Settings, toml::de::Error> {
    toml::from_str(text)
}

#[test]
fn the_sample_is_the_defaults() {
    assert_eq!(parse(&Settings::sample()).unwrap(), Settings::default());
}

/// The file in `deploy/` is what operators copy; it must be what this release reads.
#[test]
fn the_sample_in_deploy_is_up_to_date() {
    let stored =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/peerglass.toml")).unwrap();
    assert_eq!(stored, Settings::sample(), "run: make sample-config");
}

#[test]
fn an_unknown_key_is_an_error_that_names_it() {
    for text in ["[api]\nimage_size_cop = 5\n", "colour = 1\n", "[apy]\n"] {
        let error = parse(text).unwrap_err().to_string();
        assert!(error.contains("unknown field"), "{error}");
    }
}

#[test]
fn open_sign_in_is_refused_off_loopback() {
    let mut settings = Settings::default();
    settings.api.listen = "0.0.0.0:9292".parse().unwrap();
    assert!(matches!(settings.validate(), Err(SettingsError::OpenToTheNetwork { .. })));
    settings.api.listen = "[::1]:9292".parse().unwrap();
    assert!(settings.validate().is_ok());
}

#[test]
fn http_basic_needs_users() {
    let mut settings = Settings::default();
    settings.auth.mode = AuthMode::HttpBasic;
    assert!(matches!(settings.validate(), Err(SettingsError::NoHtpasswd)));
}

#[test]
fn limits_that_contradict_each_other_are_refused() {
    for text in [
        "[api]\nhashing_algorithm = \"crc\"\n",
        "[storage]\nreclaim_interval_s = 0\n",
        "[log]\nlevel = \"=,=\"\n",
        "[raft]\nsnapshot_entries = 0\n",
        "[discovery]\nlisten = \"nowhere\"\n",
        "[discovery]\nlisten = \"10.0.0.1:9294\"\n",
        "[discovery]\nbootstrap = [\"10.0.0.1\"]\n",
        "[discovery]\nbootstrap = [\"a:0\"]\n",
        "[discovery]\nbootstrap = [\":9293\"]\n",
        "[discovery]\nbootstrap = [\"h:p:4\"]\n",
        "[discovery]\nbootstrap = [\" h:4\"]\n",
    ] {
        assert!(matches!(parse(text).unwrap().validate(), Err(SettingsError::OutOfRange { .. })), "{text}");
    }
}

/// What the API cannot do with is said before it starts, by the name of the key.
#[test]
fn what_the_api_refuses_is_named_as_it_was_written() {
    for (text, says) in [
        ("[api]\napi_limit_max = 0\n", "api.api_limit_max"),
        ("[api]\napi_limit_max = 5\n", "api.api_limit_max"),
        ("[api]\nmax_request_id_length = 0\n", "api.max_request_id_length"),
        ("[api]\nconnections_max = 0\n", "api.connections_max"),
        ("[api]\nconnections_per_address_max = 0\n", "api.connections_per_address_max"),
        ("[api]\ndisk_formats = []\n", "api.disk_formats"),
        ("[api]\ncontainer_formats = []\n", "api.container_formats"),
        ("[api]\npublic_endpoint = \"images.example.net\"\n", "api.public_endpoint"),
        ("[api]\nheader_timeout_s = 0\n", "api.header_timeout_s"),
        ("[api]\nkeep_alive_timeout_s = 0\n", "api.keep_alive_timeout_s"),
        ("[api]\nbody_idle_timeout_s = 0\n", "api.body_idle_timeout_s"),
        ("[api]\nwrite_idle_timeout_s = 0\n", "api.write_idle_timeout_s"),
        ("[api]\nkeep_alive_timeout_s = 9223372036854775807\n", "api.keep_alive_timeout_s"),
        ("[storage]\nuploads_max = 0\n", "storage.uploads_max"),
        ("[storage]\nuploads_max = 1025\n", "storage.uploads_max"),
        ("[storage]\npart_kib = 0\n", "storage.part_kib"),
        ("[storage]\ncheckpoint_kib = 0\n", "storage.checkpoint_kib"),
        ("[storage]\ndownloads_max = 0\n", "storage.downloads_max"),
        ("[storage]\ndownloads_max = 4097\n", "storage.downloads_max"),
    ] {
        let refused = parse(text).unwrap().validate().unwrap_err().to_string();
        assert!(refused.contains(says), "{text}: {refused}");
    }
}

/// Every link has a slash after the base already.
#[test]
fn a_slash_at_the_end_of_the_endpoint_is_dropped() {
    let settings = parse("[api]\npublic_endpoint = \"https://images.example.net/\"\n").unwrap();
    settings.validate().unwrap();
    assert_eq!(settings.for_api().public_endpoint.as_deref(), Some("https://images.example.net"));
    assert_eq!(Settings::default().for_api().public_endpoint, None);
}

#[test]
fn glance_s_switch_for_balancers_is_a_setting() {
    let api = |text: &str| parse(text).unwrap().for_api();
    let given = api("[api]\ndisable_by_file_path = \"/run/peerglass/off\"\nmax_request_id_length = 36\n");
    assert_eq!(given.disable_by_file_path.as_deref(), Some(Path::new("/run/peerglass/off")));
    assert_eq!(given.max_request_id_length, 36);
    assert_eq!(api("").disable_by_file_path, None);
}

/// A laptop node talks to nobody; whoever has a peer port is found beside it.
#[test]
fn discovery_follows_the_peer_port() {
    let listener = |text: &str, peer_port| parse(text).unwrap().discovery.listener(peer_port);
    assert_eq!(listener("", ""), None);
    assert_eq!(listener("", "10.0.0.1:9293"), Some("10.0.0.1:9294".parse().unwrap()));
    assert_eq!(listener("", "10.0.0.1:65535"), None);
    assert_eq!(listener("", "10.0.0.1:0"), None);
    assert_eq!(listener("[discovery]\nlisten = \"off\"\n", "10.0.0.1:9293"), None);
}

#[test]
fn a_malformed_file_is_one_line_that_says_where() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("peerglass.toml");
    for (text, line, word) in [("[api]\nimage_size_cop = 5\n", 2, "image_size_cop"), ("\n\n[api\n", 3, "")] {
        std::fs::write(&path, text).unwrap();
        let options = ServeOptions { config: Some(path.clone()), ..ServeOptions::default() };
        let message = Settings::load(&options).unwrap_err().to_string();
        assert!(message.starts_with(&format!("{}:{line}: ", path.display())), "{message}");
        assert!(message.contains(word) && !message.contains('\n'), "{message}");
    }
}
