//! What hostile announcements come to.

use peerglass_consensus::ClusterId;

use super::*;

fn me() -> Introduction {
    Introduction { cluster: ClusterId { id: 7, incarnation: 2 }, address: "10.0.0.1:9293".to_owned() }
}

#[test]
fn news_is_read_back_and_nothing_longer_shorter_or_newer_is() {
    let news = News { members_at: 9, leader: Some(NodeId(3)), address: "node-1.example:9293".to_owned() };
    let bytes = news.to_bytes().unwrap();
    assert_eq!(News::from_bytes(&bytes), Some(news));
    for end in 0..bytes.len() {
        assert_eq!(News::from_bytes(&bytes[..end]), None, "cut at {end}");
    }
    assert_eq!(News::from_bytes(&[&bytes[..], &[0]].concat()), None, "something behind it");
    assert_eq!(News::from_bytes(&[&[2], &bytes[1..]].concat()), None, "another version");
    assert_eq!(News::from_bytes(&[1; NEWS_BYTES_MAX + 1]), None);
}

/// Nothing that arrives may cost more than a look at it, or panic.
#[test]
fn random_bytes_are_no_news_or_news_with_an_address() {
    let mut dice = peerglass_catalog::testing::Dice(5);
    for _ in 0..20_000 {
        let len = usize::try_from(dice.roll() % 40).unwrap();
        let bytes: Vec<u8> = (0..len).map(|_| dice.roll().to_le_bytes()[0]).collect();
        let bytes = [&[VERSION][..], &bytes].concat();
        assert!(News::from_bytes(&bytes).is_none_or(|news| is_reachable(&news.address)));
    }
}

#[test]
fn an_agent_text_names_a_peer_port_only_within_its_own_cluster() {
    let said = agent_text(&Introduction { address: "[2001:db8::1]:9293".to_owned(), ..me() });
    assert_eq!(agent_address(&said, &me()).as_deref(), Some("[2001:db8::1]:9293"));
    let elsewhere = Introduction { cluster: ClusterId { id: 7, incarnation: 3 }, ..me() };
    assert_eq!(agent_address(&said, &elsewhere), None);
    for wrong in ["", "peerglass/1", "rust-libp2p/0.48.0", &said.replace('1', "2"), &format!("{said} ")] {
        assert_eq!(agent_address(wrong, &me()), None, "{wrong}");
    }
}

#[test]
fn an_address_nobody_could_be_dialled_at_is_refused() {
    let long = format!("{}:9293", "a".repeat(NODE_TEXT_BYTES_MAX));
    let wrong = [
        "",
        ":",
        "host",
        "host:",
        ":9293",
        "host:0",
        "host:70000",
        "a b:1",
        "a\n:1",
        "a:1:2",
        "0.0.0.0:1",
        "224.0.0.251:5353",
        "255.255.255.255:9293",
        "[::]:9293",
        "1.2.3.4:0",
        "h\u{e4}:1",
        &long,
    ];
    for address in wrong {
        assert!(!is_reachable(address), "{address:?}");
    }
    for address in ["10.0.0.1:9293", "node_1.example-2.net:9293", "[fe80::1]:1"] {
        assert!(is_reachable(address), "{address}");
    }
}

#[test]
fn only_a_bare_udp_address_is_a_peer_port() {
    let port: SocketAddr = "10.0.0.1:9293".parse().unwrap();
    let announced = peer_port_multiaddr(port);
    let peer = peer_id(PeerKey(*b"\xd7\x5a\x98\x01\x82\xb1\x0a\xb7\xd5\x4b\xfe\xd3\xc9\x64\x07\x3a\x0e\xe1\x72\xf3\xda\xa6\x23\x25\xaf\x02\x1a\x68\xf7\x07\x51\x1a")).unwrap();
    assert_eq!(peer_port(&announced), Some(port));
    assert_eq!(peer_port(&announced.clone().with(Protocol::P2p(peer))), Some(port));
    let other = [
        "/ip4/10.0.0.1/udp/9294/quic-v1",
        "/ip4/10.0.0.1/tcp/9293",
        "/ip4/0.0.0.0/udp/9293",
        "/ip4/224.0.0.251/udp/5353",
        "/ip4/10.0.0.1/udp/0",
        "/dns/a/udp/9293",
        "/ip4/10.0.0.1",
        "/udp/1",
        "",
    ];
    for other in other {
        assert_eq!(peer_port(&other.parse().unwrap()), None, "{other}");
    }
    assert_eq!(listener(&other_listener()), Some("10.0.0.1:9294".parse().unwrap()));
    assert_eq!(listener(&announced), None);
}

fn other_listener() -> Multiaddr {
    "/ip4/10.0.0.1/udp/9294/quic-v1".parse().unwrap()
}
