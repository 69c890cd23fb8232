//! Settings from the environment: read once at start, all mistakes reported together.
//!
//! Each setting is declared once, with its documentation. The list for `--help` is what the reader has asked for.

pub mod mode;
mod unknown;

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

pub use unknown::{SINGLE_SERVICE_SETTINGS, has_setting_prefix};

/// Exit code for bad configuration: `EX_USAGE` of sysexits.h.
pub const EX_USAGE: i32 = 64;

/// One environment variable.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// The variable.
    pub name: &'static str,
    /// Its value when it is not set; `None` makes it required, an empty string optional.
    pub default: Option<&'static str>,
    /// What it sets, with unit and bounds.
    pub help: &'static str,
}

impl Setting {
    /// A setting; `default` as in [`Setting::default`].
    #[must_use]
    pub const fn new(name: &'static str, default: Option<&'static str>, help: &'static str) -> Self {
        Self { name, default, help }
    }
}

/// A text that never shows itself in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text. Ask for it only where it is used.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

/// Every mistake in the environment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("bad configuration:\n{}", .0.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n"))]
pub struct ConfigError(pub Vec<String>);

type Lookup = Box<dyn Fn(&str) -> Option<String>>;

/// Reads settings and collects what is wrong with them.
pub struct Env {
    variable: Lookup,
    /// Of all variables that are set, ours or not.
    names: Vec<String>,
    /// What was read so far, each once.
    settings: Vec<Setting>,
    errors: Vec<String>,
    warnings: Vec<String>,
}

impl Env {
    /// The environment of this process.
    #[must_use]
    pub fn from_process() -> Self {
        let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        Self::from_fn(|name| std::env::var(name).ok()).with_names(names)
    }

