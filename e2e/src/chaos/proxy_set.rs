//! All links from one kind of service to Redis: one, or one to each node of a cluster.
//!
//! A cluster tells its clients where its nodes are. These nodes tell their ports only, so clients stay at the address at
//! which they first asked; each kind of service has one of its own on the loopback network, where its links listen.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::{Instant, sleep};

use super::fault_proxy::{AfterPartition, FaultProxy};
use super::timing::SILENT;

/// The links, in the order of the nodes.
#[derive(Debug)]
pub(super) struct ProxySet {
    links: Vec<FaultProxy>,
    /// Redis, by way of them.
    pub(super) url: String,
}

impl ProxySet {
    /// To one server.
    pub(super) async fn to_server(url: &str) -> Result<Self> {
        let link = FaultProxy::to(url).await?;
        Ok(Self { url: link.through(url)?, links: vec![link] })
    }

    /// No links: clients ask Redis itself.
    pub(super) fn without_links(url: &str) -> Self {
        Self { links: Vec::new(), url: url.to_owned() }
    }

    /// To all servers of a URL that names several: `…@host:port,host:port/…`.
    pub(super) async fn to_servers(url: &str) -> Result<Self> {
        let (credentials, rest) = url.rsplit_once('@').context("a URL with a password")?;
        let (hosts, database) = rest.split_once('/').context("a URL with a database")?;
        let mut links = Vec::new();
        for host in hosts.split(',') {
            links.push(FaultProxy::at("127.0.0.1:0", host).await?);
        }
        let hosts: Vec<String> = links.iter().map(FaultProxy::address).collect();
        Ok(Self { links, url: format!("{credentials}@{}/{database}", hosts.join(",")) })
    }

    /// To all the nodes that a cluster's URL names, for clients at `host`.
    pub(super) async fn to_cluster(url: &str, host: &str) -> Result<Self> {
        let (credentials, places) = url.split_once('@').context("a URL with a password")?;
        let mut links = Vec::new();
        for place in places.split(['?', '&']).map(|place| place.trim_start_matches("node=")) {
            let (upstream_host, port) = place.rsplit_once(':').context("a node has a port")?;
            let link = FaultProxy::at(&format!("{host}:{port}"), &format!("{upstream_host}:{port}")).await?;
            links.push(link);
        }
        Ok(Self { links, url: format!("{credentials}@{}", places.replace("127.0.0.1", host)) })
    }

    /// Silences all of them for a while.
    pub(super) async fn cut(&self, after: AfterPartition) -> Instant {
        cut(&self.links, after).await
    }

    /// Holds back what clients say, for a while.
    pub(super) async fn slow(&self, delay: Duration, lasts: Duration) -> Instant {
        for link in &self.links {
            link.slow(delay);
        }
        sleep(lasts).await;
        for link in &self.links {
            link.slow(Duration::ZERO);
        }
        Instant::now()
    }

    /// Ends every connection that there is.
    pub(super) fn reset(&self) {
        for link in &self.links {
            link.reset();
        }
    }

    /// Silences one of them for a while.
    pub(super) async fn cut_one(&self, place: usize, after: AfterPartition) -> Result<Instant> {
        let link = self.links.get(place).context("there is a link to every node")?;
        Ok(cut(std::slice::from_ref(link), after).await)
    }
}

async fn cut(links: &[FaultProxy], after: AfterPartition) -> Instant {
    for link in links {
        link.silence();
    }
    sleep(SILENT).await;
    for link in links {
        link.restore(after);
    }
    Instant::now()
}
