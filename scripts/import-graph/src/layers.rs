//! The order of a crate's top-level modules, from top to bottom, as a file states it.

use std::collections::BTreeMap;

use anyhow::{Context, bail, ensure};

use crate::imports::Graph;
use crate::modules::Tree;

/// Per crate: the layer of each top-level module. Layer 0 is the top.
pub(crate) struct Layers {
    crates: BTreeMap<String, Crate>,
}

#[derive(Default)]
struct Crate {
    layers: BTreeMap<String, usize>,
    is_used: bool,
}

impl Layers {
    /// A line `[ROOT]` begins a crate. Each further line is a layer: the names of its modules. `#` begins a comment.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let (mut crates, mut current, mut layer) = (BTreeMap::<String, Crate>::new(), None, 0);
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if let Some(root) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                (current, layer) = (Some(root.to_owned()), 0);
                crates.entry(root.to_owned()).or_default();
            } else if !line.is_empty() {
                let root = current.as_ref().context("a layer stands above the first crate")?;
                for name in line.split_whitespace() {
                    let before = crates.entry(root.clone()).or_default().layers.insert(name.to_owned(), layer);
                    ensure!(before.is_none(), "{root}: {name} is in two layers");
                }
                layer += 1;
            }
        }
        Ok(Self { crates })
    }

    /// Imports that do not point down. A crate that the file does not list has no order.
    pub(crate) fn check(&mut self, root: &str, tree: &Tree, graph: &Graph) -> anyhow::Result<Vec<String>> {
        let Some(order) = self.crates.get_mut(root) else { return Ok(Vec::new()) };
        order.is_used = true;
        for module in tree.modules[0].children.keys() {
            ensure!(order.layers.contains_key(module), "{root}: {module} has no layer");
        }
        if let Some(gone) = order.layers.keys().find(|name| !tree.modules[0].children.contains_key(*name)) {
            bail!("{root}: {gone} has a layer and is no module");
        }
        let mut violations = Vec::new();
        for (from, to, names) in graph.edges() {
            // The crate root composes: it may import all, and no module imports it.
            let (Some(above), from) = (tree.modules[from].path.first(), from) else { continue };
            let Some(below) = tree.modules[to].path.first() else {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                violations.push(format!("{root}: {above} imports {} from the crate root", names.join(", ")));
                continue;
            };
            if above != below && order.layers[above] >= order.layers[below] {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                let file = tree.modules[from].file.display();
                violations.push(format!("{file}: {above} must not import {below}: {}", names.join(", ")));
            }
        }
        Ok(violations)
    }

    /// # Errors
    /// Names a crate of the file that was not checked.
    pub(crate) fn ensure_used(&self) -> anyhow::Result<()> {
        match self.crates.iter().find(|(_, order)| !order.is_used) {
            Some((root, _)) => bail!("the layers of {root} are listed, but it is not checked"),
            None => Ok(()),
        }
    }
}
