//! `stack.env`: what a running system tells tests and tools about itself, one `KEY=value` a line.
//! Owns the names and the format. Written in one step, so that a reader never sees half of it.

use std::collections::HashMap;
use std::fmt::Display;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, Result};

use crate::secret::write_private;

/// The parsed file. A part that does not run (an existing database is used, no proxy) is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the documentation, and the file's keys")]
pub struct StackEnv {
    pub base_url: String,
    pub ws_url: String,
    pub jwt_secret: String,
    /// `MODE` of the services. Another service with this secret needs the same.
    pub mode: String,
    /// Of the audit trail.
    pub audit_key: String,
    /// As the role that owns everything.
    pub database_url: String,
    /// As the role that the API services use.
    pub service_database_url: String,
    /// The primary alone, as the owner; like `database_url` without a standby.
    pub primary_database_url: String,
    /// The standby alone, as the owner and as the services' role.
    pub standby_database_url: String,
    pub service_standby_database_url: String,
    pub redis_url: String,
    /// Of the primary, while it runs.
    pub postgres_pid: Option<i32>,
    /// Of the standby, while it runs.
    pub standby_pid: Option<i32>,
    pub redis_pid: Option<i32>,
    /// Of every node, the first one's first: of a cluster, the masters' as it was made, then their replicas'. With Sentinels, the
    /// first master's, then its replicas'.
    pub redis_node_pids: Vec<i32>,
    /// Of the same servers, with Sentinels: these name no port of a server that is not the master.
    pub redis_node_ports: Vec<u16>,
    pub sentinel_pids: Vec<i32>,
    pub haproxy_pid: Option<i32>,
    pub api_pids: Vec<i32>,
    pub api_urls: Vec<String>,
    pub gateway_pids: Vec<i32>,
    pub gateway_ws_urls: Vec<String>,
    /// Of the API services, then of the gateways.
    pub admin_urls: Vec<String>,
}

