//! What strikes, and whom it must not touch.

use std::fmt::{self, Display};

/// What Redis is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topology {
    /// One server.
    Single,
    /// A Redis Cluster of three masters and a replica of each.
    Cluster,
    /// A master with two replicas, and three Sentinels.
    Sentinel,
}

impl Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Single => "one Redis server",
            Self::Cluster => "a Redis Cluster of 3 masters and 3 replicas",
            Self::Sentinel => "a Redis master with 2 replicas and 3 Sentinels",
        })
    }
}

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// `kill -9` of an API service.
    ApiKilled,
    /// `kill -9` of a gateway.
    GatewayKilled,
    /// `kill -9` of Redis, which comes back empty.
    RedisKilled,
    /// `kill -9` of PostgreSQL.
    PostgresKilled,
    /// `kill -9` of HAProxy.
    HaproxyKilled,
    /// Redis stands still for six seconds.
    RedisStopped,
    /// `kill -9` of a master of the cluster, or of the Sentinels, which comes back at once and empty: before its replica could take over, which
    /// then has nothing either.
    MasterKilled,
    /// `kill -9` of a master, which comes back when its replica has taken over.
    MasterLost,
    /// `kill -9` of a master and its replica, which come back empty after eight seconds. The cluster serves all other slots
    /// meanwhile (`cluster-require-full-coverage no`), whose conversations must not notice anything.
    SlotsUnserved,
    /// A master stands still until its replica has taken over.
    MasterStopped,
    /// `kill -9` of all nodes at once, which come back empty.
    NodesKilled,
    /// An operator has the Sentinels replace a master that is well.
    MasterReplaced,
    /// `kill -9` of all Sentinels.
    SentinelsKilled,
    /// The slots of all conversations that one master serves move to the others.
    SlotsMoved,
    /// No packet between gateways and Redis for some seconds; then all of them arrive.
    GatewaysCutOff,
    /// The same, then their connections are reset.
    GatewaysReset,
    /// The same, and their connections never say a word again.
    GatewaysForgotten,
    /// No packet between API services and Redis, whose connections never say a word again.
    ApisForgotten,
    /// No packet between gateways and one master, which the cluster itself does not notice; their connections to it never
    /// say a word again.
    GatewaysLostMaster,
    /// The same of the API services.
    ApisLostMaster,
    /// No packet between API services and PostgreSQL, whose connections never say a word again.
    DatabaseForgotten,
    /// HAProxy is replaced by a new process, and the old one ended with the sockets that it still had.
    HaproxyReloaded,
    /// All gateways are replaced, one after the other.
    GatewaysDeployed,
    /// All API services are replaced, one after the other.
    ApisDeployed,
    /// Clients hang up in the middle of requests, on every route.
    ClientsAbort,
    /// Rows in the outbox that nothing can be rebuilt from, and a new connection to Redis, after which the outbox is published.
    OutboxRowsPoisoned,
    /// PostgreSQL stands still for six seconds: connections stay open and nothing answers.
    PostgresFrozen,
    /// PostgreSQL ends all connections of the API services, three times.
    BackendsTerminated,
    /// Another session holds the row of one conversation for six seconds.
    ConversationLocked,
    /// PostgreSQL comes back as a standby, which takes no writes, and is promoted after six seconds.
    DatabaseReadOnly,
    /// Redis has no memory left and evicts nothing, for six seconds.
    RedisFull,
    /// The same of one master.
    NodeFull,
    /// Keys of another type stand where event logs and streams of the system belong, for six seconds.
    WrongKeyTypes,
    /// Entries that are not UTF-8, or not what they should be, in the streams between the services.
    InvalidStreamEntries,
    /// Redis takes a second and a half for everything, for nine seconds.
    RedisSlow,
    /// The log of no service is read while its connections break.
    LogReaderStalled,
    /// `kill -9` of the primary and all its processes. The standby is promoted two seconds later; the old primary returns as its
    /// standby when everything is live again.
    PrimaryLost,
    /// The primary stands still, and stays so while the standby is promoted. It returns as the other does.
    PrimaryFrozen,
    /// The standby is away for six seconds: commits wait.
    StandbyAway,
}

