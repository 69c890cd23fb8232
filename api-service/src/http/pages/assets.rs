//! The files of the console and the SDK, compiled into the binary from `clients/`.

use std::hash::{DefaultHasher, Hash, Hasher};

use include_dir::{Dir, File, include_dir};
use poem::endpoint::make_sync;
use poem::http::StatusCode;
use poem::http::header::{CACHE_CONTROL, ETAG, IF_NONE_MATCH};
use poem::{Endpoint, Response};

use crate::http::compression::identity_etag;

// `build.rs` compiles this crate again when a file is added to or removed from these folders.
static CONSOLE: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../clients/console");
static SDK: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../clients/javascript/src");
static ELEMENT: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../clients/javascript/element");

/// The file at the address of the element, beside the SDK's. The package has the same entry as `ehr-chat-client/element`.
const ELEMENT_ENTRY: (&str, &[u8]) = ("/sdk/element.js", b"export * from \"./element/index.js\";\n");

/// The page at `/`. It is not served as a file, because its mode and its security policy depend on the service.
pub(crate) const CONSOLE_PAGE: &str = include_str!("../../../../clients/console/index.html");

/// Paths and contents of all files. A path is compared whole with the path of a request, so no request can leave the folders.
fn files() -> impl Iterator<Item = (String, &'static [u8])> {
    let folders = [("/console/", &CONSOLE), ("/sdk/", &SDK), ("/sdk/element/", &ELEMENT)].into_iter();
    let files = folders.flat_map(|(prefix, folder)| files_below(folder).into_iter().map(move |file| (prefix, file)));
    let files = files.filter(|(_, file)| !file.path().ends_with("index.html"));
    // Browsers request this icon for pages that name none.
    let icon = CONSOLE.get_file("icon.svg").map(|file| ("/favicon.ico".to_owned(), file.contents()));
    let files = files.map(|(prefix, file)| (format!("{prefix}{}", file.path().display()), file.contents()));
    files.chain(icon).chain([(ELEMENT_ENTRY.0.to_owned(), ELEMENT_ENTRY.1)])
}

/// The files of a folder and of its subfolders.
fn files_below(folder: &'static Dir<'static>) -> Vec<&'static File<'static>> {
    folder.files().chain(folder.dirs().flat_map(files_below)).collect()
}

/// Paths of all files.
pub(crate) fn paths() -> impl Iterator<Item = String> {
    files().map(|(path, _)| path)
}

/// Endpoints of all files.
pub(crate) fn endpoints() -> impl Iterator<Item = (String, impl Endpoint)> {
    files().map(|(path, content)| {
        let endpoint = file(&path, content);
        (path, endpoint)
    })
}

/// Revalidated on every request, so that all files of one page have one version.
fn file(path: &str, content: &'static [u8]) -> impl Endpoint + use<> {
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
fn etag(content: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    format!("\"{:016x}\"", hasher.finish())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use poem::{EndpointExt, Request, Route};

    use super::*;

    /// Adds the path at which each file below a folder should be served.
    fn add_files(folder: &Path, path: &str, paths: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let path = format!("{path}{}", entry.file_name().into_string().unwrap());
            match entry.file_type().unwrap().is_dir() {
                true => add_files(&entry.path(), &format!("{path}/"), paths),
                false => assert!(paths.insert(path)),
            }
        }
    }

    #[test]
    fn console_and_sdk_files_are_all_served() {
        let mut there = BTreeSet::from(["/favicon.ico".to_owned(), "/sdk/element.js".to_owned()]);
        for (folder, path) in
            [("console", "/console/"), ("javascript/src", "/sdk/"), ("javascript/element", "/sdk/element/")]
        {
            let folder = format!("{}/../clients/{folder}", env!("CARGO_MANIFEST_DIR"));
            add_files(folder.as_ref(), path, &mut there);
        }
        assert!(there.remove("/console/index.html"));
        assert_eq!(there, paths().collect(), "the served files and the folders differ");
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

    #[tokio::test]
    async fn only_files_of_folders_are_served() {
        let routes = endpoints().fold(Route::new(), |routes, (path, endpoint)| routes.at(path, endpoint)).boxed();
        for (path, expected) in [
            ("/favicon.ico", 200),
            ("/console/icon.svg", 200),
            ("/console/views/pane.js", 200),
            ("/sdk/conversation/timeline.js", 200),
            ("/sdk/element.js", 200),
            ("/sdk/element/index.js", 200),
            ("/sdk/conversation", 404),
            ("/console/index.html", 404),
            ("/console/", 404),
            ("/sdk/../console/icon.svg", 404),
            ("/sdk/..%2Fpackage.json", 404),
            ("/sdk/../package.json", 404),
            ("/sdk//etc/passwd", 404),
        ] {
            let request = Request::builder().uri_str(path).finish();
            assert_eq!(routes.get_response(request).await.status(), expected, "{path}");
        }
    }
}
