//! Nodes that fall silent, come back, and lose their slots.

mod fake_node;
mod sentinel;

use std::time::Duration;

use fred::error::Error;
use fred::interfaces::KeysInterface;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, interval, sleep, timeout};

use super::*;
use crate::kit::shutdown::Shutdown;
use fake_node::{FakeNode, Map};

const WAIT_TIMEOUT: Duration = Duration::from_secs(20);
/// A command waits no longer for a node that is down; far below the timeout of commands.
const AT_ONCE: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(60);

/// In the slots of the first and of the second of two nodes that share the slots by halves.
const LOW: &str = "bar";
const HIGH: &str = "foo";

async fn halves() -> (FakeNode, FakeNode) {
    let map = Map::default();
    let (low, high) = (FakeNode::start(&map).await, FakeNode::start(&map).await);
    map.lock().extend([(0, 8_191, low.port), (8_192, 16_383, high.port)]);
    (low, high)
}

fn start(node: &FakeNode, timeout: Duration, shutdown: &Shutdown) -> RedisNodes {
    RedisNodes::start(ClientOptions::new(&node.url(), None, timeout).unwrap(), shutdown).unwrap()
}

/// The port of the node that answers.
async fn get(nodes: &RedisNodes, key: &str) -> Result<u16, Error> {
    nodes.execute(key, |client| async move { client.get::<u16, _>(key).await }).await
}

