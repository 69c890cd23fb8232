//! docs/configuration.md names every setting of both services, with the default that the program has.

use std::collections::BTreeMap;

use e2e::audit::binary;

/// Name → default, as the tables write it.
type Settings = BTreeMap<String, String>;

/// Reads `NAME (default X)`, `NAME (required)` and `NAME (optional)` from `--help`.
fn of_program(name: &str) -> Settings {
    let output = std::process::Command::new(binary(name)).arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let (_, settings) = help.split_once("Settings (environment variables):\n").unwrap();
    let names = settings.lines().filter_map(|line| line.strip_prefix("  ")?.split_once(" ("));
    names
        .filter(|(name, _)| !name.starts_with(' '))
        .map(|(name, default)| {
            let default = match default.strip_suffix(')').unwrap() {
                "required" => "required".to_owned(),
                "optional" => "–".to_owned(),
                value => format!("`{}`", value.strip_prefix("default ").unwrap()),
            };
            (name.to_owned(), default)
        })
        .collect()
}

/// Reads the first two columns of the table under a heading.
fn documented(heading: &str) -> Settings {
    let text = include_str!("../../../docs/configuration.md");
    let section = text.split("\n## ").find(|section| section.starts_with(&format!("{heading}\n"))).unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    rows.map(|(name, rest)| (name.to_owned(), rest.split(" | ").next().unwrap().to_owned())).collect()
}

#[test]
fn settings_match_documentation() {
    let both = documented("Both services");
    assert!(both.len() > 20, "{both:?}");
    for (program, heading) in [("api-service", "API service"), ("ws-gateway", "Gateway")] {
        let own = documented(heading);
        assert!(own.keys().all(|name| !both.contains_key(name)), "a setting stands in two tables of {heading}");
        let table: Settings = both.clone().into_iter().chain(own).collect();
        let settings = of_program(program);
        let differs: Vec<_> = settings.iter().filter(|(name, default)| table.get(*name) != Some(default)).collect();
        assert!(differs.is_empty(), "{program}: missing, or with another default: {differs:?}");
        let unknown: Vec<_> = table.keys().filter(|name| !settings.contains_key(*name)).collect();
        assert!(unknown.is_empty(), "{program} has no such settings: {unknown:?}");
    }
}
