//! The files of the console and the SDK, compiled into the binary from `clients/`.

use std::hash::{DefaultHasher, Hash, Hasher};

use poem::endpoint::make_sync;
use poem::http::StatusCode;
use poem::http::header::{CACHE_CONTROL, ETAG, IF_NONE_MATCH};
use poem::{Endpoint, Response};

use crate::http::compression::identity_etag;

macro_rules! files {
    ($path:literal, $folder:literal, [$($name:literal),* $(,)?]) => {
        &[$((concat!($path, $name), include_str!(concat!("../../../clients/", $folder, "/", $name)))),*]
    };
}

/// Path and content. `index.html` is missing here: it is the page at `/`.
type Files = &'static [(&'static str, &'static str)];

const CONSOLE: Files = files!(
    "/console/",
    "console",
    [
        "console.css",
        "console.js",
        "conversation-view.js",
        "demo-people.js",
        "dom.js",
        "format.js",
        "icon.svg",
        "inbox-view.js",
        "message-view.js",
        "pane.js",
        "person-view.js",
        "session.js",
        "sign-in.js",
    ]
);

/// Requested by browsers for pages that name no icon.
const ICON: Files = &[("/favicon.ico", include_str!("../../../clients/console/icon.svg"))];

const SDK: Files = files!(
    "/sdk/",
    "javascript/src",
    [
        "backoff.js",
        "chat.js",
        "clock.js",
        "content.js",
        "conversation.js",
        "emitter.js",
        "errors.js",
        "history.js",
        "http-client.js",
        "inbox.js",
        "index.js",
        "ordered-notifier.js",
        "outbox.js",
        "page-size.js",
        "participant.js",
        "presence-cache.js",
        "receipt-sender.js",
        "reconnecting-socket.js",
        "refetcher.js",
        "response.js",
        "retry-list.js",
        "retry-timer.js",
        "timeline.js",
        "token-provider.js",
        "types.js",
        "typing-state.js",
        "uuid.js",
        "wake-detector.js",
    ]
);

/// Paths of all files.
pub(crate) fn paths() -> impl Iterator<Item = &'static str> {
    CONSOLE.iter().chain(ICON).chain(SDK).map(|(path, _)| *path)
}

/// Endpoints of all files.
pub(crate) fn endpoints() -> impl Iterator<Item = (&'static str, impl Endpoint)> {
    CONSOLE.iter().chain(ICON).chain(SDK).map(|(path, content)| (*path, file(path, content)))
}

/// Revalidated on every request, so that all files of one page have one version.
fn file(path: &str, content: &'static str) -> impl Endpoint + use<> {
    let content_type = content_type(path);
    let tag = etag(content);
    poem::get(make_sync(move |request| {
        let answer = Response::builder().header(CACHE_CONTROL, "no-cache").header(ETAG, &tag);
        let known = request.headers().get(IF_NONE_MATCH).and_then(|tags| tags.to_str().ok());
        match known.is_some_and(|tags| {
            tags.split(',').any(|known| identity_etag(known.trim().trim_start_matches("W/")) == tag)
        }) {
            true => answer.status(StatusCode::NOT_MODIFIED).finish(),
            false => answer.content_type(content_type).body(content),
        }
    }))
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.') {
        Some((_, "js")) => "text/javascript; charset=utf-8",
        Some((_, "css")) => "text/css; charset=utf-8",
        Some((_, "svg" | "ico")) => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

/// A hash that is equal in every instance of this build.
fn etag(content: &str) -> String {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    format!("\"{:016x}\"", hasher.finish())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use poem::{EndpointExt, Request, Route};

    use super::*;

    #[test]
    fn console_and_sdk_files_are_all_served() {
        for (folder, path) in [("console", "/console/"), ("javascript/src", "/sdk/")] {
            let folder = format!("{}/../clients/{folder}", env!("CARGO_MANIFEST_DIR"));
            let there: BTreeSet<String> = std::fs::read_dir(folder)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .filter(|name| name != "index.html")
                .map(|name| format!("{path}{name}"))
                .collect();
            let served = paths().filter(|served| served.starts_with(path)).map(str::to_owned).collect();
            assert_eq!(there, served, "the tables in assets.rs and the folder differ");
        }
    }

    #[tokio::test]
    async fn unchanged_file_returns_304() {
        let routes = endpoints().fold(Route::new(), |routes, (path, endpoint)| routes.at(path, endpoint));
        let routes = routes.boxed();
        let ask = async |known: &str| {
            let request = Request::builder().uri_str("/sdk/index.js").header(IF_NONE_MATCH, known).finish();
            routes.get_response(request).await
        };
        let first = ask("\"another\"").await;
        assert_eq!(first.status(), StatusCode::OK);
        assert_eq!(first.content_type(), Some("text/javascript; charset=utf-8"));
        assert_eq!(first.headers()[CACHE_CONTROL], "no-cache");
        let tag = first.headers()[ETAG].to_str().unwrap();
        for known in [
            tag.to_owned(),
            format!("\"another\", W/{tag}"),
            tag.replacen("\"", "", 1).replacen("\"", "-gzip\"", 1).replacen("", "\"", 1),
        ] {
            assert_eq!(ask(&known).await.status(), StatusCode::NOT_MODIFIED, "{known}");
        }
    }
}