async fn until(is_so: impl AsyncFn() -> bool) {
    let wait = async {
        while !is_so().await {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(WAIT_TIMEOUT, wait).await.unwrap();
}

#[tokio::test]
async fn command_goes_to_the_node_of_its_key() {
    let ((low, high), shutdown) = (halves().await, Shutdown::new());
    let nodes = start(&low, TIMEOUT, &shutdown);
    assert_eq!(get(&nodes, LOW).await.unwrap(), low.port);
    assert_eq!(get(&nodes, HIGH).await.unwrap(), high.port);
    until(async || nodes.is_up()).await;
}

#[tokio::test]
async fn frozen_node_affects_only_its_keys() {
    let ((low, high), shutdown) = (halves().await, Shutdown::new());
    let nodes = start(&low, TIMEOUT, &shutdown);
    until(async || nodes.is_up()).await;
    let before = nodes.health().borrow().generation;

    // The one that the URL names.
    low.freeze(true);
    let under_way = timeout(AT_ONCE, get(&nodes, LOW)).await.unwrap();
    assert!(
        under_way.is_err_and(|error| !is_redis_reply(&error)),
        "what is under way fails long before its own timeout"
    );
    assert!(timeout(AT_ONCE, get(&nodes, LOW)).await.unwrap().is_err());
    assert_eq!(timeout(AT_ONCE, get(&nodes, HIGH)).await.unwrap().unwrap(), high.port);
    let health = *nodes.health().borrow();
    assert!(health.generation > before, "what it took may be lost");
    assert!(!nodes.is_up());
    // The others prove themselves without it.
    until(async || nodes.health().borrow().verified_at > health.since).await;

    low.freeze(false);
    until(async || get(&nodes, LOW).await.is_ok_and(|port| port == low.port)).await;
    until(async || nodes.is_up()).await;
}

#[tokio::test]
async fn commands_go_to_the_successor_of_a_node() {
    let ((low, high), shutdown) = (halves().await, Shutdown::new());
    let nodes = start(&high, TIMEOUT, &shutdown);
    until(async || nodes.is_up()).await;
    let before = nodes.health().borrow().generation;
    low.freeze(true);
    let successor = FakeNode::start(&low.map).await;
    low.map.lock()[0].2 = successor.port;
    until(async || get(&nodes, LOW).await.is_ok_and(|port| port == successor.port)).await;
    until(async || nodes.is_up()).await;
    assert!(nodes.health().borrow().generation > before, "the successor may lack what the other took");
    assert_eq!(nodes.slots().unwrap().masters().len(), 2);
}

#[tokio::test]
async fn view_of_the_highest_epoch_counts() {
    let (low, high) = halves().await;
    // A third node took over the slots of the first, which does not know it.
    let newer = Map::default();
    let third = FakeNode::start_with_epoch(&newer, 7).await;
    newer.lock().extend([(0, 8_191, third.port), (8_192, 16_383, high.port)]);
    let url = format!("redis-cluster://127.0.0.1:{}?node=127.0.0.1:{}", low.port, third.port).parse().unwrap();
    let settings = ClientOptions::new(&url, None, TIMEOUT).unwrap();
    let slots = SlotMapReader::new(settings.clone()).read().await.unwrap();
    assert_eq!(slots.masters()[0].port, third.port);
    let shutdown = Shutdown::new();
    let nodes = RedisNodes::start(settings, &shutdown).unwrap();
    assert_eq!(get(&nodes, LOW).await.unwrap(), third.port);
}

#[tokio::test]
async fn silent_node_does_not_delay_the_map() {
    let (low, high) = halves().await;
    let url = format!("redis-cluster://127.0.0.1:{}?node=127.0.0.1:{}", low.port, high.port).parse().unwrap();
    let reader = SlotMapReader::new(ClientOptions::new(&url, None, TIMEOUT).unwrap());
    low.freeze(true);
    assert_eq!(timeout(AT_ONCE, reader.read()).await.unwrap().unwrap().masters().len(), 2);
}

#[tokio::test]
async fn moved_command_is_sent_to_the_new_node() {
    let ((low, high), shutdown) = (halves().await, Shutdown::new());
    let nodes = start(&high, TIMEOUT, &shutdown);
    until(async || nodes.is_up()).await;
    // To a node that is known,
    *low.map.lock() = vec![(0, 0, low.port), (1, 16_383, high.port)];
    assert_eq!(get(&nodes, LOW).await.unwrap(), high.port);
    // and to one that is not.
    let new = FakeNode::start(&low.map).await;
    *low.map.lock() = vec![(0, 0, low.port), (1, 8_191, new.port), (8_192, 16_383, high.port)];
    assert_eq!(get(&nodes, LOW).await.unwrap(), new.port);
    assert_eq!(get(&nodes, HIGH).await.unwrap(), high.port);
}

#[tokio::test]
async fn unassigned_key_fails_at_once() {
    let ((low, high), shutdown) = (halves().await, Shutdown::new());
    *low.map.lock() = vec![(8_192, 16_383, high.port)];
    let nodes = start(&low, TIMEOUT, &shutdown);
    assert_eq!(get(&nodes, HIGH).await.unwrap(), high.port);
    assert!(matches!(nodes.client_for(LOW), Err(RoutingError::SlotUnassigned)));
    assert!(timeout(AT_ONCE, get(&nodes, LOW)).await.unwrap().is_err());
}

#[tokio::test]
async fn dedicated_connection_follows_its_key() {
    let ((low, high), shutdown) = (halves().await, Shutdown::new());
    let nodes = start(&low, TIMEOUT, &shutdown);
    until(async || nodes.is_up()).await;
    let mut own = DedicatedConnection::new(&nodes, LOW, TIMEOUT);
    assert_eq!(own.client().unwrap().get::<u16, _>(LOW).await.unwrap(), low.port);
    *low.map.lock() = vec![(0, 0, low.port), (1, 16_383, high.port)];
    let moved = own.client().unwrap().get::<u16, _>(LOW).await.unwrap_err();
    own.record_failure(&moved);
    until(async || nodes.slots().unwrap().owner_index(LOW.as_bytes()) == Some(1)).await;
    assert_eq!(own.client().unwrap().get::<u16, _>(LOW).await.unwrap(), high.port);
}

#[tokio::test]
async fn silently_broken_connection_is_replaced() {
    for is_cluster in [true, false] {
        let shutdown = Shutdown::new();
        let map = Map::default();
        let node = FakeNode::start(&map).await;
        map.lock().push((0, 16_383, node.port));
        let url = match is_cluster {
            true => node.url(),
            false => format!("redis://127.0.0.1:{}", node.port).parse().unwrap(),
        };
        let settings = ClientOptions::new(&url, None, Duration::from_millis(500)).unwrap();
        let nodes = RedisNodes::start(settings, &shutdown).unwrap();
        until(async || nodes.is_up()).await;
        let (before, begun) = (nodes.health().borrow().generation, Instant::now());

        node.forget_connections();
        // The connection is never idle.
        let mut busy = interval(Duration::from_millis(50));
        let works_again = async {
            let mut asked = FuturesUnordered::new();
            loop {
                tokio::select! {
                    _ = busy.tick() => asked.push(get(&nodes, LOW)),
                    Some(Ok(port)) = asked.next() => return port,
                }
            }
        };
        assert_eq!(timeout(WAIT_TIMEOUT, works_again).await.unwrap(), node.port);
        until(async || nodes.health().borrow().generation > before).await;
        until(async || nodes.health().borrow().verified_at > begun).await;
    }
}
