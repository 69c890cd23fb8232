//! Finds the paths in code: `crate::hub::Room`, `use super::{a, b::C as D};`, also inside macros.
//!
//! It reads tokens, not syntax, because the arguments of a macro have no syntax.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A path as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CodePath {
    pub(crate) segments: Vec<String>,
    /// The name that a `use` gives it; `*` for all names of a module.
    pub(crate) imported_as: Option<String>,
    /// Whether it is a `pub use`.
    pub(crate) is_reexport: bool,
}

/// All paths of at least two segments, and every path of a `use`.
pub(crate) fn paths(code: &TokenStream) -> Vec<CodePath> {
    let mut found = Vec::new();
    scan(code, &mut found);
    found
}

/// All identifiers of code that is no `use`.
pub(crate) fn identifiers(code: &TokenStream) -> Vec<String> {
    let (mut found, mut tokens) = (Vec::new(), code.clone().into_iter().peekable());
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Ident(word) if word == "use" && !is_punct(tokens.peek(), '<') => {
                let is_inside = |token: &TokenTree| !is_punct(Some(token), ';');
                tokens.by_ref().take_while(is_inside).for_each(drop);
            }
            TokenTree::Ident(word) => found.push(word.to_string()),
            TokenTree::Group(group) => found.extend(identifiers(&group.stream())),
            _ => {}
        }
    }
    found
}

fn scan(code: &TokenStream, found: &mut Vec<CodePath>) {
    let tokens: Vec<TokenTree> = code.clone().into_iter().collect();
    let (mut at, mut is_public, mut is_absolute) = (0, false, false);
    while at < tokens.len() {
        match &tokens[at] {
            // `use<'a>` names what a type captures.
            TokenTree::Ident(word) if word == "use" && !is_punct(tokens.get(at + 1), '<') => {
                tree(&tokens, &mut (at + 1), &[], is_public, found);
                while at < tokens.len() && !is_punct(tokens.get(at), ';') {
                    at += 1;
                }
            }
            TokenTree::Ident(word) if word == "pub" => {
                is_public = true;
                at += 1;
                // `pub(crate)`, `pub(super)`
                if matches!(tokens.get(at), Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Parenthesis)
                {
                    at += 1;
                }
                continue;
            }
            TokenTree::Ident(word) => {
                let mut segments = vec![word.to_string()];
                at += 1;
                while is_separator(&tokens, at)
                    && let Some(TokenTree::Ident(next)) = tokens.get(at + 2)
                {
                    segments.push(next.to_string());
                    at += 3;
                }
                if segments.len() > 1 && !is_absolute {
                    found.push(CodePath { segments, imported_as: None, is_reexport: false });
                }
                (is_public, is_absolute) = (false, false);
                continue;
            }
            TokenTree::Group(group) => scan(&group.stream(), found),
            TokenTree::Punct(_) if is_separator(&tokens, at) => {
                // `::std::…`, or the end of `<T as Trait>::name`: not a path of this crate.
                is_absolute = true;
                at += 2;
                continue;
            }
            _ => {}
        }
        (is_public, is_absolute) = (false, false);
        at += 1;
    }
}

/// One tree of a `use`, up to the comma or the end.
fn tree(tokens: &[TokenTree], at: &mut usize, prefix: &[String], is_reexport: bool, found: &mut Vec<CodePath>) {
    let mut segments = prefix.to_vec();
    loop {
        match tokens.get(*at) {
            Some(TokenTree::Ident(word)) => {
                // `{self}` names the prefix.
                if word != "self" || segments.is_empty() {
                    segments.push(word.to_string());
                }
                *at += 1;
            }
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                let mut position = 0;
                while position < inner.len() {
                    tree(&inner, &mut position, &segments, is_reexport, found);
                    position += 1; // the comma
                }
                *at += 1;
                return;
            }
            Some(TokenTree::Punct(punct)) if punct.as_char() == '*' => {
                *at += 1;
                found.push(CodePath { segments, imported_as: Some("*".into()), is_reexport });
                return;
            }
            _ => return,
        }
        if is_separator(tokens, *at) {
            *at += 2;
            continue;
        }
        let mut name = segments.last().cloned().unwrap_or_default();
        if let (Some(TokenTree::Ident(word)), Some(TokenTree::Ident(alias))) = (tokens.get(*at), tokens.get(*at + 1))
            && word == "as"
        {
            name = alias.to_string();
            *at += 2;
        }
        found.push(CodePath { segments, imported_as: Some(name), is_reexport });
        return;
    }
}

fn is_separator(tokens: &[TokenTree], at: usize) -> bool {
    is_punct(tokens.get(at), ':') && is_punct(tokens.get(at + 1), ':')
}

fn is_punct(token: Option<&TokenTree>, character: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == character)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(code: &str) -> Vec<String> {
        let show = |path: CodePath| {
            let name = path.imported_as.map(|name| format!(" as {name}")).unwrap_or_default();
            format!("{}{}{name}", if path.is_reexport { "pub " } else { "" }, path.segments.join("::"))
        };
        paths(&code.parse().unwrap()).into_iter().map(show).collect()
    }

    #[test]
    fn use_trees_are_read() {
        assert_eq!(
            written("use crate::{a, b::{self, C as D}, e::*}; pub(crate) use super::f;"),
            ["crate::a as a", "crate::b as b", "crate::b::C as D", "crate::e as *", "pub super::f as f"]
        );
    }

    #[test]
    fn paths_inside_code_and_macros_are_read() {
        assert_eq!(
            written("fn f() { use super::x; log!(a = crate::m::N; x::y(Vec::<crate::t::U>::new())); }"),
            ["super::x as x", "crate::m::N", "x::y", "crate::t::U"]
        );
    }

    #[test]
    fn identifiers_of_imports_do_not_count() {
        let code = "pub use a::{B, C}; struct D(B); fn f() { use e::G; h!(I); }".parse().unwrap();
        assert_eq!(identifiers(&code), ["pub", "struct", "D", "B", "fn", "f", "h", "I"]);
    }

    #[test]
    fn captures_of_a_type_are_no_import() {
        let code = "fn f() -> impl T + use<'_> { crate::m::N }";
        assert_eq!(written(code), ["crate::m::N"]);
        assert_eq!(identifiers(&code.parse().unwrap()).last().unwrap(), "N");
    }

    #[test]
    fn absolute_paths_are_not_ours() {
        assert_eq!(written("type A = ::std::string::String; type B = <C as D>::E;"), Vec::<String>::new());
    }
}
