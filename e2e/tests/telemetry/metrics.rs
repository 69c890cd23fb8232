//! docs/operate/metrics.md names every metric with its labels, and the services show what it names.

use std::collections::{BTreeMap, BTreeSet};

use crate::{all_metrics, place};

/// Names, and the labels of each.
type Metrics = BTreeMap<String, BTreeSet<String>>;

/// From the first column of the tables: `name{label,label}`.
fn documented() -> Metrics {
    let text = include_str!("../../../docs/operate/metrics.md");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    let names = rows.flat_map(|column| column.split('`').skip(1).step_by(2));
    names
        .map(|name| {
            let (name, labels) = name.split_once('{').unwrap_or((name, ""));
            let labels = labels.trim_end_matches('}').split(',').map(str::trim).filter(|label| !label.is_empty());
            (name.to_owned(), labels.map(str::to_owned).collect())
        })
        .collect()
}

fn shown(text: &str) -> Metrics {
    let mut metrics = Metrics::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            metrics.entry(rest.split(' ').next().unwrap().to_owned()).or_default();
        } else if !line.starts_with('#')
            && let Some((name, labels)) = line.split_once('{')
        {
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| {
                let family = name.strip_suffix(suffix)?;
                metrics.contains_key(family).then(|| family.to_owned())
            });
            let labels = labels.split('}').next().unwrap().split(',').map(|label| label.split('=').next().unwrap());
            let known = metrics.get_mut(&family.unwrap_or_else(|| name.to_owned())).unwrap();
            known.extend(labels.filter(|label| *label != "le").map(str::to_owned));
        }
    }
    metrics
}

#[tokio::test]
async fn metrics_match_documentation() {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let mut socket = patient.open(&doctor).await;
    doctor.send_ok(&patient, "hello").await;
    socket.expect("message").await;
    let (documented, shown) = (documented(), shown(&all_metrics(&place).await));
    assert!(documented.len() > 40, "{documented:?}");
    let (documented, shown): (BTreeSet<_>, BTreeSet<_>) =
        (documented.into_iter().collect(), shown.into_iter().collect());
    let missing: Vec<_> = documented.difference(&shown).collect();
    let unnamed: Vec<_> = shown.difference(&documented).collect();
    assert!(
        missing.is_empty() && unnamed.is_empty(),
        "documented, not shown: {missing:?}\nshown, not documented: {unnamed:?}"
    );
}

#[tokio::test]
async fn histograms_have_buckets_and_metrics_have_help() {
    let place = place();
    let text = all_metrics(&place).await;
    let types: Vec<(&str, &str)> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    assert!(types.iter().all(|(_, kind)| *kind != "summary"), "{types:?}");
    for (name, kind) in &types {
        assert!(text.contains(&format!("# HELP {name} ")), "{name}");
        if *kind == "histogram" {
            assert!(text.contains(&format!("{name}_bucket{{")), "{name}");
        }
    }
}

#[tokio::test]
async fn message_path_is_measured() {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let mut socket = patient.open(&doctor).await;
    let names = [
        r#"ehr_chat_http_request_duration_seconds_count{route="/chat/send"}"#,
        "ehr_chat_send_commit_duration_seconds_count",
        "ehr_chat_publish_duration_seconds_count",
        "ehr_chat_publish_batch_size_count",
        "ehr_chat_gateway_delivery_latency_seconds_count",
        "ehr_chat_gateway_handshake_duration_seconds_count",
    ];
    doctor.send_ok(&patient, "hello").await;
    socket.expect("message").await;
    for name in names {
        assert!(crate::metric(&place, name).await >= 1.0, "{name}");
    }
    for name in ["ehr_chat_database_up", "ehr_chat_redis_up", "ehr_chat_gateway_redis_up"] {
        assert!((crate::metric(&place, name).await - 1.0).abs() < f64::EPSILON, "{name}");
    }
    assert!(crate::metric(&place, r#"ehr_chat_database_connections{state="idle"}"#).await >= 1.0);
}

#[tokio::test]
async fn admin_ports_show_build_and_process() {
    let place = place();
    let gateways = place.env.gateway_ws_urls.len();
    let apis = place.env.admin_urls.len() - gateways;
    let services = std::iter::repeat_n("api-service", apis).chain(std::iter::repeat_n("ws-gateway", gateways));
    for (url, service) in place.env.admin_urls.iter().zip(services) {
        let text = place.with_base_url(url).get("/metrics").await.text;
        let build = text.lines().find(|line| line.starts_with("ehr_chat_build_info{")).expect(url);
        let version = env!("CARGO_PKG_VERSION");
        for label in [format!("service=\"{service}\""), format!("version=\"{version}\""), "commit=\"".to_owned()] {
            assert!(build.contains(&label), "{url}: {build}");
        }
        assert!(build.ends_with(" 1"), "{build}");
        for name in
            ["process_resident_memory_bytes", "process_open_fds", "process_max_fds", "process_start_time_seconds"]
        {
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
            assert!(value.is_some_and(|value| value > 0.0), "{service}, {name}: {value:?}");
        }
        assert!(text.contains("# TYPE process_cpu_seconds_total counter"), "{service}");
    }
}
