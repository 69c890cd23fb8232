//! One server, or a cluster.

/// Whether Redis is one server or a cluster, which decides how events are published and received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topology {
    /// One server: `PUBLISH` and `SUBSCRIBE`, which every version has.
    Single,
    /// A Redis Cluster: `SPUBLISH` and `SSUBSCRIBE` (Redis 7), which stay within the node of the channel's slot, where
    /// `PUBLISH` would bother every node with every event.
    Cluster,
}
