//! Traces by OTLP over HTTP, if a collector is configured: a span per request, and child spans for its parts.
//!
//! `tracing-opentelemetry` runs in a subscriber of its own, which is the default only while this module makes a span. So it sees
//! neither log lines nor spans of libraries, and no query, body, token or error text can get there. [`AllowList`] checks the same
//! at the other end: what the exporter gets holds the attributes of [`ATTRIBUTES`] and nothing else. Without a collector nothing
//! here runs.

use std::fmt;
use std::future::Future;
use std::str::FromStr;
use std::time::Duration;

use async_trait::async_trait;
use opentelemetry::Context;
use opentelemetry::trace::{
    SpanContext, SpanId, Status, TraceContextExt, TraceFlags, TraceId, TraceState, TracerProvider,
};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, SpanData, SpanEvents, SpanExporter, SpanLinks,
};
use tokio::runtime::Handle;
use tracing::field::Empty;
use tracing::{Dispatch, Instrument, Span, dispatcher};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Registry;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::layer::SubscriberExt;

use crate::kit::env::{Env, Setting};
use crate::kit::net::tls;

/// Header in which a caller names the trace and the span that this request belongs to (W3C Trace Context).
pub const TRACEPARENT_HEADER: &str = "traceparent";

/// Spans that may wait for the collector; more are dropped.
const SPAN_QUEUE_CAPACITY: usize = 8_192;
/// How long the collector may take for a batch.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// For what is left at the end.
const FINAL_EXPORT_TIMEOUT: Duration = Duration::from_secs(3);

/// Marks the spans of this module; the subscriber takes no others.
const TARGET: &str = module_path!();
/// What a span may hold.
const ATTRIBUTES: [&str; 4] = ["http.request.method", "http.route", "http.response.status_code", "request_id"];

/// Where the collector is.
pub const OTLP_ENDPOINT: Setting = Setting {
    name: "OTEL_EXPORTER_OTLP_ENDPOINT",
    default: Some(""),
    help: "http(s)://host:port of an OpenTelemetry collector (OTLP over HTTP); traces are off without it. \
           OTEL_EXPORTER_OTLP_HEADERS adds headers",
};
/// How many requests are traced.
pub const SAMPLE_RATIO: Setting = Setting {
    name: "OTEL_TRACES_SAMPLER_ARG",
    default: Some("1"),
    help: "0 to 1: share of the traces that are recorded, the same ones in every service",
};

/// A collector's address.
#[derive(Clone, PartialEq, Eq)]
struct Endpoint(String);

impl FromStr for Endpoint {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let place = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
        match place {
            // The exporter parses it once more, and its error would quote it.
            Some(place)
                if !place.trim_matches('/').is_empty()
                    && reqwest::Url::parse(text).is_ok()
                    && Request::builder().uri(text).body(()).is_ok() =>
            {
                Ok(Self(text.trim_end_matches('/').to_owned()))
            }
            _ => Err("must be http://host:port or https://host:port"),
        }
    }
}

/// It may hold a password.
impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// To whom, and how much.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceConfig {
    endpoint: Endpoint,
    ratio: f64,
}

impl TraceConfig {
    /// Reads the settings. `Some(None)` is no tracing, `None` a mistake that `env` has noted.
    #[allow(clippy::option_option, reason = "the outer one is how all settings are read")]
    pub fn read(env: &mut Env) -> Option<Option<Self>> {
        let endpoint = env.read_optional::<Endpoint>(&OTLP_ENDPOINT);
        let ratio = env.read_number(&SAMPLE_RATIO, 0.0..=1.0);
        let (endpoint, ratio) = (endpoint?, ratio?);
        Some(endpoint.map(|endpoint| Self { endpoint, ratio }))
    }
}