    /// An environment for tests.
    pub fn from_fn(variable: impl Fn(&str) -> Option<String> + 'static) -> Self {
        Self {
            variable: Box::new(variable),
            names: Vec::new(),
            settings: Vec::new(),
            errors: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// The same, in which variables of these names are set.
    #[must_use]
    pub fn with_names(self, names: impl IntoIterator<Item = String>) -> Self {
        Self { names: names.into_iter().collect(), ..self }
    }

    /// Whether a variable is set, to anything but the empty text.
    #[must_use]
    pub fn is_set(&self, name: &str) -> bool {
        (self.variable)(name).is_some_and(|value| !value.is_empty())
    }

    /// The value of a setting, or `None` with the mistake noted for [`Env::into_error`].
    pub fn read<T>(&mut self, setting: &Setting) -> Option<T>
    where
        T: FromStr<Err: fmt::Display>,
    {
        self.read_checked(setting, |_| Ok(()))
    }

    /// The same, and `check` says what else must hold.
    pub fn read_checked<T>(&mut self, setting: &Setting, check: impl Fn(&T) -> Result<(), String>) -> Option<T>
    where
        T: FromStr<Err: fmt::Display>,
    {
        self.record(setting);
        let set = (self.variable)(setting.name).filter(|value| !value.is_empty());
        let Some(text) = set.or_else(|| setting.default.map(str::to_owned)) else {
            self.push_error(format!("{} is required: {}", setting.name, setting.help));
            return None;
        };
        let value = text.parse::<T>().map_err(|error| error.to_string());
        match value.and_then(|value| check(&value).map(|()| value)) {
            Ok(value) => Some(value),
            Err(why) => {
                // The value itself stays out: it may be a secret or hold one, as URLs do.
                self.push_error(format!("{}: {why} ({})", setting.name, setting.help));
                None
            }
        }
    }

    /// A setting that may be absent: its default is the empty string.
    pub fn read_optional<T>(&mut self, setting: &Setting) -> Option<Option<T>>
    where
        T: FromStr<Err: fmt::Display>,
    {
        self.record(setting);
        match (self.variable)(setting.name).filter(|value| !value.is_empty()) {
            None => Some(None),
            Some(_) => self.read(setting).map(Some),
        }
    }

    /// A number within `bounds`.
    pub fn read_number<T>(&mut self, setting: &Setting, bounds: RangeInclusive<T>) -> Option<T>
    where
        T: FromStr<Err: fmt::Display> + PartialOrd + fmt::Display,
    {
        self.read_checked(setting, |value| match bounds.contains(value) {
            true => Ok(()),
            false => Err(format!("must lie between {} and {}", bounds.start(), bounds.end())),
        })
    }

    /// A number of seconds within `bounds`.
    pub fn read_seconds(&mut self, setting: &Setting, bounds: RangeInclusive<u64>) -> Option<Duration> {
        self.read_number(setting, bounds).map(Duration::from_secs)
    }

    /// Every setting that was asked for so far, in this order.
    #[must_use]
    pub fn settings(&self) -> &[Setting] {
        &self.settings
    }

    fn record(&mut self, setting: &Setting) {
        if !self.settings.iter().any(|recorded| recorded.name == setting.name) {
            self.settings.push(*setting);
        }
    }

    /// Notes that a setting does not fit another one.
    pub fn add_error(&mut self, setting: &Setting, why: &str) {
        self.push_error(format!("{}: {why} ({})", setting.name, setting.help));
    }

    /// A setting that several readers need, as `MODE`, is wrong once.
    fn push_error(&mut self, error: String) {
        if !self.errors.contains(&error) {
            self.errors.push(error);
        }
    }

    /// Notes a setting that is insecure and yet allowed.
    pub fn add_warning(&mut self, warning: String) {
        self.warnings.push(warning);
    }

    /// The insecure settings that were noted so far.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// What `read` makes of the settings, or every mistake. A mistake may be noted although every setting could be read.
    ///
    /// # Errors
    /// [`ConfigError`] with every mistake.
    pub fn complete<T>(mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Result<T, ConfigError> {
        let config = read(&mut self);
        let mistakes = self.into_error();
        config.filter(|_| mistakes.0.is_empty()).ok_or(mistakes)
    }

    /// What was wrong with the settings read so far.
    #[must_use]
    pub fn into_error(self) -> ConfigError {
        ConfigError(self.errors)
    }
}

/// The settings as `--help` lists them.
#[must_use]
pub fn help(settings: &[Setting]) -> String {
    let mut text = String::from("Settings (environment variables):\n");
    for Setting { name, default, help } in settings {
        let default = match default {
            None => "required".to_owned(),
            Some("") => "optional".to_owned(),
            Some(default) => format!("default {default}"),
        };
        text.push_str(&format!("  {name} ({default})\n      {help}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: Setting = Setting { name: "PORT", default: Some("80"), help: "a port" };
    const KEY: Setting = Setting { name: "KEY", default: None, help: "a key of 4 bytes or more" };
    const NOTE: Setting = Setting { name: "NOTE", default: Some(""), help: "a number" };

    fn env(variables: &'static [(&'static str, &'static str)]) -> Env {
        Env::from_fn(move |name| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn unset_and_empty_variables_use_defaults() {
        assert_eq!(env(&[]).read::<u16>(&PORT), Some(80));
        assert_eq!(env(&[("PORT", "")]).read::<u16>(&PORT), Some(80));
        assert_eq!(env(&[("PORT", "81")]).read::<u16>(&PORT), Some(81));
        assert_eq!(env(&[]).read_optional::<u16>(&NOTE), Some(None));
        assert_eq!(env(&[("NOTE", "7")]).read_optional::<u16>(&NOTE), Some(Some(7)));
    }

    #[test]
    fn settings_are_listed_once_in_reading_order() {
        let mut env = env(&[("NOTE", "7")]);
        assert_eq!(env.read_optional::<u16>(&NOTE), Some(Some(7)));
        assert_eq!(env.read::<Secret>(&KEY), None);
        assert_eq!(env.read::<u16>(&PORT), Some(80));
        assert_eq!(env.settings().iter().map(|setting| setting.name).collect::<Vec<_>>(), ["NOTE", "KEY", "PORT"]);
    }

    #[test]
    fn numbers_outside_bounds_are_reported() {
        let mut env = env(&[("NOTE", "7")]);
        assert_eq!(env.read_number(&NOTE, 7..=9), Some(7));
        assert_eq!(env.read_seconds(&PORT, 80..=90), Some(Duration::from_secs(80)));
        assert_eq!(env.read_number::<u8>(&NOTE, 8..=9), None);
        assert_eq!(env.into_error().0, ["NOTE: must lie between 8 and 9 (a number)"]);
    }

    #[test]
    fn all_errors_are_reported_without_values() {
        let mut env = env(&[("PORT", "hunter2"), ("NOTE", "hunter3")]);
        assert_eq!(env.read::<u16>(&PORT), None);
        assert_eq!(env.read::<Secret>(&KEY), None);
        assert_eq!(env.read_optional::<u16>(&NOTE), None);
        let text = env.into_error().to_string();
        for name in ["PORT", "KEY", "NOTE"] {
            assert!(text.contains(name), "{text}");
        }
        assert!(!text.contains("hunter"), "{text}");
    }

    #[test]
    fn failed_checks_are_reported_without_values() {
        let mut env = env(&[("KEY", "abc")]);
        let long = |key: &Secret| (key.expose().len() >= 4).then_some(()).ok_or_else(|| "too short".to_owned());
        assert_eq!(env.read_checked(&KEY, long), None);
        assert_eq!(format!("{:?}", Secret("abc".to_owned())), "[redacted]");
        assert_eq!(env.into_error().0, ["KEY: too short (a key of 4 bytes or more)"]);
    }
}
