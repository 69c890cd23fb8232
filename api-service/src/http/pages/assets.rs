//! The files of the console and the SDK, compiled into the binary from `clients/`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;
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

static TYPES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../clients/javascript/types");

/// The file at the address of the element, beside the SDK's, and its types. The package has the same entry as
/// `ehr-chat-client/element`.
const ELEMENT_ENTRIES: [&str; 2] = ["/sdk/element.js", "/sdk/element.d.ts"];
const ELEMENT_ENTRY: &[u8] = b"export * from \"./element/index.js\";\n";

/// By this header, Deno and its language server find the types of a module that they load from an address.
const TYPES_HEADER: &str = "x-typescript-types";

/// The page at `/`. It is not served as a file, because its mode and its security policy depend on the service.
pub(crate) const CONSOLE_PAGE: &str = include_str!("../../../../clients/console/index.html");

/// Paths and contents of all files. A path is compared whole with the path of a request, so no request can leave the folders.
fn files() -> impl Iterator<Item = (String, Cow<'static, [u8]>)> {
    let folders = [("/console/", &CONSOLE), ("/sdk/", &SDK), ("/sdk/element/", &ELEMENT)].into_iter();
    let files = folders.flat_map(|(prefix, folder)| files_below(folder).into_iter().map(move |file| (prefix, file)));
    let files = files.filter(|(_, file)| !file.path().ends_with("index.html"));
    // Browsers request this icon for pages that name none.
    let icon = CONSOLE.get_file("icon.svg").map(|file| ("/favicon.ico".to_owned(), file.contents()));
    let files = files.map(|(prefix, file)| (format!("{prefix}{}", file.path().display()), file.contents()));
    let entries = ELEMENT_ENTRIES.map(|path| (path.to_owned(), ELEMENT_ENTRY));
    let files = files.chain(icon).chain(entries).map(|(path, content)| (path, Cow::Borrowed(content)));
    files.chain(files_below(&TYPES).into_iter().map(types))
}

/// The types of a module, beside it. Those of the element name the package, which is `index.js` here.
fn types(file: &File<'static>) -> (String, Cow<'static, [u8]>) {
    let up = "../".repeat(file.path().components().count() - 1);
    let text = String::from_utf8_lossy(file.contents()).replace("\"ehr-chat-client\"", &format!("\"{up}index.js\""));
    (format!("/sdk/{}", file.path().display()), Cow::Owned(text.into_bytes()))
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
    let all: BTreeMap<_, _> = files().collect();
    let endpoints = all.iter().map(|(path, content)| {
        let types =
            path.strip_suffix(".js").map(|module| format!("{module}.d.ts")).filter(|types| all.contains_key(types));
        (path.clone(), file(path, content, types))
    });
    endpoints.collect::<Vec<_>>().into_iter()
}

/// Revalidated on every request, so that all files of one page have one version.
fn file(path: &str, content: &[u8], types: Option<String>) -> impl Endpoint + use<> {
    let content_type = content_type(path);
    let tag = etag(content);
    let content = Bytes::copy_from_slice(content);
    poem::get(make_sync(move |request| {
        let mut answer = Response::builder().header(CACHE_CONTROL, "no-cache").header(ETAG, &tag);
        if let Some(types) = &types {
            answer = answer.header(TYPES_HEADER, types);
        }
        let known = request.headers().get(IF_NONE_MATCH).and_then(|tags| tags.to_str().ok());
        match known.is_some_and(|tags| {
            tags.split(',').any(|known| identity_etag(known.trim().trim_start_matches("W/")) == tag)
        }) {
            true => answer.status(StatusCode::NOT_MODIFIED).finish(),
            false => answer.content_type(content_type).body(content.clone()),
        }
    }))
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.') {
        Some((_, "js")) => "text/javascript; charset=utf-8",
        Some((_, "ts")) => "application/typescript; charset=utf-8",
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
        let mut there: BTreeSet<_> = ELEMENT_ENTRIES.map(str::to_owned).into();
        let _new = there.insert("/favicon.ico".to_owned());
        for (folder, path) in [
            ("console", "/console/"),
            ("javascript/src", "/sdk/"),
            ("javascript/element", "/sdk/element/"),
            ("javascript/types", "/sdk/"),
        ] {
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
    async fn modules_name_their_types() {
        let routes = endpoints().fold(Route::new(), |routes, (path, endpoint)| routes.at(path, endpoint)).boxed();
        for (module, types) in [
            ("/sdk/index.js", Some("/sdk/index.d.ts")),
            ("/sdk/conversation/timeline.js", Some("/sdk/conversation/timeline.d.ts")),
            ("/sdk/element.js", Some("/sdk/element.d.ts")),
            ("/sdk/element/index.js", Some("/sdk/element/index.d.ts")),
            ("/sdk/index.d.ts", None),
            ("/console/icon.svg", None),
        ] {
            let answer = routes.get_response(Request::builder().uri_str(module).finish()).await;
            let named = answer.headers().get(TYPES_HEADER).map(|types| types.to_str().unwrap());
            assert_eq!((answer.status(), named), (StatusCode::OK, types), "{module}");
            let Some(types) = types else { continue };
            let answer = routes.get_response(Request::builder().uri_str(types).finish()).await;
            assert_eq!(answer.content_type(), Some("application/typescript; charset=utf-8"), "{types}");
            let text = answer.into_body().into_string().await.unwrap();
            assert!(!text.contains("\"ehr-chat-client\""), "{types} names only files");
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
