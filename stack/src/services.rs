//! The two services: which binaries, on which ports, and what each may know.
//! The gateway never gets the address of the database.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use crate::data_dir::DataDir;
use crate::ports::Ports;
use crate::program::{self, Program};

/// Environment variables of libpq and ours that lead to the database, or are keys of what it holds.
const DATABASE_VARIABLES: [&str; 10] = [
    "DATABASE_URL",
    "PGHOST",
    "PGPORT",
    "PGUSER",
    "PGPASSWORD",
    "PGDATABASE",
    "AUDIT_KEY",
    "CONTENT_KEYS",
    "CONTENT_KEYS_FILE",
    "CONTENT_KEYS_COMMAND",
];

/// Better for one machine than the services' own defaults; the caller's environment wins. Sockets close within two seconds,
/// because a developer waits for the end. Limits are off: local measurements have few participants at one address.
const DEFAULTS: [(&str, &str); 13] = [
    ("LOG_FORMAT", "text"),
    ("LOG_LEVEL", "info"),
    ("DRAIN_SECONDS", "2"),
    ("TRUSTED_PROXIES", "127.0.0.1"),
    ("RATE_LIMIT_PARTICIPANT_PER_SECOND", "0"),
    ("RATE_LIMIT_CONTACT_SENDS_PER_SECOND", "0"),
    ("RATE_LIMIT_SERVICE_PER_SECOND", "0"),
    ("RATE_LIMIT_FAILURES_PER_SECOND", "1000"),
    ("RATE_LIMIT_FAILURES_BURST", "10000"),
    ("RATE_LIMIT_NO_TOKEN_PER_SECOND", "1000"),
    ("RATE_LIMIT_NO_TOKEN_BURST", "10000"),
    ("MAX_SOCKETS_PER_PARTICIPANT", "0"),
    ("HANDSHAKES_PER_PARTICIPANT_PER_SECOND", "0"),
];

/// Settings of every service.
#[derive(Debug, Clone)]
pub(crate) struct ServiceEnv {
    pub binaries: PathBuf,
    /// Where the `api-service` that migrates is: in an upgrade it is newer than the one that serves.
    pub migrate_binaries: PathBuf,
    /// As its owner, who migrates.
    pub database_url: String,
    /// As the role that serves.
    pub service_database_url: String,
    /// The name of that role, when it is not the owner.
    pub service_role: Option<&'static str>,
    pub redis_url: String,
    /// The same Redis as the gateways reach it; `redis_url` when there is no other way to it.
    pub gateway_redis_url: Option<String>,
    pub jwt_secret: String,
    /// `MODE` of every service and of the migration.
    pub mode: String,
    /// Whether the stack started PostgreSQL and Redis, which listen on loopback alone.
    pub has_own_backends: bool,
    /// Of the audit trail; gateways do not get it.
    pub audit_key: String,
}

/// One service, with the ports that it keeps through every restart.
#[derive(Debug)]
pub(crate) struct Service {
    pub program: Program,
    pub port: u16,
    pub admin_port: u16,
}

impl ServiceEnv {
    /// Fails early, and plainly, when the services have not been built.
    pub(crate) fn ensure_built(&self) -> Result<()> {
        let folders =
            [(&self.binaries, "api-service"), (&self.binaries, "ws-gateway"), (&self.migrate_binaries, "api-service")];
        for (folder, name) in folders {
            let file = folder.join(name);
            ensure!(
                program::is_executable(&file),
                "{} is missing; build it first: cargo build --workspace",
                file.display()
            );
        }
        Ok(())
    }

    /// `api-service serve`, the `number`th.
    pub(crate) fn api(&self, number: u16, data: &DataDir, ports: &mut Ports) -> Result<Service> {
        let mut service = self.service("api-service", &format!("api-{number}"), data, ports)?;
        let program = service.program.env("DATABASE_URL", &self.service_database_url);
        service.program = program.env("AUDIT_KEY", &self.audit_key);
        Ok(service)
    }

    /// `ws-gateway serve`, the `number`th.
    pub(crate) fn gateway(&self, number: u16, data: &DataDir, ports: &mut Ports) -> Result<Service> {
        let mut service = self.service("ws-gateway", &format!("gateway-{number}"), data, ports)?;
        service.program.removed_env = DATABASE_VARIABLES.to_vec();
        if let Some(url) = &self.gateway_redis_url {
            service.program = service.program.env("REDIS_URL", url);
        }
        Ok(service)
    }

    fn service(&self, binary: &str, name: &str, data: &DataDir, ports: &mut Ports) -> Result<Service> {
        let (port, admin_port) = (ports.free()?, ports.free()?);
        let mut program = Program::new(name, self.binaries.join(binary), data.log(name))
            .args(["serve"])
            .env("LISTEN_ADDR", format!("127.0.0.1:{port}"))
            .env("ADMIN_ADDR", format!("127.0.0.1:{admin_port}"))
            .env("REDIS_URL", &self.redis_url)
            .env("JWT_SECRET", &self.jwt_secret);
        program = self.with_mode(program);
        for (variable, default) in DEFAULTS {
            if std::env::var_os(variable).is_none() {
                program = program.env(variable, default);
            }
        }
        Ok(Service { program, port, admin_port })
    }

    /// `api-service migrate`.
    pub(crate) fn migration(&self, data: &DataDir) -> Program {
        let program = Program::new("migrate", self.migrate_binaries.join("api-service"), data.log("migrate"));
        let role = self.service_role.unwrap_or_default();
        self.with_mode(program)
            .args(["migrate"])
            .env("DATABASE_SERVICE_ROLE", role)
            .env("DATABASE_URL", &self.database_url)
            .env("JWT_SECRET", &self.jwt_secret)
            .env("REDIS_URL", &self.redis_url)
    }

    /// Production takes the nodes of a cluster for other machines. Those that the stack started are none.
    fn with_mode(&self, program: Program) -> Program {
        let program = program.env("MODE", &self.mode);
        if self.has_own_backends { program.env("PLAINTEXT_LINKS", "private-network") } else { program }
    }

    /// A token, as `api-service token` prints it.
    pub(crate) fn token(&self, sub: &str, role: &str, location: &str, ttl_seconds: u32) -> Result<String> {
        token(&self.binaries, &self.jwt_secret, [sub, role, location], ttl_seconds)
    }
}

fn token(binaries: &Path, secret: &str, [sub, role, location]: [&str; 3], ttl_seconds: u32) -> Result<String> {
    let output = std::process::Command::new(binaries.join("api-service"))
        .args(["token", "--sub", sub, "--role", role, "--location", location, "--ttl", &ttl_seconds.to_string()])
        .env("JWT_SECRET", secret)
        .output()?;
    ensure!(output.status.success(), "`api-service token` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_backends_permit_plaintext_links() {
        for has_own_backends in [true, false] {
            let services = ServiceEnv {
                binaries: PathBuf::from("/bin"),
                migrate_binaries: PathBuf::from("/bin"),
                database_url: String::new(),
                service_database_url: String::new(),
                service_role: None,
                redis_url: String::new(),
                gateway_redis_url: None,
                jwt_secret: String::new(),
                mode: "production".to_owned(),
                has_own_backends,
                audit_key: String::new(),
            };
            let program =
                services.with_mode(Program::new("migrate", PathBuf::from("/bin/true"), PathBuf::from("/log")));
            let has = |name: &str, value: &str| program.env.contains(&(name.to_owned(), value.to_owned()));
            assert!(has("MODE", "production"));
            assert_eq!(has("PLAINTEXT_LINKS", "private-network"), has_own_backends);
        }
    }
}
