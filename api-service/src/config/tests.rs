use super::*;

#[test]
fn errors_are_reported_together_without_values() {
    let env = Env::from_fn(|name| match name {
        "JWT_SECRET" => Some("hunter2".to_owned()),
        "LISTEN_ADDR" => Some("everywhere".to_owned()),
        "DATABASE_POOL_SIZE" => Some("1".to_owned()),
        _ => None,
    });
    let message = serve(env).unwrap_err().to_string();
    for name in ["DATABASE_URL", "REDIS_URL", "JWT_SECRET", "LISTEN_ADDR", "DATABASE_POOL_SIZE"] {
        assert!(message.contains(name), "{message}");
    }
    assert!(!message.contains("hunter2") && !message.contains("everywhere"), "{message}");
}

#[test]
fn redis_ca_file_must_be_usable() {
    let env = |url: &'static str| {
        Env::from_fn(move |name| match name {
            "JWT_SECRET" => Some("x".repeat(32)),
            "AUDIT_KEY" => Some("y".repeat(32)),
            "DATABASE_URL" => Some("postgres://localhost/chat".to_owned()),
            "REDIS_URL" => Some(url.to_owned()),
            "REDIS_CA_FILE" => Some(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml").to_owned()),
            _ => None,
        })
    };
    assert!(serve(env("rediss://localhost")).unwrap_err().to_string().contains("no certificate"));
    assert!(serve(env("amqp://localhost")).unwrap_err().to_string().contains("REDIS_URL: must begin"));
}

#[test]
fn four_settings_suffice() {
    let env = Env::from_fn(|name| match name {
        "JWT_SECRET" => Some("8f2d1c9e0fb2a84c7790d36b1f8e2a4c".to_owned()),
        "AUDIT_KEY" => Some("b7e23ec29af22b0b4e41da31e868d572".to_owned()),
        "DATABASE_URL" => Some("postgres://localhost/chat".to_owned()),
        "REDIS_URL" => Some("redis://localhost".to_owned()),
        _ => None,
    });
    let config = serve(env).unwrap();
    assert_eq!(config.listen.public.port(), 8081);
    assert!(config.dev_signing_key.is_none(), "no development tokens by default");
    assert!(!format!("{config:?}").contains("8f2d1c9e"));
}

#[test]
fn production_rejects_development_secrets() {
    let env = |mode: &'static str| {
        Env::from_fn(move |name| match name {
            "MODE" => Some(mode.to_owned()),
            "JWT_SECRET" => Some("development-5d1c9e0fb2a84c7790d36b1f8e2a4c09".to_owned()),
            "AUDIT_KEY" => Some("b7e23ec29af22b0b4e41da31e868d572".to_owned()),
            "ALLOWED_ORIGINS" => Some("*".to_owned()),
            "DATABASE_URL" => Some("postgres://localhost/chat".to_owned()),
            "REDIS_URL" => Some("redis://localhost".to_owned()),
            _ => None,
        })
    };
    assert!(serve(env("development")).unwrap().dev_signing_key.is_some());
    for mode in ["", "production"] {
        let ConfigError(mistakes) = serve(env(mode)).unwrap_err();
        assert_eq!(mistakes.len(), 2, "{mistakes:?}");
        assert!(mistakes[0].starts_with("JWT_SECRET: was made for development"), "{mistakes:?}");
    }
    assert!(serve(env("prod")).unwrap_err().to_string().contains("MODE"));
    // Tokens are printed in any mode: they are as good as the service that accepts them.
    assert!(secret(env("production")).is_ok());
    assert!(secret(Env::from_fn(|_| None)).unwrap_err().to_string().contains("JWT_SECRET: is required"));
}

#[test]
fn only_development_derives_audit_key() {
    let secret = "5d1c9e0fb2a84c7790d36b1f8e2a4c09";
    let env = |mode: &'static str, audit_key: &'static str, old: &'static str| {
        Env::from_fn(move |name| match name {
            "MODE" => Some(mode.to_owned()),
            "JWT_SECRET" => Some(secret.to_owned()),
            "AUDIT_KEY" => Some(audit_key.to_owned()),
            "AUDIT_PREVIOUS_KEYS" => Some(old.to_owned()),
            "DATABASE_URL" => Some("postgres://localhost/chat".to_owned()),
            "REDIS_URL" => Some("redis://localhost".to_owned()),
            "CONTENT_KEYS" => Some("a:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=".to_owned()),
            "RELAY_KEYS" => Some("b:ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=".to_owned()),
            _ => None,
        })
    };
    for mode in ["", "production"] {
        for ConfigError(mistakes) in [
            serve(env(mode, "", "")).unwrap_err(),
            verify(env(mode, "", "")).unwrap_err(),
            export(env(mode, "", "")).unwrap_err(),
            audit(env(mode, "", "")).unwrap_err(),
            keys(env(mode, "", "")).unwrap_err(),
        ] {
            assert!(mistakes.len() == 1 && mistakes[0].starts_with("AUDIT_KEY: is required"), "{mistakes:?}");
        }
    }
    let derived = AuditKey::derived(&secret.parse().unwrap()).unwrap();
    assert_eq!(serve(env("development", "", "")).unwrap().audit_key.id(), derived.id());
    let own = "0f5e4c1b6d2a4e7f9b8c3d1a2e6f7081";
    assert_ne!(serve(env("development", own, "")).unwrap().audit_key.id(), derived.id());
    // Rows from before the key was set can still be verified with a derived key.
    let (_, keys, _) = verify(env("production", own, "derived:5d1c9e0fb2a84c7790d36b1f8e2a4c09")).unwrap();
    assert_eq!(keys.iter().map(AuditKey::id).collect::<Vec<_>>(), [keys[0].id(), derived.id()]);
    assert!(verify(env("production", own, "derived:short")).is_err());
    // The trail can be verified without the token secret.
    assert_eq!(export(env("production", own, "")).unwrap().1.len(), 1);
}

