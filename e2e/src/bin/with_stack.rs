//! Runs a command against a system of its own: `with_stack COMMAND ARGUMENT…`. For the tools of `scripts/test-*`.
//!
//! The command's environment has `BASE_URL`, `WS_URL`, and tokens for location `loc1`: `DOCTOR_TOKEN` (user `doc123`),
//! `PATIENT_TOKEN` (contact `pat456`), `SERVICE_TOKEN`, `ADMIN_TOKEN`. `STACK_ENV` names the file that tells the rest (see
//! `stack::StackEnv`). The exit code is the command's.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use e2e::{TestLocation, token};
use serde_json::json;
use stack::{Stack, StackOptions};

fn main() -> Result<ExitCode> {
    let mut words = std::env::args_os().skip(1);
    let program = words.next().context("usage: with_stack COMMAND ARGUMENT…")?;
    let stack = Stack::start(StackOptions { api: 2, ..StackOptions::default() })?;
    let place = TestLocation::named(&stack, "loc1");
    let admin = token::with(token::claims("ehr-backend", "service", &["loc1"]), "admin", json!(true));
    let status = Command::new(&program)
        .args(words)
        .env("BASE_URL", stack.base_url())
        .env("WS_URL", stack.ws_url())
        .env("STACK_ENV", stack.data_dir().join("stack.env"))
        .env("DOCTOR_TOKEN", place.user("doc123").token)
        .env("PATIENT_TOKEN", place.contact("pat456").token)
        .env("SERVICE_TOKEN", place.service().token)
        .env("ADMIN_TOKEN", place.sign(&admin))
        .status()
        .with_context(|| format!("cannot run {}", program.display()));
    stack.stop()?;
    Ok(status?.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}