/// Why traces cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// No CA can verify the collector.
    #[error("OTEL_EXPORTER_OTLP_ENDPOINT: {0}")]
    Ca(#[from] tls::CaError),
    /// The client cannot be made.
    #[error("OTEL_EXPORTER_OTLP_ENDPOINT: {0}")]
    Client(#[from] reqwest::Error),
    /// The exporter cannot be made.
    #[error("OTEL_EXPORTER_OTLP_ENDPOINT: {0}")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
}

/// Makes spans and sends them.
#[derive(Clone)]
pub struct Tracing {
    provider: SdkTracerProvider,
    dispatch: Dispatch,
}

impl Tracing {
    /// Begins to send the traces of this service. Call it within the runtime that shall do it.
    ///
    /// # Errors
    /// [`TraceError`]. A collector that is away is none: spans are dropped until it is there.
    pub fn start(service: &'static str, config: &TraceConfig) -> Result<Self, TraceError> {
        let url = format!("{}/v1/traces", config.endpoint.0);
        let mut client =
            reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).timeout(EXPORT_TIMEOUT);
        if url.starts_with("https:") {
            client = client.tls_backend_preconfigured(tls::client_config(None)?);
        }
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(url)
            .with_timeout(EXPORT_TIMEOUT)
            .with_http_client(Client { http: client.build()?, runtime: Handle::current() })
            .build()?;
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(SPAN_QUEUE_CAPACITY)
            .with_scheduled_delay(Duration::from_secs(1))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(BatchSpanProcessor::builder(AllowList(exporter)).with_batch_config(batches).build())
            // By the trace's id alone: every service decides alike, and no caller can have itself recorded.
            .with_sampler(Sampler::TraceIdRatioBased(config.ratio))
            .with_resource(Resource::builder_empty().with_service_name(service).build())
            .build();
        Ok(Self::with_provider(provider, service))
    }

    fn with_provider(provider: SdkTracerProvider, service: &'static str) -> Self {
        let layer = tracing_opentelemetry::layer()
            .with_tracer(provider.tracer(service))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_target(false);
        // The hint keeps this subscriber from enabling lines below `info`, which every library would then make for it.
        let own = filter_fn(|metadata| metadata.is_span() && metadata.target() == TARGET);
        let own = own.with_max_level_hint(LevelFilter::INFO);
        Self { provider, dispatch: Dispatch::new(Registry::default().with(own).with(layer)) }
    }

    /// The span of a request. `route` is a route of this service without parameters. `parent` is the caller's `traceparent`, if
    /// the caller is trusted.
    #[must_use]
    pub fn request_span(&self, method: &str, route: &str, request_id: &str, parent: Option<&str>) -> RequestSpan {
        let name = format!("{method} {route}");
        let span = dispatcher::with_default(&self.dispatch, || {
            tracing::info_span!(
                target: TARGET,
                parent: None,
                "request",
                otel.name = name,
                otel.kind = "server",
                otel.status_code = Empty,
                http.request.method = method,
                http.route = route,
                http.response.status_code = Empty,
                request_id,
            )
        });
        let base = parent.and_then(parse_traceparent);
        let base = base.map_or_else(Context::new, |parent| Context::new().with_remote_span_context(parent));
        // The context carries the subscriber to where child spans are made. It fails only for spans of another subscriber.
        let _ = span.set_parent(base.with_value(self.dispatch.clone()));
        RequestSpan(span)
    }

    /// Sends what is left, for `deadline` at most.
    pub async fn finish(self, deadline: Duration) {
        let deadline = deadline.min(FINAL_EXPORT_TIMEOUT);
        let finished = tokio::task::spawn_blocking(move || self.provider.shutdown_with_timeout(deadline));
        if !matches!(finished.await, Ok(Ok(()))) {
            tracing::debug!("the last traces did not reach the collector");
        }
    }
}

/// A span that lasts as long as its request.
pub struct RequestSpan(Span);

impl RequestSpan {
    /// Runs what belongs to the request: [`child_span`] finds this span there.
    pub fn in_span<F: Future>(&self, work: F) -> impl Future<Output = F::Output> + use<F> {
        work.instrument(self.0.clone())
    }

    /// The answer.
    pub fn end(self, status: u16) {
        self.0.record("http.response.status_code", i64::from(status));
        if status >= 500 {
            self.0.record("otel.status_code", "ERROR");
        }
        // A span ends when it was left last, which is now and not when the handler returned.
        self.0.in_scope(|| ());
    }
}

/// A part of the present request, which ends when this is dropped. Nothing where no request is traced.
#[must_use]
pub fn child_span(name: &'static str) -> Option<ChildSpan> {
    let is_sampled = |context: &Context| context.span().span_context().is_sampled();
    let context = Context::map_current(|context| is_sampled(context).then(|| context.clone()))?;
    let dispatch = context.get::<Dispatch>()?;
    // A parent in the subscriber would be closed in the default one, which is another. The context names it as well.
    let new_span = || tracing::info_span!(target: TARGET, parent: None, "part", otel.name = name);
    let span = dispatcher::with_default(dispatch, new_span);
    let _ = span.set_parent(context.clone());
    Some(ChildSpan(span))
}

