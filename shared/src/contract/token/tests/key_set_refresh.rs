use super::*;
use crate::contract::revocation::{Revocation, RevocationSet};
use crate::contract::token::cache::TokenCache;
use crate::contract::token::testing::{Issuer, claims, set};
use crate::contract::token::{TokenError, Verifier, settings};
use crate::kit::env::mode::Mode;
use crate::kit::env::{Env, Secret};
use jsonwebtoken::Algorithm;
use parking_lot::Mutex;
use serde_json::json;
use std::path::PathBuf;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

fn rules(name: &'static str, value: &str) -> TokenConfig {
    let value = value.to_owned();
    let mut env = Env::from_fn(move |asked| match asked {
        "JWKS_REFRESH_SECONDS" => Some("5".to_owned()),
        asked => (asked == name).then(|| value.clone()),
    });
    settings::read(&mut env, Mode::Production).unwrap_or_else(|| panic!("{}", env.into_error()))
}

async fn tokens(rules: &TokenConfig, shutdown: &Shutdown) -> TokenCache {
    TokenCache::new(Verifier::new(rules, KeySetCache::open(rules, shutdown).await.unwrap()))
}

/// A file that goes with the value.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let file = Self(std::env::temp_dir().join(format!("shared-keyring-{}-{name}", std::process::id())));
        file.write(text);
        file
    }

    /// In one step, as it should be done.
    fn write(&self, text: &str) {
        let next = self.0.with_extension("next");
        std::fs::write(&next, text).unwrap();
        std::fs::rename(next, &self.0).unwrap();
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _gone = std::fs::remove_file(&self.0);
    }
}

/// An issuer's web server: answers with what it is given, and counts.
struct Server {
    url: String,
    answer: Arc<Mutex<String>>,
    asked: watch::Receiver<usize>,
}

impl Server {
    async fn start(answer: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks", listener.local_addr().unwrap());
        let answer = Arc::new(Mutex::new(answer));
        let (count, asked) = watch::channel(0);
        let given = answer.clone();
        tokio::spawn(async move {
            while let Ok((mut tcp, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = tcp.read_u8().await else { break };
                    head.push(byte);
                }
                let answer = given.lock().clone();
                let _gone = tcp.write_all(answer.as_bytes()).await;
                count.send_modify(|count| *count += 1);
            }
        });
        Self { url, answer, asked }
    }

