//! `outbox list` and `outbox retry`.

use shared::kit::env::Env;

use crate::serve::ServeError;
use crate::{config, store};

#[tokio::main]
pub(super) async fn list_failed() -> Result<(), ServeError> {
    let (database, key) = config::audit(Env::from_process())?;
    let count = crate::outbox::commands::list(&store::Store::new(&database, key)?, std::io::stdout().lock()).await?;
    eprintln!("{count} rows");
    Ok(())
}

#[tokio::main]
pub(super) async fn retry_failed(ids: Option<&[i64]>) -> Result<(), ServeError> {
    let (database, key) = config::audit(Env::from_process())?;
    let count = crate::outbox::commands::retry(&store::Store::new(&database, key)?, ids).await?;
    println!("requeued {count} rows; rows that still cannot be rebuilt fail again");
    Ok(())
}
