//! A master that Sentinels name.

use std::time::Duration;

use super::fake_node::{FakeNode, Map};
use super::{AT_ONCE, ClientOptions, DedicatedConnection, LOW, RedisNodes, RedisUrl, get, until};
use crate::kit::shutdown::Shutdown;
use fred::interfaces::KeysInterface;
use tokio::time::timeout;

struct Servers {
    sentinels: [FakeNode; 2],
    first: FakeNode,
    second: FakeNode,
    shutdown: Shutdown,
}

impl Servers {
    /// All Sentinels name the first server.
    async fn start() -> Self {
        let map = Map::default();
        let sentinels = [FakeNode::start(&map).await, FakeNode::start(&map).await];
        let (first, second) = (FakeNode::start(&map).await, FakeNode::start(&map).await);
        sentinels.iter().for_each(|sentinel| sentinel.name_master(&first, 1));
        Self { sentinels, first, second, shutdown: Shutdown::new() }
    }

    fn connect(&self) -> RedisNodes {
        let [one, other] = self.sentinels.each_ref().map(|sentinel| sentinel.port);
        let url = format!("redis-sentinel://127.0.0.1:{one}?sentinelServiceName=chat&node=127.0.0.1:{other}");
        let settings = ClientOptions::new(&url.parse::<RedisUrl>().unwrap(), None, Duration::from_secs(5)).unwrap();
        RedisNodes::start(settings, &self.shutdown).unwrap()
    }
}

#[tokio::test]
async fn commands_follow_the_master_of_the_newest_view() {
    let servers = Servers::start().await;
    let nodes = servers.connect();
    let mut own = DedicatedConnection::new(&nodes, LOW, AT_ONCE);
    assert_eq!(get(&nodes, LOW).await.unwrap(), servers.first.port);
    assert_eq!(own.client().unwrap().get::<u16, _>(LOW).await.unwrap(), servers.first.port);
    assert!(nodes.is_up() && nodes.slots().is_none());
    let (before, mut master) = (nodes.health().borrow().generation, nodes.master());
    let first = master.server().await;

    // The first Sentinel was cut off, and does not know.
    servers.sentinels[1].name_master(&servers.second, 2);
    timeout(AT_ONCE, master.replaced(&first)).await.unwrap();
    assert_eq!(master.server().await.port, servers.second.port);
    assert_eq!(get(&nodes, LOW).await.unwrap(), servers.second.port);
    assert_eq!(own.client().unwrap().get::<u16, _>(LOW).await.unwrap(), servers.second.port);
    assert!(nodes.health().borrow().generation > before, "the successor may lack what the other took");
}

#[tokio::test]
async fn replica_gets_no_commands() {
    let servers = Servers::start().await;
    servers.first.set_replica(true);
    let nodes = servers.connect();
    assert!(get(&nodes, LOW).await.is_err());
    assert!(!nodes.is_up());
    servers.first.set_replica(false);
    until(async || get(&nodes, LOW).await.is_ok_and(|port| port == servers.first.port)).await;

    // One that is demoted is let go.
    servers.first.set_replica(true);
    until(async || !nodes.is_up() && get(&nodes, LOW).await.is_err()).await;
    servers.sentinels.iter().for_each(|sentinel| sentinel.name_master(&servers.second, 2));
    until(async || get(&nodes, LOW).await.is_ok_and(|port| port == servers.second.port)).await;
}

#[tokio::test]
async fn lost_connection_needs_a_sentinel() {
    let servers = Servers::start().await;
    let nodes = servers.connect();
    assert_eq!(get(&nodes, LOW).await.unwrap(), servers.first.port);
    let before = nodes.health().borrow().generation;
    servers.sentinels.iter().for_each(|sentinel| sentinel.freeze(true));
    // Long enough to miss them.
    let asked = nodes.health().borrow().verified_at;
    until(async || asked.elapsed() > Duration::from_secs(3)).await;
    assert_eq!(get(&nodes, LOW).await.unwrap(), servers.first.port, "they are all silent, and the master is well");
    assert_eq!(nodes.health().borrow().generation, before);

    servers.first.forget_connections();
    until(async || !nodes.is_up()).await;
    let lost_at = tokio::time::Instant::now();
    until(async || lost_at.elapsed() > Duration::from_secs(1)).await;
    assert!(!nodes.is_up(), "it may have been replaced");
    servers.sentinels[0].freeze(false);
    until(async || get(&nodes, LOW).await.is_ok_and(|port| port == servers.first.port)).await;
}

#[tokio::test]
async fn master_that_only_rejects_is_down_until_it_serves() {
    let servers = Servers::start().await;
    let nodes = servers.connect();
    assert_eq!(get(&nodes, LOW).await.unwrap(), servers.first.port);
    let rejecting_since = tokio::time::Instant::now();
    servers.first.set_busy(true);
    until(async || !nodes.is_up()).await;
    assert!(rejecting_since.elapsed() >= Duration::from_secs(4), "a short script changes nothing");
    servers.first.set_busy(false);
    until(async || nodes.is_up() && get(&nodes, LOW).await.is_ok()).await;
}
