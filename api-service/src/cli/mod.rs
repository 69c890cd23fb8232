//! The command line: parses the arguments and runs one command.

mod arguments;
mod audit_export;
mod audit_verify;
mod error;
mod keys;
mod operator;
mod outbox;
mod serve;
mod tokens;

use std::process::ExitCode;

use clap::Parser;
use shared::contract::revocation::{Revocation, whole_seconds};
use shared::kit::telemetry;

use crate::http;
use crate::store::Filter;
use arguments::{Arguments, AuditCommand, Command, OutboxCommand};

/// Runs the command of the process's arguments.
#[must_use]
pub fn run() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Serve => serve::serve(),
        Command::Migrate { to } => serve::migrate(to),
        Command::Token { sub, role, location, ttl } => tokens::print_token(&sub, role, &location, ttl),
        Command::Revoke { jti, expires_at, sub, issued_before, all_issued_before } => {
            let revocation = match (jti, sub.zip(issued_before), all_issued_before) {
                (Some(jti), _, _) => Revocation::Token { jti, expires_at: expires_at.map(whole_seconds) },
                (_, Some((sub, at)), _) => Revocation::Subject { sub, issued_before: whole_seconds(at) },
                (_, _, at) => Revocation::Everyone { issued_before: at.map_or(i64::MIN, whole_seconds) },
            };
            tokens::revoke(&revocation)
        }
        Command::Keys { task } => keys::run(task),
        Command::Healthcheck => serve::healthcheck(),
        Command::Audit(AuditCommand::Verify { anchors, write_anchors, from_chain }) => {
            match audit_verify::verify(anchors.as_deref(), write_anchors.as_deref(), from_chain) {
                Ok(true) => Ok(()),
                Ok(false) => return ExitCode::FAILURE,
                Err(error) => Err(error),
            }
        }
        Command::Audit(AuditCommand::Export { location, participant, from, to }) => {
            audit_export::export(&Filter { location, participant, from, to })
        }
        Command::Outbox(OutboxCommand::List) => outbox::list(),
        Command::Outbox(OutboxCommand::Retry { ids, all }) => outbox::retry(if all { None } else { Some(&ids) }),
        Command::Openapi => {
            print!("{}", http::spec_yaml(false));
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            telemetry::write_stderr(&format!("api-service: {error}"));
            error::exit_code(&error)
        }
    }
}
