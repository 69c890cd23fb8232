//! What is insecure and yet allowed is warned of when a service starts: each row of the table in `docs/operate/deploy.md`.

use e2e::audit::AuditLog;
use e2e::issuer::{Issuer, Jwks};
use jsonwebtoken::Algorithm;
use stack::StackEnv;

use crate::service_process::ServiceProcess;
use crate::test_env;

/// Of no development and no example.
const SECRET: &str = "8f2d1c9e0fb2a84c7790d36b1f8e2a4c";
const AUDIT_KEY: &str = "5d1c9e0fb2a84c7790d36b1f8e2a4c09";

/// Starts a service with these settings, and waits until it warns of this. Values are not shown.
async fn warns(env: &StackEnv, service: &str, settings: &[(&str, &str)], of: &str) {
    let alone = ServiceProcess::start(service, env, settings);
    let output = alone.until_said(of).await;
    let line = output.lines().find(|line| line.contains(of)).unwrap();
    assert!(line.contains("\"level\":\"WARN\"") || line.contains("\"level\":\"warn\""), "{service}: {line}");
    for (name, value) in settings.iter().filter(|(name, _)| name.contains("URL") || name.contains("KEY")) {
        assert!(!output.contains(value), "{service} shows {name}: {output}");
    }
}

#[tokio::test]
async fn insecure_settings_are_logged_at_startup() {
    let test_env = test_env().await;
    let env = test_env.stack.env();
    let issuer = Issuer::new(Algorithm::ES256, "one");
    let keys = Jwks::publish(test_env.stack.data_dir().join("jwks.json"), &[&issuer]);
    for service in ["api-service", "ws-gateway"] {
        warns(&env, service, &[("ADMIN_ADDR", "0.0.0.0:0")], "ADMIN_ADDR is 0.0.0.0:0").await;
        warns(&env, service, &[("TRUSTED_PROXIES", "10.0.0.7,::/0")], "TRUSTED_PROXIES covers").await;
        warns(&env, service, &[("JWKS_FILE", keys.path().to_str().unwrap())], "without JWT_ISSUER and JWT_AUDIENCE")
            .await;
    }
    for (name, value) in [
        ("DATABASE_URL", env.service_database_url.as_str()),
        ("CONTENT_KEYS", "m1:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="),
        ("AUDIT_KEY", AUDIT_KEY),
    ] {
        warns(&env, "ws-gateway", &[(name, value)], &format!("{name} is set: a gateway has no use for it")).await;
    }
    test_env.stack.stop().unwrap();
}

#[tokio::test]
async fn powerful_database_role_is_logged_in_production() {
    let test_env = test_env().await;
    let env = test_env.stack.env();
    let owner = AuditLog::open(&env.database_url).await.client;
    owner
        .batch_execute(
            "create role second_owner login password 'of-no-importance'; grant chat to second_owner;
             create role lone_superuser login superuser password 'of-no-importance'",
        )
        .await
        .unwrap();
    let (_, place) = env.database_url.split_once('@').unwrap();
    for (role, what) in [("second_owner", "owns the tables"), ("lone_superuser", "is a superuser")] {
        let url = format!("postgres://{role}:of-no-importance@{place}");
        let settings =
            [("MODE", "production"), ("JWT_SECRET", SECRET), ("AUDIT_KEY", AUDIT_KEY), ("DATABASE_URL", url.as_str())];
        warns(&env, "api-service", &settings, &format!("\"excess\":\"{what}\"")).await;
    }
    test_env.stack.stop().unwrap();
}