impl Fault {
    /// All there are.
    pub const ALL: [Self; 39] = [
        Self::ApiKilled,
        Self::GatewayKilled,
        Self::RedisKilled,
        Self::PostgresKilled,
        Self::HaproxyKilled,
        Self::RedisStopped,
        Self::MasterKilled,
        Self::MasterLost,
        Self::SlotsUnserved,
        Self::MasterStopped,
        Self::NodesKilled,
        Self::MasterReplaced,
        Self::SentinelsKilled,
        Self::SlotsMoved,
        Self::GatewaysCutOff,
        Self::GatewaysReset,
        Self::GatewaysForgotten,
        Self::ApisForgotten,
        Self::GatewaysLostMaster,
        Self::ApisLostMaster,
        Self::DatabaseForgotten,
        Self::HaproxyReloaded,
        Self::GatewaysDeployed,
        Self::ApisDeployed,
        Self::ClientsAbort,
        Self::OutboxRowsPoisoned,
        Self::PostgresFrozen,
        Self::BackendsTerminated,
        Self::ConversationLocked,
        Self::DatabaseReadOnly,
        Self::RedisFull,
        Self::NodeFull,
        Self::WrongKeyTypes,
        Self::InvalidStreamEntries,
        Self::RedisSlow,
        Self::LogReaderStalled,
        Self::PrimaryLost,
        Self::PrimaryFrozen,
        Self::StandbyAway,
    ];

    /// Whether it strikes a PostgreSQL with a standby, or one without. Nothing starts a server of a pair again when it dies.
    #[must_use]
    pub fn on_database(self, has_standby: bool) -> bool {
        match self {
            Self::PrimaryLost | Self::PrimaryFrozen | Self::StandbyAway => has_standby,
            Self::PostgresKilled | Self::DatabaseReadOnly => !has_standby,
            _ => true,
        }
    }

    /// Whether there is such a thing there.
    #[must_use]
    pub fn on(self, topology: Topology) -> bool {
        match self {
            Self::RedisKilled | Self::RedisStopped | Self::RedisFull => topology == Topology::Single,
            Self::MasterKilled | Self::MasterLost | Self::MasterStopped | Self::NodesKilled | Self::NodeFull => {
                topology != Topology::Single
            }
            Self::SlotsUnserved | Self::SlotsMoved | Self::GatewaysLostMaster | Self::ApisLostMaster => {
                topology == Topology::Cluster
            }
            Self::MasterReplaced | Self::SentinelsKilled => topology == Topology::Sentinel,
            // Sentinels name the servers themselves, so no link stands before these.
            Self::GatewaysCutOff
            | Self::GatewaysReset
            | Self::GatewaysForgotten
            | Self::ApisForgotten
            | Self::RedisSlow
            | Self::LogReaderStalled => topology != Topology::Sentinel,
            _ => true,
        }
    }