/// See [`child_span`].
pub struct ChildSpan(#[allow(dead_code, reason = "its drop ends it")] Span);

/// An exporter of nothing but what a span may hold.
#[derive(Debug)]
struct AllowList<E>(E);

impl<E: SpanExporter> SpanExporter for AllowList<E> {
    fn export(&self, mut spans: Vec<SpanData>) -> impl Future<Output = OTelSdkResult> + Send {
        for span in &mut spans {
            span.attributes.retain(|attribute| ATTRIBUTES.contains(&attribute.key.as_str()));
            (span.events, span.links) = (SpanEvents::default(), SpanLinks::default());
            if let Status::Error { description } = &mut span.status {
                *description = "".into();
            }
        }
        self.0.export(spans)
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.0.set_resource(resource);
    }
}

/// Parses `00-TRACE-SPAN-FLAGS` (W3C Trace Context, section 3.2). Other text has no effect.
fn parse_traceparent(text: &str) -> Option<SpanContext> {
    let is_hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let mut parts = text.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    // Later versions may add parts behind these; ours may not.
    let is_whole = version != "ff" && (version != "00" || parts.next().is_none());
    if !is_whole
        || ![(version, 2), (trace, 32), (span, 16), (flags, 2)].iter().all(|(part, length)| is_hex(part, *length))
    {
        return None;
    }
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?);
    let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
    Some(SpanContext::new(trace, span, flags, true, TraceState::default())).filter(SpanContext::is_valid)
}

