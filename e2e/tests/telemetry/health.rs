//! The admin ports say what each service depends on, and how that is.

use serde_json::json;

use crate::place;

#[tokio::test]
async fn readiness_names_every_dependency_on_the_admin_port_only() {
    let place = place();
    let [api, gateway] = &place.env.admin_urls[..] else { panic!("an API service and a gateway") };
    let answer = place.behind(api).get("/readyz").await.json();
    let up = json!({"postgresql": "up", "redis": "up", "revocations": "known"});
    assert_eq!((&answer["status"], &answer["dependencies"]), (&json!("ready"), &up));
    // Compared a moment after the start; here both clocks are one.
    let compared = async {
        loop {
            if let Some(seconds) = place.behind(api).get("/readyz").await.json()["clock_offset_seconds"].as_f64() {
                return seconds;
            }
        }
    };
    let offset = tokio::time::timeout(e2e::PATIENCE, compared).await.expect("the clocks are compared");
    assert!(offset.abs() < 10.0, "{offset}");
    let answer = place.behind(gateway).get("/readyz").await.json();
    let up = json!({"redis": "up", "revocations": "known"});
    assert_eq!((&answer["status"], &answer["dependencies"]), (&json!("ready"), &up));
    let public = place.get("/readyz").await;
    assert_eq!(public.status, 200);
    assert!(!public.text.contains("postgresql"), "{public:?}");
    assert_eq!(place.get("/metrics").await.status, 404);
}
