use std::path::Path;

use crate::imports::Graph;
use crate::layers::Layers;
use crate::modules::Tree;
use crate::{cycles, layers};

/// A crate of these files, by path from its root.
fn tree(files: &[(&str, &str)]) -> Tree {
    let source = |path: &Path| {
        let found = files.iter().find(|(file, _)| Path::new("src").join(file) == path);
        found.map(|(_, text)| (*text).to_owned())
    };
    Tree::read(Path::new("src"), &source).unwrap()
}

fn cycles(files: &[(&str, &str)]) -> Vec<String> {
    let tree = tree(files);
    let graph = Graph::new(&tree);
    [cycles::of_files(&tree, &graph), cycles::of_folders(&tree, &graph)].concat()
}

fn upward(layers: &str, files: &[(&str, &str)]) -> Vec<String> {
    let tree = tree(files);
    let mut layers: Layers = layers::Layers::parse(layers).unwrap();
    layers.check("src", &tree, &Graph::new(&tree)).unwrap()
}

#[test]
fn files_that_import_each_other_are_a_cycle() {
    let found = cycles(&[
        ("lib.rs", "mod a; mod b;"),
        ("a.rs", "use crate::b::B; pub struct A;"),
        ("b.rs", "use crate::a::A; pub struct B;"),
    ]);
    assert_eq!(
        found,
        [
            "cycle of 2 files:\n  src/a.rs -> src/b.rs: B\n  src/b.rs -> src/a.rs: A",
            "cycle of 2 modules:\n  a -> b: B\n  b -> a: A"
        ]
    );
}

#[test]
fn imports_in_one_direction_are_no_cycle() {
    let files = [("lib.rs", "mod a; mod b; pub use a::A;"), ("a.rs", "pub struct A;"), ("b.rs", "use crate::A;")];
    assert_eq!(cycles(&files), Vec::<String>::new());
}

#[test]
fn reexport_counts_for_the_file_that_defines() {
    // a/mod.rs only hands on what a/inner.rs defines, so b imports the inner file, and that one imports b.
    let found = cycles(&[
        ("lib.rs", "mod a; mod b;"),
        ("a/mod.rs", "mod inner; pub use inner::A;"),
        ("a/inner.rs", "use crate::b; pub struct A; fn f() { b::g(); }"),
        ("b.rs", "use crate::a::A; pub fn g() {}"),
    ]);
    assert_eq!(found[0], "cycle of 2 files:\n  src/a/inner.rs -> src/b.rs: g\n  src/b.rs -> src/a/inner.rs: A");
}

#[test]
fn glob_reexport_is_followed() {
    let found = cycles(&[
        ("lib.rs", "mod a; mod b;"),
        ("a/mod.rs", "mod inner; pub use inner::*;"),
        ("a/inner.rs", "pub struct A(crate::b::B);"),
        ("b.rs", "pub struct B(Option<Box<crate::a::A>>);"),
    ]);
    assert_eq!(found.len(), 2, "{found:?}");
}

#[test]
fn folders_with_a_cycle_of_different_files_are_found() {
    let found = cycles(&[
        ("lib.rs", "mod a; mod b;"),
        ("a/mod.rs", "pub mod one; pub mod two;"),
        ("a/one.rs", "pub struct One;"),
        ("a/two.rs", "use crate::b::one::Other;"),
        ("b/mod.rs", "pub mod one; pub mod two;"),
        ("b/one.rs", "pub struct Other;"),
        ("b/two.rs", "use crate::a::one::One;"),
    ]);
    assert_eq!(found, ["cycle of 2 modules:\n  a -> b: Other\n  b -> a: One"]);
}

#[test]
fn child_and_parent_that_use_each_other_are_a_cycle() {
    let found = cycles(&[
        ("lib.rs", "mod a;"),
        ("a/mod.rs", "mod inner; pub struct A(inner::Inner);"),
        ("a/inner.rs", "pub struct Inner(Option<Box<super::A>>);"),
    ]);
    assert_eq!(
        found,
        ["cycle of 2 files:\n  src/a/inner.rs -> src/a/mod.rs: A\n  src/a/mod.rs -> src/a/inner.rs: Inner"]
    );
}

#[test]
fn reexport_that_the_module_uses_itself_is_an_import() {
    let found = cycles(&[
        ("lib.rs", "mod a;"),
        ("a/mod.rs", "mod inner; pub use inner::Inner; pub struct A(Inner);"),
        ("a/inner.rs", "pub struct Inner(Option<Box<super::A>>);"),
    ]);
    assert_eq!(
        found,
        ["cycle of 2 files:\n  src/a/inner.rs -> src/a/mod.rs: A\n  src/a/mod.rs -> src/a/inner.rs: Inner"]
    );
}

#[test]
fn tests_do_not_count() {
    let files = [
        ("lib.rs", "mod a; mod b;"),
        ("a.rs", "pub struct A; #[cfg(test)] mod tests { use crate::b::B; }"),
        ("b.rs", "use crate::a::A; pub struct B; #[cfg(test)] mod tests;"),
    ];
    assert_eq!(cycles(&files), Vec::<String>::new());
}

#[test]
fn import_from_a_lower_layer_is_upward() {
    let files = [
        ("lib.rs", "mod high; mod low; mod beside; pub struct Root;"),
        ("high.rs", "use crate::low::Low; pub struct High;"),
        ("low.rs", "use crate::{Root, high::High}; pub struct Low;"),
        ("beside.rs", "use crate::low::Low;"),
    ];
    assert_eq!(
        upward("[src]\nhigh # the top\nlow beside\n", &files),
        [
            "src: low imports Root from the crate root",
            "src/low.rs: low must not import high: High",
            "src/beside.rs: beside must not import low: Low"
        ]
    );
}

#[test]
fn module_without_a_layer_is_an_error() {
    let tree = tree(&[("lib.rs", "mod a; mod b;"), ("a.rs", ""), ("b.rs", "")]);
    let mut layers = Layers::parse("[src]\na\n").unwrap();
    let error = layers.check("src", &tree, &Graph::new(&tree)).unwrap_err();
    assert_eq!(error.to_string(), "src: b has no layer");
}

#[test]
fn crate_that_is_not_checked_is_an_error() {
    let error = Layers::parse("[elsewhere/src]\na\n").unwrap().ensure_used().unwrap_err();
    assert_eq!(error.to_string(), "the layers of elsewhere/src are listed, but it is not checked");
}
