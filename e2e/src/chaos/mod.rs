//! Senders that retry and receivers that follow the contract, while parts of the system die, freeze and are cut off.
//!
//! | module | owns |
//! | --- | --- |
//! | `fault_proxy` | [`fault_proxy::FaultProxy`]: a network between two parts that can fall silent |
//! | `proxy_set` | the links from one kind of service to Redis, be it one server or a cluster |
//! | `system` | the running system, and how each [`Fault`] is done to it |
//! | `database` | what is done to PostgreSQL: frozen, locked, read-only, its connections ended, its outbox poisoned |
//! | `redis_server` | what is done to what Redis holds, and to its memory |
//! | `aborts` | clients that hang up in the middle of requests |
//! | `log_pipes` | the logs of the services, with a reader that can stall |
//! | `neighbours` | conversations that must not notice a fault |
//! | `redis_sentinel` | what is done to a master that Sentinels watch, and to the Sentinels |
//! | `redis_cluster` | what is done to the nodes and slots of a Redis Cluster |
//! | `fault` | [`Fault`]: what strikes, on which [`Topology`], and whom it must not touch |
//! | `receiver` | a client that reconnects with its cursor and loads what it missed |
//! | `conversation` | two people, their messages, what was acknowledged |
//! | `workload` | the load: a location full of conversations |
//! | `violations` | what must hold once everything is healed |
//! | `observations`, `report` | what clients met, and the table that comes of it |
//! | `requests`, `timing` | requests that are sent again until they succeed; how long faults last |
//! | `run` | fault, healing, check; again and again |
//!
//! Nothing here panics when the system misbehaves: that is counted, and decides the outcome.

mod aborts;
mod conversation;
mod database;
mod fault;
mod fault_proxy;
mod log_pipes;
mod neighbours;
mod observations;
mod proxy_set;
mod receiver;
mod redis_cluster;
mod redis_sentinel;
mod redis_server;
mod report;
mod requests;
mod run;
mod system;
mod timing;
mod violations;
mod workload;

pub use fault::{Fault, Topology};
pub use fault_proxy::{AfterPartition, FaultProxy};
pub use report::Report;
pub use run::{Plan, run};

use std::future::Future;
use std::time::Duration;

use rand::RngExt;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// No answer within this time is a hang, under every fault.
const HANG_TIMEOUT: Duration = Duration::from_secs(15);

/// Polls a condition for which there is no event. False when it is not so within `patience`.
async fn comes_true<F: Future<Output = bool>>(patience: Duration, is_true: impl Fn() -> F) -> bool {
    let asking = async {
        let mut beat = interval(Duration::from_millis(50));
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            beat.tick().await;
            if is_true().await {
                return;
            }
        }
    };
    timeout(patience, asking).await.is_ok()
}

/// Pauses between attempts: full jitter under a bound that doubles.
struct Backoff {
    bound: Duration,
    most: Duration,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(100);

    fn up_to(most: Duration) -> Self {
        Self { bound: Self::FIRST, most }
    }

    async fn pause(&mut self) {
        let share: f64 = rand::rng().random();
        let pause = self.bound.mul_f64(share);
        self.bound = (self.bound * 2).min(self.most);
        tokio::time::sleep(pause).await;
    }

    fn reset(&mut self) {
        self.bound = Self::FIRST;
    }
}
