//! Finds imports that lead back to where they began.

use std::collections::{BTreeMap, BTreeSet};

use crate::imports::Graph;
use crate::modules::{ModuleId, Tree};

/// Edges with the names that make them.
type Edges = BTreeMap<(String, String), BTreeSet<String>>;

/// Cycles between files. Inline modules belong to their file.
pub(crate) fn of_files(tree: &Tree, graph: &Graph) -> Vec<String> {
    let file = |module: ModuleId| tree.modules[module].file.display().to_string();
    let mut edges = Edges::new();
    for (from, to, names) in graph.edges() {
        edges.entry((file(from), file(to))).or_default().extend(names.iter().cloned());
    }
    report("files", &edges)
}

/// Cycles between the modules of one folder, each with all that it contains.
pub(crate) fn of_folders(tree: &Tree, graph: &Graph) -> Vec<String> {
    let mut by_folder = BTreeMap::<ModuleId, Edges>::new();
    for (from, to, names) in graph.edges() {
        let (mut above_from, mut above_to) = (tree.line(from), tree.line(to));
        // Both lines begin at the root; the folder is where they part.
        let mut folder = 0;
        while let (Some(one), Some(other)) = (above_from.pop(), above_to.pop()) {
            if one != other {
                let name = |module: ModuleId| tree.modules[module].path.join("::");
                let edge = by_folder.entry(folder).or_default().entry((name(one), name(other))).or_default();
                edge.extend(names.iter().cloned());
                break;
            }
            folder = one;
        }
    }
    by_folder.values().flat_map(|edges| report("modules", edges)).collect()
}

fn report(of_what: &str, edges: &Edges) -> Vec<String> {
    let cycles = components(edges);
    let show = |members: BTreeSet<&str>| {
        let mut text = format!("cycle of {} {of_what}:", members.len());
        for ((from, to), names) in edges {
            if from != to && members.contains(from.as_str()) && members.contains(to.as_str()) {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                text.push_str(&format!("\n  {from} -> {to}: {}", names.join(", ")));
            }
        }
        text
    };
    cycles.into_iter().map(show).collect()
}

/// Sets of at least two nodes, each of which reaches the others.
fn components(edges: &Edges) -> Vec<BTreeSet<&str>> {
    let mut reached = BTreeMap::<&str, BTreeSet<&str>>::new();
    for (from, _) in edges.keys() {
        if reached.contains_key(from.as_str()) {
            continue;
        }
        let (mut seen, mut waiting) = (BTreeSet::new(), vec![from.as_str()]);
        while let Some(node) = waiting.pop() {
            let next = edges.range((node.to_owned(), String::new())..).map(|(edge, _)| edge);
            for (_, to) in next.take_while(|(from, _)| from == node) {
                if seen.insert(to.as_str()) {
                    waiting.push(to);
                }
            }
        }
        reached.insert(from, seen);
    }
    let mut found = BTreeSet::new();
    for (node, seen) in &reached {
        let back = |other: &&&str| reached.get(**other).is_some_and(|seen| seen.contains(node));
        let cycle: BTreeSet<&str> = seen.iter().filter(back).copied().collect();
        if cycle.len() > 1 {
            found.insert(cycle);
        }
    }
    found.into_iter().collect()
}