#[test]
fn settings_all_have_help() {
    let help = shared::kit::env::help(&settings());
    for setting in settings() {
        assert!(help.contains(setting.name) && !setting.help.is_empty());
    }
}

/// A production environment with additions.
fn production(more: &'static [(&'static str, &'static str)]) -> Result<Config, ConfigError> {
    const GOOD: [(&str, &str); 4] = [
        ("JWT_SECRET", "5d1c9e0fb2a84c7790d36b1f8e2a4c09"),
        ("AUDIT_KEY", "b7e23ec29af22b0b4e41da31e868d57226121c84"),
        ("DATABASE_URL", "postgres://localhost/chat"),
        ("REDIS_URL", "redis://localhost"),
    ];
    let names: Vec<String> = more.iter().map(|(name, _)| (*name).to_owned()).collect();
    let value = move |name: &str| more.iter().chain(&GOOD).find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
    serve(Env::from_fn(value).with_names(names))
}

#[test]
fn production_rejects_weak_audit_key() {
    assert!(production(&[]).is_ok());
    const BAD: [&[(&str, &str)]; 4] = [
        &[("AUDIT_KEY", "5d1c9e0fb2a84c7790d36b1f8e2a4c09")],
        &[("AUDIT_KEY", "development-5d1c9e0fb2a84c7790d36b1f8e2a4c0")],
        &[("AUDIT_KEY", "0123456789abcdef0123456789abcdef")],
        &[("AUDIT_KEY", "abababababababababababababababab")],
    ];
    for bad in BAD {
        let ConfigError(mistakes) = production(bad).unwrap_err();
        assert!(mistakes.len() == 1 && mistakes[0].starts_with("AUDIT_KEY:"), "{bad:?}: {mistakes:?}");
        assert!(!mistakes[0].contains(bad[0].1), "{mistakes:?}");
    }
}

#[test]
fn invalid_settings_are_rejected_by_name() {
    const ZERO: &str = "zero:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    const ONE: &str = "one:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
    const BAD: [(&str, &[(&str, &str)]); 6] = [
        ("JWT_SECRET", &[("JWT_SECRET", "aaaaaaaaaaaaaaaabbbbbbbbbbbbbbbb")]),
        ("CONTENT_KEYS", &[("CONTENT_KEYS", ZERO), ("RELAY_KEYS", "k:VQCxAiNEHr6Bv0mxKIOU0ieKz2dD9Z7p4rQ1fXoHq1s=")]),
        ("RELAY_KEYS", &[("CONTENT_KEYS", "k:VQCxAiNEHr6Bv0mxKIOU0ieKz2dD9Z7p4rQ1fXoHq1s="), ("RELAY_KEYS", ONE)]),
        ("LOG_LEVEL", &[("LOG_LEVEL", "inof")]),
        ("RATE_LIMIT_PARTICPANT_BURST", &[("RATE_LIMIT_PARTICPANT_BURST", "5")]),
        ("DATABASE_URL", &[("DATABASE_URL", "mysql://root:hunter2@db/chat")]),
    ];
    for (name, bad) in BAD {
        let ConfigError(mistakes) = production(bad).unwrap_err();
        assert!(mistakes.len() == 1 && mistakes[0].starts_with(&format!("{name}:")), "{name}: {mistakes:?}");
        assert!(!mistakes[0].contains("hunter2"), "{mistakes:?}");
    }
}

#[test]
fn insecure_settings_cause_warnings() {
    assert_eq!(production(&[]).unwrap().warnings, [""; 0]);
    let config = production(&[("ADMIN_ADDR", "0.0.0.0:9081"), ("TRUSTED_PROXIES", "0.0.0.0/0")]).unwrap();
    assert_eq!(config.warnings.len(), 2, "{:?}", config.warnings);
}

#[test]
fn settings_are_listed_in_any_environment() {
    let names = |settings: &[Setting]| settings.iter().map(|setting| setting.name).collect::<Vec<_>>();
    let complete = names(&settings());
    for name in ["PLAINTEXT_LINKS", "AUDIT_PREVIOUS_KEYS", "DATABASE_SERVICE_ROLE", "OTEL_TRACES_SAMPLER_ARG"] {
        assert!(complete.contains(&name), "{name}: {complete:?}");
    }
    for mode in [None, Some("development"), Some("x")] {
        let mut env =
            Env::from_fn(move |name| if name == "MODE" { mode.map(str::to_owned) } else { Some("x".to_owned()) });
        let _incomplete = read_all(&mut env);
        commands::read_all(&mut env);
        let (mut read, mut listed) = (names(env.settings()), complete.clone());
        read.sort_unstable();
        listed.sort_unstable();
        assert_eq!(read, listed, "{mode:?}");
    }
}
