//! The server that the Sentinels name: connected only while it is the master.

use std::time::Duration;

use fred::clients::Client;
use fred::error::Error;
use fred::interfaces::{ClientLike, EventInterface};
use fred::types::config::Server;
use fred::types::{ClusterHash, CustomCommand};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use super::replication::{Replication, SafeWrites};
use crate::kit::redis::connection::{ClientOptions, ManagedClient};
use crate::kit::redis::health::{connect_error, is_redis_reply};
use crate::kit::redis::node::{HEARTBEAT_TIMEOUT, NODE_HEARTBEAT_INTERVAL, Node};

/// How long a master may reject every question for its role. A single server counts as down after the same time.
const MAX_REJECTING: Duration = Duration::from_secs(5);

/// Why a server is not the master, or not any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum MasterError {
    #[error("{0}")]
    NotConnected(String),
    #[error("it is a replica")]
    Replica,
    #[error("it does not answer")]
    Silent,
    #[error("it does not say whether it is a master")]
    Unclear,
}

/// Connects to a server that calls itself a master.
pub(super) async fn connect(settings: &ClientOptions, server: &Server) -> Result<ManagedClient, MasterError> {
    let connecting = async {
        let redis = settings.connect_once(server.clone()).await?;
        let replication = fetch_replication(&redis.client).await?;
        Ok::<_, Error>((redis, replication))
    };
    let connected = timeout(2 * settings.timeout(), connecting).await.map_err(|_| MasterError::Silent)?;
    let (redis, replication) = connected.map_err(|error| MasterError::NotConnected(connect_error(&error)))?;
    match replication {
        Some(Replication { is_master: true, .. }) => Ok(redis),
        Some(_) => Err(MasterError::Replica),
        None => Err(MasterError::Unclear),
    }
}

/// Asks the master for its role several times per second, and when `suspected`, until it is lost. Reports each answer.
pub(super) async fn watch(node: &Node, suspected: &Notify, on_verified: impl Fn()) -> MasterError {
    let mut safe_writes = SafeWrites::new(Instant::now());
    let mut answered_at = Instant::now();
    let mut broken = node.client.error_rx();
    loop {
        // The client library would let a command wait that is given to a broken connection.
        if !node.client.is_connected() {
            return MasterError::NotConnected("the connection is broken".to_owned());
        }
        let asked_at = Instant::now();
        let answered = tokio::select! {
            answered = timeout(HEARTBEAT_TIMEOUT, fetch_replication(&node.client)) => answered,
            _ = broken.recv() => continue,
        };
        match answered {
            Err(_) => return MasterError::Silent,
            Ok(Ok(Some(replication))) if !replication.is_master => return MasterError::Replica,
            Ok(Ok(Some(replication))) => {
                answered_at = asked_at;
                node.verify(safe_writes.record(asked_at, &replication));
                on_verified();
            }
            Ok(Ok(None)) => return MasterError::Unclear,
            // One that is busy with a script, say, proves nothing. One that only rejects serves no command.
            Ok(Err(error)) if is_redis_reply(&error) && answered_at.elapsed() < MAX_REJECTING => {}
            Ok(Err(error)) => return MasterError::NotConnected(connect_error(&error)),
        }
        tokio::select! {
            () = sleep(NODE_HEARTBEAT_INTERVAL) => {}
            () = suspected.notified() => {}
            _ = broken.recv() => {}
        }
    }
}

async fn fetch_replication(client: &Client) -> Result<Option<Replication>, Error> {
    let command = CustomCommand::new_static("INFO", ClusterHash::FirstKey, false);
    let info: String = client.custom(command, vec!["replication"]).await?;
    Ok(Replication::parse(&info))
}
