//! The modules of one crate: which file each stands in, what it defines and what it names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::{Attribute, Item, Meta};

/// Index of a module in its [`Tree`]. The crate root is 0.
pub(crate) type ModuleId = usize;

/// A module, from a file or inline.
pub(crate) struct Module {
    /// From the crate root: `["hub", "room"]`.
    pub(crate) path: Vec<String>,
    pub(crate) parent: Option<ModuleId>,
    pub(crate) file: PathBuf,
    pub(crate) children: BTreeMap<String, ModuleId>,
    /// Names of the items that stand here.
    pub(crate) items: BTreeSet<String>,
    /// The code, without child modules and tests.
    pub(crate) code: Vec<TokenStream>,
}

/// All modules of a crate, tests excluded.
pub(crate) struct Tree {
    pub(crate) modules: Vec<Module>,
}

/// Returns the text of a source file, or `None` if there is no such file.
pub(crate) type Source<'a> = &'a dyn Fn(&Path) -> Option<String>;

impl Tree {
    /// Reads the crate whose `lib.rs` or `main.rs` stands in `root`.
    pub(crate) fn read(root: &Path, source: Source<'_>) -> anyhow::Result<Self> {
        let mut tree = Self { modules: Vec::new() };
        let files = ["lib.rs", "main.rs"].map(|name| root.join(name));
        let found = files.iter().find_map(|file| Some((file, source(file)?)));
        let (file, text) = found.context("has neither lib.rs nor main.rs")?;
        tree.read_file(file, &text, root, &[], None, source)?;
        Ok(tree)
    }

    /// Number of files.
    pub(crate) fn files(&self) -> usize {
        self.modules.iter().map(|module| &module.file).collect::<BTreeSet<_>>().len()
    }

    /// The module and all above it; the crate root is last.
    pub(crate) fn line(&self, module: ModuleId) -> Vec<ModuleId> {
        std::iter::successors(Some(module), |module| self.modules[*module].parent).collect()
    }

    /// Whether `inner` stands below `outer`.
    pub(crate) fn contains(&self, outer: ModuleId, inner: ModuleId) -> bool {
        inner != outer && self.line(inner).contains(&outer)
    }

    /// `folder` is where the files of child modules are.
    fn read_file(
        &mut self,
        file: &Path,
        text: &str,
        folder: &Path,
        path: &[String],
        parent: Option<ModuleId>,
        source: Source<'_>,
    ) -> anyhow::Result<ModuleId> {
        let syntax = syn::parse_file(text).with_context(|| file.display().to_string())?;
        self.read_items(syntax.items, file, folder, path, parent, source)
    }

    fn read_items(
        &mut self,
        items: Vec<Item>,
        file: &Path,
        folder: &Path,
        path: &[String],
        parent: Option<ModuleId>,
        source: Source<'_>,
    ) -> anyhow::Result<ModuleId> {
        let id = self.modules.len();
        self.modules.push(Module {
            path: path.to_owned(),
            parent,
            file: file.to_owned(),
            children: BTreeMap::new(),
            items: BTreeSet::new(),
            code: Vec::new(),
        });
        for item in items {
            if is_test(attributes(&item)) {
                continue;
            }
            let Item::Mod(module) = item else {
                self.modules[id].items.extend(name(&item));
                self.modules[id].code.push(item.into_token_stream());
                continue;
            };
            let name = module.ident.to_string();
            let (folder, path) = (folder.join(&name), [path, std::slice::from_ref(&name)].concat());
            let child = match module.content {
                Some((_, items)) => self.read_items(items, file, &folder, &path, Some(id), source)?,
                None => {
                    let files = [folder.with_extension("rs"), folder.join("mod.rs")];
                    let Some((file, text)) = files.iter().find_map(|file| Some((file, source(file)?))) else {
                        bail!("{}: no file for `mod {name}`", file.display());
                    };
                    self.read_file(file, &text, &folder, &path, Some(id), source)?
                }
            };
            self.modules[id].children.insert(name, child);
        }
        Ok(id)
    }
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// `#[cfg(test)]`, and `#[cfg(any(test, …))]`: what other crates' tests use is for tests too.
fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) if list.path.is_ident("cfg") => {
            let words = list.tokens.to_string();
            words == "test" || words.starts_with("any (test") || words.starts_with("all (test")
        }
        _ => false,
    })
}

/// What an item other than a module is called, if it has a name.
fn name(item: &Item) -> Option<String> {
    Some(match item {
        Item::Const(item) => item.ident.to_string(),
        Item::Enum(item) => item.ident.to_string(),
        Item::Fn(item) => item.sig.ident.to_string(),
        Item::Static(item) => item.ident.to_string(),
        Item::Struct(item) => item.ident.to_string(),
        Item::Trait(item) => item.ident.to_string(),
        Item::Type(item) => item.ident.to_string(),
        Item::Macro(item) => item.ident.as_ref()?.to_string(),
        _ => return None,
    })
}