impl StackEnv {
    /// Reads the file.
    ///
    /// # Errors
    /// When it cannot be read, or a line is not what [`StackEnv::to_text`] writes.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text)
    }

    /// Replaces the file in one step; only its owner can read it.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        write_private(path, &self.to_text())
    }

    /// The file's text.
    #[must_use]
    pub fn to_text(&self) -> String {
        let lines = [
            ("BASE_URL", self.base_url.clone()),
            ("WS_URL", self.ws_url.clone()),
            ("JWT_SECRET", self.jwt_secret.clone()),
            ("MODE", self.mode.clone()),
            ("AUDIT_KEY", self.audit_key.clone()),
            ("DATABASE_URL", self.database_url.clone()),
            ("SERVICE_DATABASE_URL", self.service_database_url.clone()),
            ("PRIMARY_DATABASE_URL", self.primary_database_url.clone()),
            ("STANDBY_DATABASE_URL", self.standby_database_url.clone()),
            ("SERVICE_STANDBY_DATABASE_URL", self.service_standby_database_url.clone()),
            ("REDIS_URL", self.redis_url.clone()),
            ("POSTGRES_PID", list(self.postgres_pid.as_slice())),
            ("STANDBY_PID", list(self.standby_pid.as_slice())),
            ("REDIS_PID", list(self.redis_pid.as_slice())),
            ("REDIS_NODE_PIDS", list(&self.redis_node_pids)),
            ("REDIS_NODE_PORTS", list(&self.redis_node_ports)),
            ("SENTINEL_PIDS", list(&self.sentinel_pids)),
            ("HAPROXY_PID", list(self.haproxy_pid.as_slice())),
            ("API_PIDS", list(&self.api_pids)),
            ("API_URLS", list(&self.api_urls)),
            ("GATEWAY_PIDS", list(&self.gateway_pids)),
            ("GATEWAY_WS_URLS", list(&self.gateway_ws_urls)),
            ("ADMIN_URLS", list(&self.admin_urls)),
        ];
        lines.iter().map(|(key, value)| format!("{key}={value}\n")).collect()
    }

    /// Parses the file's text. Unknown keys are left alone, missing ones are empty.
    ///
    /// # Errors
    /// When a line has no `=`, or a process id is no number.
    pub fn parse(text: &str) -> Result<Self> {
        let mut values = HashMap::new();
        for line in text.lines().filter(|line| !line.is_empty()) {
            let (key, value) = line.split_once('=').context("stack.env: a line without `=`")?;
            values.insert(key, value);
        }
        let text = |key: &str| values.get(key).copied().unwrap_or_default();
        Ok(Self {
            base_url: text("BASE_URL").to_owned(),
            ws_url: text("WS_URL").to_owned(),
            jwt_secret: text("JWT_SECRET").to_owned(),
            mode: text("MODE").to_owned(),
            audit_key: text("AUDIT_KEY").to_owned(),
            database_url: text("DATABASE_URL").to_owned(),
            service_database_url: text("SERVICE_DATABASE_URL").to_owned(),
            primary_database_url: text("PRIMARY_DATABASE_URL").to_owned(),
            standby_database_url: text("STANDBY_DATABASE_URL").to_owned(),
            service_standby_database_url: text("SERVICE_STANDBY_DATABASE_URL").to_owned(),
            redis_url: text("REDIS_URL").to_owned(),
            postgres_pid: items(text("POSTGRES_PID"))?.pop(),
            standby_pid: items(text("STANDBY_PID"))?.pop(),
            redis_pid: items(text("REDIS_PID"))?.pop(),
            redis_node_pids: items(text("REDIS_NODE_PIDS"))?,
            redis_node_ports: items(text("REDIS_NODE_PORTS"))?,
            sentinel_pids: items(text("SENTINEL_PIDS"))?,
            haproxy_pid: items(text("HAPROXY_PID"))?.pop(),
            api_pids: items(text("API_PIDS"))?,
            api_urls: items(text("API_URLS"))?,
            gateway_pids: items(text("GATEWAY_PIDS"))?,
            gateway_ws_urls: items(text("GATEWAY_WS_URLS"))?,
            admin_urls: items(text("ADMIN_URLS"))?,
        })
    }

    /// Every process that the stack started.
    #[must_use]
    pub fn pids(&self) -> Vec<i32> {
        let single = [self.postgres_pid, self.standby_pid, self.haproxy_pid];
        single
            .into_iter()
            .flatten()
            .chain(self.redis_node_pids.iter().copied())
            .chain(self.sentinel_pids.iter().copied())
            .chain(self.api_pids.iter().copied())
            .chain(self.gateway_pids.iter().copied())
            .collect()
    }
}

fn list<T: Display>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn items<T: FromStr>(text: &str) -> Result<Vec<T>> {
    text.split(',')
        .filter(|item| !item.is_empty())
        .map(|item| item.parse().map_err(|_| anyhow::anyhow!("stack.env: cannot parse {item:?}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn env_file_round_trips() {
        let env = StackEnv {
            base_url: "http://localhost:8080".into(),
            database_url: "postgres://chat:a=b@127.0.0.1:1/chat".into(),
            postgres_pid: Some(7),
            api_pids: vec![1, 2],
            gateway_ws_urls: vec!["ws://127.0.0.1:1/ws".into(), "ws://127.0.0.1:2/ws".into()],
            ..StackEnv::default()
        };
        let text = env.to_text();
        assert!(text.contains("API_PIDS=1,2\n") && text.contains("HAPROXY_PID=\n"), "{text}");
        assert_eq!(StackEnv::parse(&text).unwrap(), env);
    }

    #[test]
    fn malformed_env_file_is_rejected() {
        assert!(StackEnv::parse("BASE_URL").is_err());
        assert!(StackEnv::parse("API_PIDS=1,x").is_err());
        assert_eq!(StackEnv::parse("LATER=1\n").unwrap(), StackEnv::default());
    }
}
