//! Resolves the paths of a crate to the modules that define what they name.

use std::collections::{BTreeMap, BTreeSet};

use crate::modules::{ModuleId, Tree};
use crate::paths::{CodePath, identifiers, paths};

/// Re-exports that are followed behind one another before a path is given up.
const MAX_REEXPORTS: usize = 16;

/// Where a name leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    Module(ModuleId),
    /// An item that this module defines.
    Item(ModuleId),
}

/// Names that `use` statements give to modules and items, per module.
type Names = Vec<BTreeMap<String, Vec<CodePath>>>;

/// Which module names what of which other.
pub(crate) struct Graph {
    /// The names, by importing and defining module.
    imports: BTreeMap<(ModuleId, ModuleId), BTreeSet<String>>,
}

impl Graph {
    pub(crate) fn new(tree: &Tree) -> Self {
        let found: Vec<Vec<CodePath>> =
            tree.modules.iter().map(|module| module.code.iter().flat_map(paths).collect()).collect();
        let (mut private, mut public) = (Names::new(), Names::new());
        for module in &found {
            let (mut all, mut reexports) = (BTreeMap::<_, Vec<_>>::new(), BTreeMap::<_, Vec<_>>::new());
            for path in module {
                let Some(name) = &path.imported_as else { continue };
                all.entry(name.clone()).or_default().push(path.clone());
                if path.is_reexport {
                    reexports.entry(name.clone()).or_default().push(path.clone());
                }
            }
            private.push(all);
            public.push(reexports);
        }
        let resolver = Resolver { tree, private: &private, public: &public };
        let mut imports = BTreeMap::<_, BTreeSet<String>>::new();
        for (from, module) in found.iter().enumerate() {
            let used: BTreeSet<String> = tree.modules[from].code.iter().flat_map(identifiers).collect();
            for path in module {
                // A `use` of a module alone names nothing yet: the paths that begin with it do.
                let Some(Target::Item(to)) = resolver.path(from, path) else { continue };
                // A module may hand on what its children define. It imports only what it uses itself.
                let is_used = path.imported_as.as_ref().is_some_and(|name| used.contains(name));
                if to == from || (path.is_reexport && tree.contains(from, to) && !is_used) {
                    continue;
                }
                let name = path.segments.last().cloned().unwrap_or_default();
                imports.entry((from, to)).or_default().insert(name);
            }
        }
        Self { imports }
    }

    /// Importing module, defining module, names.
    pub(crate) fn edges(&self) -> impl Iterator<Item = (ModuleId, ModuleId, &BTreeSet<String>)> {
        self.imports.iter().map(|((from, to), names)| (*from, *to, names))
    }
}

struct Resolver<'a> {
    tree: &'a Tree,
    private: &'a Names,
    public: &'a Names,
}

impl Resolver<'_> {
    /// `None` for a path into another crate, and for one that begins with an item of this module.
    fn path(&self, from: ModuleId, path: &CodePath) -> Option<Target> {
        let mut segments = path.segments.as_slice();
        if path.imported_as.as_deref() == Some("*") {
            // A glob imports from the module itself.
            return match self.resolve(from, segments, MAX_REEXPORTS)? {
                Target::Module(module) => Some(Target::Item(module)),
                item @ Target::Item(_) => Some(item),
            };
        }
        if path.imported_as.is_none()
            && let [first, ..] = segments
            && !matches!(first.as_str(), "crate" | "self" | "super")
        {
            // In code, a path may begin with a name that a `use` brought. An item's own parts belong to the item.
            if let Some(imported) = self.private[from].get(first) {
                return match self.resolve(from, &imported.first()?.segments, MAX_REEXPORTS)? {
                    Target::Module(module) => self.inside(module, &segments[1..], MAX_REEXPORTS),
                    Target::Item(_) => None,
                };
            }
            segments = path.segments.as_slice();
            self.tree.modules[from].children.get(first)?;
        }
        self.resolve(from, segments, MAX_REEXPORTS)
    }

    fn resolve(&self, from: ModuleId, segments: &[String], left: usize) -> Option<Target> {
        let (first, rest) = segments.split_first()?;
        match first.as_str() {
            "crate" => self.inside(0, rest, left),
            "self" => self.inside(from, rest, left),
            "super" => {
                let parent = self.tree.modules[from].parent?;
                match rest.first().map(String::as_str) {
                    Some("super") => self.resolve(parent, rest, left),
                    _ => self.inside(parent, rest, left),
                }
            }
            name => {
                let child = *self.tree.modules[from].children.get(name)?;
                self.inside(child, rest, left)
            }
        }
    }

    /// A path that begins inside a module.
    fn inside(&self, module: ModuleId, segments: &[String], left: usize) -> Option<Target> {
        let Some((name, rest)) = segments.split_first() else { return Some(Target::Module(module)) };
        if let Some(child) = self.tree.modules[module].children.get(name) {
            return self.inside(*child, rest, left);
        }
        if self.tree.modules[module].items.contains(name) || left == 0 {
            return Some(Target::Item(module));
        }
        // `super::x` may also name what the parent imports for itself.
        let names = [&self.public[module], &self.private[module]];
        if let Some(path) = names.iter().find_map(|names| names.get(name)?.first()) {
            return match self.resolve(module, &path.segments, left - 1)? {
                Target::Module(target) => self.inside(target, rest, left - 1),
                item @ Target::Item(_) => Some(item),
            };
        }
        for glob in self.public[module].get("*").into_iter().flatten() {
            if let Some(Target::Module(source)) = self.resolve(module, &glob.segments, left - 1)
                && self.defines(source, name)
            {
                return self.inside(source, segments, left - 1);
            }
        }
        // What a macro has made.
        Some(Target::Item(module))
    }

    fn defines(&self, module: ModuleId, name: &str) -> bool {
        let found = &self.tree.modules[module];
        found.items.contains(name) || found.children.contains_key(name) || self.public[module].contains_key(name)
    }
}