    /// As the table has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ApiKilled => "kill -9 an API service",
            Self::GatewayKilled => "kill -9 a gateway",
            Self::RedisKilled => "kill -9 Redis (comes back empty)",
            Self::PostgresKilled => "kill -9 PostgreSQL",
            Self::HaproxyKilled => "kill -9 HAProxy",
            Self::RedisStopped => "freeze Redis for 6 s",
            Self::MasterKilled => "kill -9 a Redis master (back at once, empty)",
            Self::MasterLost => "kill -9 a Redis master (replica takes over)",
            Self::SlotsUnserved => "kill -9 a Redis master and its replica for 8 s",
            Self::MasterStopped => "freeze a Redis master (replica takes over)",
            Self::NodesKilled => "kill -9 all Redis nodes (come back empty)",
            Self::MasterReplaced => "planned failover of the Redis master",
            Self::SentinelsKilled => "kill -9 all Redis Sentinels",
            Self::SlotsMoved => "migrate slots of live conversations",
            Self::GatewaysCutOff => "gateways/Redis silent, then resumed",
            Self::GatewaysReset => "gateways/Redis silent, then reset",
            Self::GatewaysForgotten => "gateways/Redis half-open for ever",
            Self::ApisForgotten => "API/Redis half-open for ever",
            Self::GatewaysLostMaster => "gateways/one Redis master half-open for ever",
            Self::ApisLostMaster => "API/one Redis master half-open for ever",
            Self::DatabaseForgotten => "API/PostgreSQL half-open for ever",
            Self::HaproxyReloaded => "reload HAProxy",
            Self::GatewaysDeployed => "deploy all gateways",
            Self::ApisDeployed => "deploy all API services",
            Self::ClientsAbort => "clients abort requests",
            Self::OutboxRowsPoisoned => "unreadable outbox rows",
            Self::PostgresFrozen => "freeze PostgreSQL for 6 s",
            Self::BackendsTerminated => "terminate all database connections",
            Self::ConversationLocked => "lock one conversation for 6 s",
            Self::DatabaseReadOnly => "PostgreSQL is read-only for 6 s",
            Self::RedisFull => "Redis is full for 6 s (noeviction)",
            Self::NodeFull => "one Redis master is full for 6 s",
            Self::WrongKeyTypes => "wrong key types in Redis for 6 s",
            Self::InvalidStreamEntries => "invalid entries in the streams",
            Self::RedisSlow => "Redis takes 1.5 s per command",
            Self::LogReaderStalled => "the log reader stalls",
            Self::PrimaryLost => "kill -9 the primary (standby promoted, old one returns)",
            Self::PrimaryFrozen => "freeze the primary (standby promoted, old one returns)",
            Self::StandbyAway => "the synchronous standby is away for 6 s",
        }
    }

    /// Whether senders must not see a single error.
    pub(super) fn must_not_affect_senders(self) -> bool {
        !matches!(
            self,
            Self::ApiKilled
                | Self::PostgresKilled
                | Self::DatabaseForgotten
                | Self::PostgresFrozen
                | Self::BackendsTerminated
                | Self::ConversationLocked
                | Self::DatabaseReadOnly
                | Self::PrimaryLost
                | Self::PrimaryFrozen
                | Self::StandbyAway
                | Self::HaproxyKilled
                | Self::HaproxyReloaded
        )
    }

    /// Whether open sockets must stay open.
    pub(super) fn must_not_affect_sockets(self) -> bool {
        !matches!(self, Self::GatewayKilled | Self::GatewaysDeployed | Self::HaproxyKilled | Self::HaproxyReloaded)
    }

    /// How many processes it may restart.
    pub(super) fn restarts(self, apis: usize, gateways: usize, redis_nodes: usize) -> usize {
        match self {
            Self::ApisDeployed => apis,
            Self::GatewaysDeployed => gateways,
            Self::NodesKilled => redis_nodes,
            Self::SlotsUnserved | Self::PrimaryLost | Self::PrimaryFrozen => 2,
            Self::SentinelsKilled => 3,
            Self::ApiKilled
            | Self::GatewayKilled
            | Self::RedisKilled
            | Self::MasterKilled
            | Self::MasterLost
            | Self::PostgresKilled
            | Self::DatabaseReadOnly
            | Self::StandbyAway
            | Self::HaproxyKilled
            | Self::HaproxyReloaded => 1,
            _ => 0,
        }
    }

    /// Whether two faults can inject at the same time and still be two: of different parts.
    pub(super) fn can_overlap(self, other: Self) -> bool {
        // What must not notice one of them would notice the other.
        let is_watched = [self, other].contains(&Self::SlotsUnserved);
        !is_watched && self.part() != other.part()
    }

    fn part(self) -> &'static str {
        match self {
            Self::ApiKilled | Self::ApisDeployed => "api",
            Self::GatewayKilled | Self::GatewaysDeployed => "gateway",
            Self::RedisKilled
            | Self::RedisStopped
            | Self::MasterKilled
            | Self::MasterLost
            | Self::SlotsUnserved
            | Self::MasterStopped
            | Self::NodesKilled
            | Self::MasterReplaced
            | Self::SentinelsKilled
            | Self::SlotsMoved
            | Self::RedisFull
            | Self::NodeFull
            | Self::WrongKeyTypes => "redis",
            Self::PostgresKilled
            | Self::PostgresFrozen
            | Self::BackendsTerminated
            | Self::ConversationLocked
            | Self::DatabaseReadOnly
            | Self::OutboxRowsPoisoned
            | Self::PrimaryLost
            | Self::PrimaryFrozen
            | Self::StandbyAway => "postgres",
            Self::HaproxyKilled | Self::HaproxyReloaded => "haproxy",
            Self::GatewaysCutOff | Self::GatewaysReset | Self::GatewaysForgotten | Self::GatewaysLostMaster => {
                "gateways' link"
            }
            Self::ApisForgotten | Self::ApisLostMaster => "APIs' link",
            // On both links: two of them at once would undo each other.
            Self::RedisSlow => "gateways' link",
            Self::LogReaderStalled => "APIs' link",
            Self::ClientsAbort => "clients",
            Self::InvalidStreamEntries => "streams",
            Self::DatabaseForgotten => "database link",
        }
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_listed_once_with_topology() {
        let names: std::collections::HashSet<&str> = Fault::ALL.iter().map(|fault| fault.name()).collect();
        assert_eq!(names.len(), Fault::ALL.len());
        let topologies = [Topology::Single, Topology::Cluster, Topology::Sentinel];
        assert!(Fault::ALL.iter().all(|fault| topologies.iter().any(|topology| fault.on(*topology))));
        assert!(Fault::MasterLost.on(Topology::Sentinel) && !Fault::SlotsMoved.on(Topology::Sentinel));
        // Both have their links cut, and only one has masters.
        assert!(Fault::GatewaysForgotten.on(Topology::Single) && Fault::GatewaysForgotten.on(Topology::Cluster));
        assert!(Fault::MasterLost.can_overlap(Fault::ApiKilled) && !Fault::SlotsUnserved.can_overlap(Fault::ApiKilled));
        assert!(!Fault::MasterLost.on(Topology::Single) && !Fault::RedisKilled.on(Topology::Cluster));
    }
}
