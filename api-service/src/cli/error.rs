//! Why a command failed, and the exit code that says so.

use std::error::Error;
use std::process::ExitCode;

use shared::kit::env::{ConfigError, EX_USAGE};

/// Why a command failed. Its text is for the operator.
pub(super) type CommandError = Box<dyn Error + Send + Sync>;

/// Wrong settings are an error of usage.
pub(super) fn exit_code(error: &CommandError) -> ExitCode {
    if error.is::<ConfigError>() { ExitCode::from(EX_USAGE as u8) } else { ExitCode::FAILURE }
}
