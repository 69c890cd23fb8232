//! The cluster as an operator sees it, with `redis-cli`.

use std::process::Command;

/// Every node of a cluster.
pub(crate) struct Nodes(Vec<Node>);

/// One of them.
#[derive(Clone)]
pub(crate) struct Node {
    host: String,
    port: String,
    password: String,
}

impl Nodes {
    /// The nodes that a URL of the form `redis-cluster://USER:PASSWORD@HOST:PORT?node=HOST:PORT&…` names.
    pub(crate) fn of(url: &str) -> Self {
        let (credentials, places) = url.split_once("://").unwrap().1.split_once('@').unwrap();
        let password = credentials.split_once(':').unwrap().1;
        let places = places.split(['?', '&']).map(|place| place.trim_start_matches("node="));
        Self(places.map(|place| Node::at(place, password)).collect())
    }

    /// Who serves slots, as the last of those says who are alive: tests are hard on the first.
    pub(crate) fn masters(&self) -> Vec<Node> {
        let view =
            self.0.iter().rev().map(|node| node.ask(&["CLUSTER", "NODES"])).find(|view| !view.is_empty()).unwrap();
        let masters = view.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let serving =
            masters.filter(|words| words[2].contains("master") && !words[2].contains("fail") && words.len() > 8);
        serving.map(|words| Node::at(words[1].split('@').next().unwrap(), &self.0[0].password)).collect()
    }

    /// The migration of the slot of `key` from the master that serves it to another one.
    pub(crate) fn migration_of(&self, key: &str) -> Migration {
        let slot = self.0[0].ask(&["CLUSTER", "KEYSLOT", key]).trim().to_owned();
        let masters = self.masters();
        let serves = |node: &Node| !node.ask(&["EXISTS", key]).contains("MOVED");
        let (serving, others): (Vec<_>, Vec<_>) = masters.into_iter().partition(serves);
        assert_eq!(serving.len(), 1, "one master serves a slot");
        let from = serving[0].clone();
        Migration { slot, from, to: others[0].clone(), others }
    }
}

impl Node {
    fn at(place: &str, password: &str) -> Self {
        let (host, port) = place.rsplit_once(':').unwrap();
        Self { host: host.to_owned(), port: port.to_owned(), password: password.to_owned() }
    }

    /// What it answers; nothing when it is dead.
    pub(crate) fn ask(&self, words: &[&str]) -> String {
        let mut cli = Command::new("redis-cli");
        cli.args(["--no-auth-warning", "-h", &self.host, "-p", &self.port]).args(words);
        let output = cli.env("REDISCLI_AUTH", &self.password).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    fn do_it(&self, words: &[&str]) {
        let answer = self.ask(words);
        assert!(answer.trim() == "OK", "{words:?}: {answer}");
    }

    fn id(&self) -> String {
        self.ask(&["CLUSTER", "MYID"]).trim().to_owned()
    }
}

/// A slot on its way, step by step as `redis-cli --cluster reshard` does it.
pub(crate) struct Migration {
    slot: String,
    from: Node,
    /// Where it goes.
    pub(crate) to: Node,
    others: Vec<Node>,
}

impl Migration {
    pub(crate) fn begin(&self) {
        self.to.do_it(&["CLUSTER", "SETSLOT", &self.slot, "IMPORTING", &self.from.id()]);
        self.from.do_it(&["CLUSTER", "SETSLOT", &self.slot, "MIGRATING", &self.to.id()]);
    }

    pub(crate) fn move_keys(&self) {
        let keys = self.from.ask(&["CLUSTER", "GETKEYSINSLOT", &self.slot, "1000"]);
        let keys: Vec<&str> = keys.lines().filter(|key| !key.is_empty()).collect();
        assert!(!keys.is_empty());
        let mut words =
            vec!["MIGRATE", &self.to.host, &self.to.port, "", "0", "5000", "AUTH", &self.to.password, "KEYS"];
        words.extend(keys);
        self.from.do_it(&words);
    }

    pub(crate) fn finish(&self) {
        for node in self.others.iter().chain([&self.from]) {
            node.do_it(&["CLUSTER", "SETSLOT", &self.slot, "NODE", &self.to.id()]);
        }
    }
}
