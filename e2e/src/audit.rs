//! The audit trail as an auditor sees it: rows in the database, and what the command line says of them.

use std::path::PathBuf;
use std::process::Output;
use std::time::Duration;

use stack::StackEnv;
use tokio::process::Command;
use tokio::time::{interval, timeout};
use tokio_postgres::{Client, NoTls, Row};
use uuid::Uuid;

use crate::{TestLocation, WAIT_TIMEOUT};

/// A row, as far as tests look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the columns")]
pub struct AuditRow {
    pub actor: String,
    pub action: String,
    pub outcome: i16,
    pub location: Option<String>,
    pub conversation: Option<Uuid>,
    pub acts_for: Option<String>,
    pub counterpart: Option<String>,
    pub message_ids: Vec<Uuid>,
    pub detail: Option<String>,
    pub request_id: Option<String>,
    pub source: Option<String>,
    pub times: i32,
}

impl From<&Row> for AuditRow {
    fn from(row: &Row) -> Self {
        Self {
            actor: row.get("actor"),
            action: row.get("action"),
            outcome: row.get("outcome"),
            location: row.get("location_id"),
            conversation: row.get("conversation_id"),
            acts_for: row.get("acts_for"),
            counterpart: row.get("counterpart"),
            message_ids: row.get::<_, Option<_>>("message_ids").unwrap_or_default(),
            detail: row.get("detail"),
            request_id: row.get("request_id"),
            source: row.get("source"),
            times: row.get("times"),
        }
    }
}

/// A connection to the database.
pub struct AuditLog {
    /// For other queries.
    pub client: Client,
}

impl AuditLog {
    /// Connects as the role of the URL.
    pub async fn open(url: &str) -> Self {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("the database answers");
        tokio::spawn(connection);
        Self { client }
    }

    /// What was done by requests of this name, as it stands now.
    pub async fn rows_of_request(&self, request_id: &str) -> Vec<AuditRow> {
        let query = "select * from audit_log where request_id = $1 order by at, n";
        self.client.query(query, &[&request_id]).await.unwrap().iter().map(AuditRow::from).collect()
    }

    /// What was done in a location, as it stands now.
    pub async fn rows_of_location(&self, place: &TestLocation) -> Vec<AuditRow> {
        let query = "select * from audit_log where location_id = $1 order by at, n";
        self.client.query(query, &[&place.location]).await.unwrap().iter().map(AuditRow::from).collect()
    }

    /// A row of a location, which may be written later: denials and sockets are audited asynchronously.
    pub async fn until(&self, place: &TestLocation, is_wanted: impl Fn(&AuditRow) -> bool) -> AuditRow {
        let asking = async {
            let mut beat = interval(Duration::from_millis(20));
            loop {
                beat.tick().await;
                if let Some(act) = self.rows_of_location(place).await.into_iter().find(&is_wanted) {
                    return act;
                }
            }
        };
        match timeout(WAIT_TIMEOUT, asking).await {
            Ok(act) => act,
            Err(_) => panic!("not on record: {:#?}", self.rows_of_location(place).await),
        }
    }
}

/// One of the services' binaries.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    own.parent().and_then(|deps| deps.parent()).expect("the target folder").join(name)
}

/// Output of an `api-service` command with this database.
pub async fn api_service(env: &StackEnv, database_url: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(binary("api-service"));
    command.args(arguments).env("DATABASE_URL", database_url).env("AUDIT_KEY", &env.audit_key);
    command.env("USER", "auditor").env_remove("AUDIT_PREVIOUS_KEYS").kill_on_drop(true);
    timeout(WAIT_TIMEOUT, command.output()).await.expect("the command ends").unwrap()
}

/// Whether nothing is wrong with the trail, and what was said.
pub async fn verify(env: &StackEnv, database_url: &str, arguments: &[&str]) -> (bool, String) {
    let output = api_service(env, database_url, &[&["audit", "verify"], arguments].concat()).await;
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(matches!(output.status.code(), Some(0 | 1)), "{text}");
    (output.status.success(), text)
}
