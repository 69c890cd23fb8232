//! Settings that are insecure and yet allowed. Each start warns of them, so that none stays by mistake.

use std::net::{IpAddr, SocketAddr};

use crate::contract::http::request::TrustedProxies;
use crate::contract::token::TokenConfig;
use crate::kit::env::Env;

/// Secrets of the API service. A gateway needs none of them, and an attacker on a gateway must not find them.
const API_SERVICE_SECRETS: [&str; 7] = [
    "AUDIT_KEY",
    "AUDIT_PREVIOUS_KEYS",
    "CONTENT_KEYS",
    "CONTENT_KEYS_COMMAND",
    "CONTENT_KEYS_FILE",
    "DATABASE_READ_URL",
    "DATABASE_URL",
];

/// Warnings about settings of both services.
#[must_use]
pub fn warnings(admin: SocketAddr, proxies: &TrustedProxies, tokens: &TokenConfig) -> Vec<String> {
    let mut warnings = Vec::new();
    if proxies.is_overly_broad() {
        warnings.push("TRUSTED_PROXIES covers whole continents: any client can choose its address".to_owned());
    }
    if is_public(admin.ip()) {
        warnings.push(format!(
            "ADMIN_ADDR is {admin}, which others than this machine may reach: it has no authentication, keep the port private"
        ));
    }
    if tokens.jwks.is_some() {
        let missing: Vec<&str> = [("JWT_ISSUER", &tokens.issuer), ("JWT_AUDIENCE", &tokens.audience)]
            .into_iter()
            .filter_map(|(name, value)| value.is_none().then_some(name))
            .collect();
        if !missing.is_empty() {
            warnings.push(format!(
                "a JWKS is used without {}: any token of that issuer is accepted, for any audience",
                missing.join(" and ")
            ));
        }
    }
    warnings
}

/// Warnings about the environment of a gateway.
#[must_use]
pub fn gateway_warnings(env: &Env) -> Vec<String> {
    let given = API_SERVICE_SECRETS.iter().filter(|name| env.is_set(name));
    given.map(|name| format!("{name} is set: a gateway has no use for it, and must not hold it")).collect()
}

/// Whether others than this machine and a private network may reach an address.
fn is_public(address: IpAddr) -> bool {
    let is_private = match address.to_canonical() {
        IpAddr::V4(address) => {
            let is_shared = address.octets()[0] == 100 && address.octets()[1] & 0xc0 == 64;
            address.is_loopback() || address.is_private() || address.is_link_local() || is_shared
        }
        IpAddr::V6(address) => address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local(),
    };
    !is_private
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(admin: &str, proxies: &str, tokens: &TokenConfig) -> Vec<String> {
        warnings(admin.parse().unwrap(), &proxies.parse().unwrap(), tokens)
    }

    #[test]
    fn private_admin_port_causes_no_warning() {
        let rules = TokenConfig::default();
        for admin in ["127.0.0.1:9081", "[::1]:9081", "10.1.2.3:9081", "192.168.0.1:1", "172.31.0.1:1", "[fd00::1]:1"] {
            assert_eq!(of(admin, "10.0.0.0/8,2001:db8::/32", &rules), [""; 0], "{admin}");
        }
    }

    #[test]
    fn public_admin_port_causes_a_warning() {
        for admin in ["0.0.0.0:9081", "[::]:9081", "203.0.113.9:9081", "[2001:db8::1]:9081", "[::ffff:203.0.113.9]:1"] {
            let output = of(admin, "", &TokenConfig::default());
            assert!(output.len() == 1 && output[0].starts_with("ADMIN_ADDR"), "{admin}: {output:?}");
        }
    }

    #[test]
    fn overly_broad_proxies_cause_a_warning() {
        for proxies in ["0.0.0.0/0", "::/0", "10.0.0.7,0.0.0.0/1,128.0.0.0/1", "2000::/3", "::ffff:0.0.0.0/0"] {
            let output = of("127.0.0.1:1", proxies, &TokenConfig::default());
            assert!(output.len() == 1 && output[0].starts_with("TRUSTED_PROXIES"), "{proxies}: {output:?}");
        }
    }

    #[test]
    fn jwks_without_issuer_or_audience_causes_a_warning() {
        let jwks = || {
            let url = "https://ehr.example/jwks".parse().unwrap();
            Some(crate::contract::token::Jwks::Url { url, ca: None, refresh: std::time::Duration::from_secs(300) })
        };
        let both = TokenConfig { jwks: jwks(), ..TokenConfig::default() };
        assert!(of("127.0.0.1:1", "", &both)[0].contains("JWT_ISSUER and JWT_AUDIENCE"));
        let one = TokenConfig { jwks: jwks(), issuer: Some("ehr".into()), ..TokenConfig::default() };
        assert!(of("127.0.0.1:1", "", &one)[0].contains("without JWT_AUDIENCE:"));
        let none = TokenConfig { audience: Some("chat".into()), ..one };
        assert_eq!(of("127.0.0.1:1", "", &none), [""; 0]);
    }

    #[test]
    fn api_service_secrets_cause_a_gateway_warning() {
        for name in API_SERVICE_SECRETS {
            let env = Env::from_fn(move |asked| (asked == name).then(|| "hunter2".to_owned()));
            let output = gateway_warnings(&env);
            assert!(output.len() == 1 && output[0].starts_with(name) && !output[0].contains("hunter2"), "{output:?}");
        }
        assert_eq!(gateway_warnings(&Env::from_fn(|_| None)), [""; 0]);
    }
}
