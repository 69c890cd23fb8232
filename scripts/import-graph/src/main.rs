//! Checks the imports of the workspace's own crates: `import-graph LAYERS ROOT…`.
//!
//! A ROOT is the source folder of a crate. Two files, or two modules of one folder, must not import each other, not
//! even by way of others. LAYERS lists the top-level modules of each crate from top to bottom, and no import may point
//! up. An import counts for the file that *defines* the name: re-exports are followed, and tests do not count.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, ensure};

mod cycles;
mod imports;
mod layers;
mod modules;
mod paths;
#[cfg(test)]
mod tests;

fn main() -> ExitCode {
    match check() {
        Ok(violations) if violations.is_empty() => ExitCode::SUCCESS,
        Ok(violations) => {
            for violation in violations {
                println!("{violation}");
            }
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("import-graph: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Returns all violations as text.
fn check() -> anyhow::Result<Vec<String>> {
    let mut arguments = std::env::args().skip(1);
    let layers = arguments.next().context("usage: import-graph LAYERS ROOT…")?;
    let roots: Vec<String> = arguments.collect();
    ensure!(!roots.is_empty(), "usage: import-graph LAYERS ROOT…");
    let text = std::fs::read_to_string(&layers).with_context(|| layers.clone())?;
    let mut layers = layers::Layers::parse(&text)?;
    let (mut violations, mut files, mut edges) = (Vec::new(), 0, 0);
    for root in roots {
        let source = |file: &Path| std::fs::read_to_string(file).ok();
        let tree = modules::Tree::read(Path::new(&root), &source).with_context(|| root.clone())?;
        let graph = imports::Graph::new(&tree);
        violations.extend(cycles::of_files(&tree, &graph));
        violations.extend(cycles::of_folders(&tree, &graph));
        violations.extend(layers.check(&root, &tree, &graph)?);
        files += tree.files();
        edges += graph.edges().count();
    }
    layers.ensure_used()?;
    println!("import-graph: {files} files, {edges} imports, {} violations", violations.len());
    Ok(violations)
}
