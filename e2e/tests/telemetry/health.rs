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
    let answer = place.behind(gateway).get("/readyz").await.json();
    let up = json!({"redis": "up", "revocations": "known"});
    assert_eq!((&answer["status"], &answer["dependencies"]), (&json!("ready"), &up));
    let public = place.get("/readyz").await;
    assert_eq!(public.status, 200);
    assert!(!public.text.contains("postgresql"), "{public:?}");
    assert_eq!(place.get("/metrics").await.status, 404);
}