/// The exporter has a thread of its own; the work is done by the runtime of everything else.
#[derive(Debug)]
struct Client {
    http: reqwest::Client,
    runtime: Handle,
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (http, request) = (self.http.clone(), reqwest::Request::try_from(request)?);
        let sending = self.runtime.spawn(async move {
            let response = http.execute(request).await?;
            let status = response.status();
            Ok::<_, reqwest::Error>((status, response.bytes().await?))
        });
        let sent = sending.await?;
        let outcome = if matches!(&sent, Ok((status, _)) if status.is_success()) { "sent" } else { "failed" };
        metrics::counter!("ehr_chat_trace_exports_total", "outcome" => outcome).increment(1);
        let (status, body) = sent?;
        Ok(Response::builder().status(status).body(body)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn traceparent_is_parsed_as_specified() {
        let parent = parse_traceparent(PARENT).unwrap();
        assert_eq!(parent.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(parent.span_id().to_string(), "00f067aa0ba902b7");
        assert!(parent.is_sampled() && parent.is_remote());
        assert!(parse_traceparent("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more").is_some());
        for bad in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
        ] {
            assert!(parse_traceparent(bad).is_none(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn traceparent_parser_never_panics(text in "[-0-9a-fé]{0,70}") {
            let _ = parse_traceparent(&text);
        }
    }

    #[test]
    fn tracing_is_off_by_default() {
        let read = |endpoint: &'static str, ratio: &'static str| {
            let mut env =
                Env::from_fn(move |name| Some(if name == OTLP_ENDPOINT.name { endpoint } else { ratio }.to_owned()));
            (TraceConfig::read(&mut env), env.into_error().0.len())
        };
        assert_eq!(read("", ""), (Some(None), 0));
        let (config, _) = read("https://u:hunter2@collector:4318/", "0.5");
        let config = config.unwrap().unwrap();
        assert_eq!((config.endpoint.0.as_str(), config.ratio), ("https://u:hunter2@collector:4318", 0.5));
        assert!(!format!("{config:?}").contains("hunter2"));
        assert_eq!(read("collector:4318", "2"), (None, 2));
        assert_eq!(read("http://", ""), (None, 1));
        assert_eq!(read("https://u:hunter{2@collector:4318", ""), (None, 1), "the exporter would reject and quote it");
    }

    /// Takes one export, and gives its body.
    async fn collect(listener: &TcpListener) -> (String, Vec<u8>) {
        let (mut tcp, _) = listener.accept().await.unwrap();
        let mut read = Vec::new();
        loop {
            let mut buffer = [0; 4096];
            let count = tcp.read(&mut buffer).await.unwrap();
            read.extend_from_slice(&buffer[..count]);
            let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
            let head = String::from_utf8(read[..end].to_vec()).unwrap().to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            if read.len() >= end + 4 + length.parse::<usize>().unwrap() {
                tcp.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await.unwrap();
                return (head, read[end + 4..].to_vec());
            }
        }
    }

    fn holds(body: &[u8], text: &[u8]) -> bool {
        body.windows(text.len()).any(|window| window == text)
    }

    async fn traces(ratio: f64) -> (TcpListener, Tracing) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let traces = Tracing::start("test-service", &TraceConfig { endpoint, ratio }).unwrap();
        (listener, traces)
    }

    #[tokio::test]
    async fn spans_join_the_callers_trace() {
        let (listener, traces) = traces(1.0).await;
        let span = traces.request_span("POST", "/chat/send", "r-1", Some(PARENT));
        span.in_span(async {
            tokio::task::yield_now().await;
            drop(child_span("database").unwrap());
        })
        .await;
        assert!(child_span("database").is_none(), "only within the request");
        span.end(201);
        let finishing = tokio::spawn(traces.finish(FINAL_EXPORT_TIMEOUT));
        let (head, body) = collect(&listener).await;
        finishing.await.unwrap();
        assert!(head.starts_with("post /v1/traces "), "{head}");
        for text in ["test-service", "POST /chat/send", "http.route", "r-1", "database"] {
            assert!(holds(&body, text.as_bytes()), "{text}");
        }
        let trace = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes();
        assert!(holds(&body, &trace), "the caller's trace goes on");
    }

    #[tokio::test]
    async fn only_own_spans_and_attributes_leave() {
        let (listener, traces) = traces(1.0).await;
        let span = traces.request_span("POST", "/chat/send", "r-4", None);
        span.in_span(async {
            // A library logs, and a span of our own has an attribute that is not on the list.
            tracing::error!(secret = "hunter2", "hunter2");
            drop(tracing::info_span!("hunter2", secret = "hunter2").entered());
            dispatcher::with_default(&traces.dispatch, || {
                drop(tracing::info_span!("hunter2"));
                drop(tracing::debug_span!(target: TARGET, "hunter2"));
                tracing::error!(target: TARGET, secret = "hunter2", "hunter2");
                drop(
                    tracing::info_span!(target: TARGET, "own", secret = "hunter2", otel.status_description = "hunter2"),
                );
            });
        })
        .await;
        span.end(201);
        let finishing = tokio::spawn(traces.finish(FINAL_EXPORT_TIMEOUT));
        let (_, body) = collect(&listener).await;
        finishing.await.unwrap();
        assert!(holds(&body, b"own") && holds(&body, b"http.response.status_code"));
        for text in ["hunter2", "secret", "trace.rs", "thread", "target", "busy_ns"] {
            assert!(!holds(&body, text.as_bytes()), "{text}");
        }
    }

    #[tokio::test]
    async fn span_ends_with_the_answer_and_its_status() {
        #[derive(Debug, Clone, Default)]
        struct Exported(std::sync::Arc<parking_lot::Mutex<Vec<SpanData>>>);
        impl SpanExporter for Exported {
            async fn export(&self, spans: Vec<SpanData>) -> OTelSdkResult {
                self.0.lock().extend(spans);
                Ok(())
            }
        }
        let exported = Exported::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(AllowList(exported.clone())).build();
        let traces = Tracing::with_provider(provider, "test-service");
        for status in [200, 503] {
            let span = traces.request_span("GET", "/healthz", "r-5", None);
            let returned = span.in_span(async { std::time::SystemTime::now() }).await;
            span.end(status);
            let span = exported.0.lock().pop().unwrap();
            assert!(span.end_time >= returned);
            assert_eq!(span.status == Status::error(""), status == 503, "{:?}", span.status);
            assert_eq!(span.attributes.len(), ATTRIBUTES.len());
        }
    }

    #[tokio::test]
    async fn unsampled_request_has_no_child_spans() {
        let (_listener, traces) = traces(0.0).await;
        let span = traces.request_span("GET", "/chat/history", "r-2", Some(PARENT));
        span.in_span(async { assert!(child_span("database").is_none()) }).await;
        span.end(200);
        traces.finish(FINAL_EXPORT_TIMEOUT).await;
    }

    #[tokio::test]
    async fn missing_collector_does_not_block() {
        let (listener, traces) = traces(1.0).await;
        drop(listener);
        traces.request_span("GET", "/healthz", "r-3", None).end(503);
        traces.finish(FINAL_EXPORT_TIMEOUT).await;
    }
}
