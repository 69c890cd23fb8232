//! The practical ceiling of `POST /chat/send`: bare HTTP/1.1 on one thread, and all sends that wait written by one statement.
//! Messages are numbered within their conversation. Not here: outbox, audit, unread counts, idempotency, validation.

mod batch;
mod http;

use std::rc::Rc;

use anyhow::Result;
use baselines::settings;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::LocalSet;

/// Sends that may wait for the batch in flight.
const QUEUE: usize = 4096;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    LocalSet::new().run_until(run()).await
}

async fn run() -> Result<()> {
    let key = DecodingKey::from_secret(settings::required("JWT_SECRET")?.as_bytes());
    let mut validation = Validation::new(Algorithm::HS256);
    validation.validate_aud = false;
    validation.leeway = 0;
    let writer = batch::ApiTarget::start().await?;
    let (sends, queued) = mpsc::channel(QUEUE);
    let handler = Rc::new(http::Handler { key, validation, sends });
    let listener = TcpListener::from_std(settings::listen()?)?;
    settings::say_ready()?;
    tokio::try_join!(accept(&handler, &listener), writer.run(queued))?;
    Ok(())
}

async fn accept(handler: &Rc<http::Handler>, listener: &TcpListener) -> Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let handler = Rc::clone(handler);
        // How a connection ends is of no interest here.
        tokio::task::spawn_local(async move { drop(handler.serve(stream).await) });
    }
}
