//! What strikes, and whom it must not touch.

use std::fmt::{self, Display};

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
    /// No packet between gateways and Redis for some seconds; then all of them arrive.
    GatewaysCutOff,
    /// The same, then their connections are reset.
    GatewaysReset,
    /// The same, and their connections never say a word again.
    GatewaysForgotten,
    /// No packet between API services and Redis, whose connections never say a word again.
    ApisForgotten,
    /// No packet between API services and PostgreSQL, whose connections never say a word again.
    DatabaseForgotten,
    /// HAProxy is replaced by a new process, and the old one ended with the sockets that it still had.
    HaproxyReloaded,
    /// All gateways are replaced, one after the other.
    GatewaysDeployed,
    /// All API services are replaced, one after the other.
    ApisDeployed,
}

impl Fault {
    /// All there are.
    pub const ALL: [Self; 14] = [
        Self::ApiKilled,
        Self::GatewayKilled,
        Self::RedisKilled,
        Self::PostgresKilled,
        Self::HaproxyKilled,
        Self::RedisStopped,
        Self::GatewaysCutOff,
        Self::GatewaysReset,
        Self::GatewaysForgotten,
        Self::ApisForgotten,
        Self::DatabaseForgotten,
        Self::HaproxyReloaded,
        Self::GatewaysDeployed,
        Self::ApisDeployed,
    ];

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
            Self::GatewaysCutOff => "gateways/Redis silent, then resumed",
            Self::GatewaysReset => "gateways/Redis silent, then reset",
            Self::GatewaysForgotten => "gateways/Redis half-open for ever",
            Self::ApisForgotten => "API/Redis half-open for ever",
            Self::DatabaseForgotten => "API/PostgreSQL half-open for ever",
            Self::HaproxyReloaded => "reload HAProxy",
            Self::GatewaysDeployed => "deploy all gateways",
            Self::ApisDeployed => "deploy all API services",
        }
    }

    /// Whether senders must not see a single error.
    pub(super) fn spares_senders(self) -> bool {
        !matches!(
            self,
            Self::ApiKilled
                | Self::PostgresKilled
                | Self::DatabaseForgotten
                | Self::HaproxyKilled
                | Self::HaproxyReloaded
        )
    }

    /// Whether open sockets must stay open.
    pub(super) fn spares_sockets(self) -> bool {
        !matches!(self, Self::GatewayKilled | Self::GatewaysDeployed | Self::HaproxyKilled | Self::HaproxyReloaded)
    }

    /// Whether proofs of delivery may die with it: those in a gateway's memory, or in Redis.
    pub(super) fn loses_proofs(self) -> bool {
        matches!(self, Self::RedisKilled | Self::GatewayKilled)
    }

    /// How many processes it may restart.
    pub(super) fn restarts(self, apis: usize, gateways: usize) -> usize {
        match self {
            Self::ApisDeployed => apis,
            Self::GatewaysDeployed => gateways,
            Self::ApiKilled
            | Self::GatewayKilled
            | Self::RedisKilled
            | Self::PostgresKilled
            | Self::HaproxyKilled
            | Self::HaproxyReloaded => 1,
            _ => 0,
        }
    }

    /// Whether two faults can strike at the same time and still be two: of different parts.
    pub(super) fn can_meet(self, other: Self) -> bool {
        self.part() != other.part()
    }

    fn part(self) -> &'static str {
        match self {
            Self::ApiKilled | Self::ApisDeployed => "api",
            Self::GatewayKilled | Self::GatewaysDeployed => "gateway",
            Self::RedisKilled | Self::RedisStopped => "redis",
            Self::PostgresKilled => "postgres",
            Self::HaproxyKilled | Self::HaproxyReloaded => "haproxy",
            Self::GatewaysCutOff | Self::GatewaysReset | Self::GatewaysForgotten => "gateways' link",
            Self::ApisForgotten => "APIs' link",
            Self::DatabaseForgotten => "database link",
        }
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