    fn says(&self, answer: String) {
        *self.answer.lock() = answer;
    }
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn file_keys_rotate_without_a_gap() {
    let (old, new) = (Issuer::new(Algorithm::EdDSA, "old"), Issuer::new(Algorithm::ES256, "new"));
    let file = File::new("rotation", &old.set());
    let shutdown = Shutdown::new();
    let tokens = tokens(&rules("JWKS_FILE", file.0.to_str().unwrap()), &shutdown).await;
    let (of_old, of_new) = (old.sign(&claims()), new.sign(&claims()));
    tokens.check(&of_old).await.unwrap();
    assert_eq!(tokens.verify(&of_new), Err(TokenError::UnknownKey));
    file.write(&set([&old, &new]));
    // The first token of the new key is accepted: its request waits for the refresh.
    tokens.check(&of_new).await.unwrap();
    tokens.check(&of_old).await.unwrap();
    // A set that is no set changes nothing.
    let mut readings = tokens.keys().updates();
    file.write("{");
    file.write(&new.set());
    while tokens.verify(&of_old).is_ok() {
        readings.changed().await.unwrap();
    }
    assert_eq!(tokens.verify(&of_old), Err(TokenError::UnknownKey), "though it was verified before");
    tokens.verify(&of_new).unwrap();
    assert!(shutdown.finish(Duration::from_secs(5)).await);
}

#[tokio::test]
async fn failed_refresh_keeps_the_keys() {
    let issuer = Issuer::new(Algorithm::ES256, "k1");
    let file = File::new("broken", &issuer.set());
    let rules = rules("JWKS_FILE", file.0.to_str().unwrap());
    let reader = JwksFetcher::new(rules.jwks.as_ref().unwrap()).unwrap();
    let keys = KeySetCache::open(&rules, &Shutdown::new()).await.unwrap();
    let key = keys.set();
    for text in ["", "{\"keys\": []}", "{\"keys\": [{\"kty\": \"oct\", \"k\": \"c2VjcmV0\"}]}"] {
        file.write(text);
        assert!(keys.refresh(&reader, rules.jwks.as_ref().unwrap()).await.is_err());
        assert!(keys.set().equals(&key), "{text}");
    }
    std::fs::remove_file(&file.0).unwrap();
    assert!(keys.refresh(&reader, rules.jwks.as_ref().unwrap()).await.is_err());
    assert!(keys.set().equals(&key));
}

#[tokio::test]
async fn incomplete_file_is_read_again_soon() {
    let [old, new] = ["old", "new"].map(|kid| Issuer::new(Algorithm::ES256, kid));
    let file = File::new("half", &set([&old]));
    let shutdown = Shutdown::new();
    let rules = rules("JWKS_FILE", file.0.to_str().unwrap());
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let _recording = metrics::set_default_local_recorder(&recorder);
    let tokens = tokens(&rules, &shutdown).await;
    file.write("{");
    let failed = r#"ehr_chat_jwks_refreshes_total{outcome="failed"} 1"#;
    while !recorder.handle().render().contains(failed) {
        sleep(Duration::from_millis(10)).await;
    }
    file.write(&set([&new]));
    let written = Instant::now();
    while tokens.verify(&new.sign(&claims())).is_err() {
        sleep(Duration::from_millis(10)).await;
    }
    assert!(written.elapsed() < Duration::from_secs(6), "{:?}", written.elapsed());
    shutdown.begin();
}

#[tokio::test]
async fn url_keys_rotate_with_bounded_refreshes() {
    let (old, new) = (Issuer::new(Algorithm::ES256, "old"), Issuer::new(Algorithm::EdDSA, "new"));
    let mut server = Server::start(ok(&old.set())).await;
    let shutdown = Shutdown::new();
    let tokens = tokens(&rules("JWKS_URL", &server.url), &shutdown).await;
    tokens.check(&old.sign(&claims())).await.unwrap();
    server.says(ok(&set([&old, &new])));
    tokens.check(&new.sign(&claims())).await.unwrap();
    tokens.check(&old.sign(&claims())).await.unwrap();

    // Many tokens of unknown keys: each is rejected, and the issuer is asked once or twice.
    let before = *server.asked.borrow_and_update();
    let stranger = Issuer::new(Algorithm::ES256, "stranger");
    let token = stranger.sign(&claims());
    let started = Instant::now();
    let refused = futures_of(200, || tokens.check(&token)).await;
    assert!(refused.iter().all(|refused| *refused == Err(TokenError::UnknownKey)));
    let asked = *server.asked.borrow() - before;
    let most = 2 + started.elapsed().as_secs() as usize / MIN_REFRESH_INTERVAL.as_secs() as usize;
    assert!(asked <= most, "asked {asked} times in {:?}", started.elapsed());
    shutdown.finish(Duration::from_secs(5)).await;
}

/// Runs as many at once.
async fn futures_of<F: Future>(count: usize, make: impl Fn() -> F) -> Vec<F::Output> {
    let mut running: Vec<_> = (0..count).map(|_| (Box::pin(make()), None)).collect();
    std::future::poll_fn(|context| {
        let mut pending = false;
        for (future, output) in &mut running {
            if output.is_none() {
                match future.as_mut().poll(context) {
                    std::task::Poll::Ready(done) => *output = Some(done),
                    std::task::Poll::Pending => pending = true,
                }
            }
        }
        if pending { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
    })
    .await;
    running.into_iter().filter_map(|(_, output)| output).collect()
}

#[tokio::test]
async fn invalid_jwks_response_is_rejected() {
    let good = Issuer::new(Algorithm::ES256, "k1").set();
    let server = Server::start(ok(&good)).await;
    let rules = rules("JWKS_URL", &server.url);
    let jwks = rules.jwks.as_ref().unwrap();
    let reader = JwksFetcher::new(jwks).unwrap();
    let keyring = KeySetCache::new(None, KeySet::default());
    let other = Server::start(ok(&good)).await;
    for (answer, why) in [
        (format!("HTTP/1.1 302 Found\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n", other.url), "status 302"),
        ("HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n".to_owned(), "status 500"),
        (ok("<html>"), "not a JSON Web Key Set"),
        (ok(&format!("{{\"keys\": [], \"padding\": \"{}\"}}", "x".repeat(300 * 1024))), "larger than"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 100\r\nconnection: close\r\n\r\n{".to_owned(), "cannot be read"),
        ("nonsense".to_owned(), "cannot be read"),
    ] {
        server.says(answer);
        let unread = keyring.refresh(&reader, jwks).await.unwrap_err().to_string();
        assert!(unread.contains(why), "{unread}");
    }
    assert_eq!(*other.asked.borrow(), 0, "redirects are not followed");
    server.says(ok(&good));
    keyring.refresh(&reader, jwks).await.unwrap();
    assert_eq!(keyring.set().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn start_fails_without_issuer() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/jwks", taken.local_addr().unwrap());
    drop(taken);
    let started = Instant::now();
    let why = KeySetCache::open(&rules("JWKS_URL", &url), &Shutdown::new()).await.err().unwrap().to_string();
    assert!(why.contains("no keys to verify tokens with"), "{why}");
    assert!(started.elapsed() >= STARTUP_TIMEOUT);
}

#[tokio::test]
async fn revocations_survive_key_rotation() {
    let (old, new) = (Issuer::new(Algorithm::EdDSA, "old"), Issuer::new(Algorithm::EdDSA, "new"));
    let file = File::new("revoked", &old.set());
    let rules = rules("JWKS_FILE", file.0.to_str().unwrap());
    let jwks = rules.jwks.as_ref().unwrap();
    let reader = JwksFetcher::new(jwks).unwrap();
    let revocations: Arc<RevocationSet> = Arc::default();
    let keyring = Arc::new(KeySetCache::new(None, KeySet::default()));
    keyring.refresh(&reader, jwks).await.unwrap();
    let verifier = Verifier::new(&rules, keyring.clone()).with_revocations(revocations.clone());
    let tokens = TokenCache::new(verifier);
    let mut revoked = claims();
    revoked["jti"] = json!("t1");
    let (taken_back, other) = (old.sign(&revoked), old.sign(&claims()));
    tokens.verify(&taken_back).unwrap();
    let kept = tokens.verify(&other).unwrap();
    revocations.add([Revocation::Token { jti: "t1".into(), expires_at: None }.entry(i64::MAX)]);
    for issuers in [vec![&old, &new], vec![&new, &old], vec![&old]] {
        file.write(&set(issuers));
        keyring.refresh(&reader, jwks).await.unwrap();
        assert_eq!(tokens.verify(&taken_back), Err(TokenError::Revoked));
        // A key that stays does not cause its tokens to be verified again.
        assert!(Arc::ptr_eq(&tokens.verify(&other).unwrap(), &kept));
    }
    file.write(&new.set());
    keyring.refresh(&reader, jwks).await.unwrap();
    assert_eq!(tokens.verify(&other), Err(TokenError::UnknownKey));
    // It comes back: as good as before, and as revoked.
    file.write(&old.set());
    keyring.refresh(&reader, jwks).await.unwrap();
    assert_eq!(tokens.verify(&taken_back), Err(TokenError::Revoked));
    tokens.verify(&other).unwrap();
}

#[test]
fn secret_is_accepted_only_if_configured() {
    let secret: Secret = "0123456789abcdef0123456789abcdef".parse().unwrap();
    assert!(KeySetCache::new(Some(&secret), KeySet::default()).contains(VerificationKeyId::SECRET));
    assert!(!KeySetCache::new(None, KeySet::default()).contains(VerificationKeyId::SECRET));
}
