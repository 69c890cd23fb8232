//! Requests that are sent again until they succeed, and what their failures must look like.

use std::time::Duration;

use reqwest::RequestBuilder;
use serde_json::Value;
use tokio::time::Instant;

use super::observations::Observations;
use super::{Backoff, HANG_TIMEOUT};

/// Time after which a sender gives up; longer than any outage.
pub(super) const SEND_TIMEOUT: Duration = Duration::from_secs(90);

/// Asks again until the answer has one of these statuses, and gives its body. Errors on the way must be clear ones; those of
/// a sender are counted for its conversation.
pub(super) async fn until_answered(
    observations: &Observations,
    what: &str,
    good: &[u16],
    sender_in: Option<&str>,
    request: impl Fn() -> RequestBuilder,
) -> Option<Value> {
    let deadline = Instant::now() + SEND_TIMEOUT;
    let mut backoff = Backoff::up_to(Duration::from_secs(1));
    while Instant::now() < deadline {
        match (ask(observations, what, good, request()).await, sender_in) {
            (Ok(body), _) => return Some(body),
            (Err(Some(error)), Some(conversation)) => observations.sender_error(conversation, error),
            (Err(_), _) => {}
        }
        backoff.pause().await;
    }
    None
}

/// One attempt. The error is none when it was counted elsewhere.
async fn ask(
    observations: &Observations,
    what: &str,
    good: &[u16],
    request: RequestBuilder,
) -> Result<Value, Option<String>> {
    let answering = async {
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok::<_, reqwest::Error>((status, headers, response.text().await?))
    };
    let (status, headers, text) = match tokio::time::timeout(HANG_TIMEOUT, answering).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) if error.is_connect() => return Err(Some("no connection".to_owned())),
        Ok(Err(_)) => return Err(Some("connection broke".to_owned())),
        Err(_) => {
            observations.hang(format!("{what} got no answer within {} s", HANG_TIMEOUT.as_secs()));
            return Err(None);
        }
    };
    if good.contains(&status) {
        return serde_json::from_str(&text).map_err(|_| {
            observations.wrong(format!("{what}: {status} without JSON"));
            None
        });
    }
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let is_clear = header("content-type") == Some("application/problem+json")
        && (status != 503 || header("retry-after").is_some())
        && matches!(status, 429 | 502 | 503 | 504);
    if is_clear {
        let problem: Value = serde_json::from_str(&text).unwrap_or_default();
        return Err(Some(format!("{status} ({})", problem["code"].as_str().unwrap_or_default())));
    }
    observations.wrong(format!("{what}: {status} {text}"));
    Err(None)
}
