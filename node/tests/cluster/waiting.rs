//! Waiting for what comes about by itself.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Lab, PATIENCE};

impl Lab {
    pub(crate) async fn wait_for_voters(&self, voters: usize) {
        let began = Instant::now();
        loop {
            let status = self.status(0).await;
            let members = status["members"].as_array().unwrap();
            if members.iter().filter(|member| member["voter"] == true).count() == voters {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "never {voters} voters: {status}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Wait until there is one voter at each of these sites, in order, and no other.
    pub(crate) async fn wait_for_voting_sites(&self, sites: &[&str]) {
        let began = Instant::now();
        loop {
            let status = self.status(0).await;
            let voters =
                status["members"].as_array().unwrap().iter().filter(|member| member["voter"] == true);
            let mut voting: Vec<&str> = voters.map(|member| member["site"].as_str().unwrap()).collect();
            voting.sort_unstable();
            if voting == sites {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "never voters at {sites:?}: {status}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Wait until node `at` knows that somebody is at `site`.
    pub(crate) async fn wait_for_site(&self, at: usize, site: &str) {
        let began = Instant::now();
        while !self.status(at).await["members"].to_string().contains(&format!("\"site\":\"{site}\"")) {
            assert!(began.elapsed() < PATIENCE, "nobody is known to be at {site}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Wait until node `at` knows where `node` is now.
    pub(crate) async fn wait_for_address(&self, at: usize, node: usize) {
        let began = Instant::now();
        let address = self.peer_address(node).to_string();
        while !self.status(at).await["members"].to_string().contains(&address) {
            assert!(began.elapsed() < PATIENCE, "the address of node {node} is not known");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Wait until the leader heard of `node`.
    pub(crate) async fn wait_until_connected(&self, node: usize) {
        self.get_patiently(node, "/v2/images").await;
        sleep(Duration::from_millis(1_200)).await;
    }
}
