//! A page for every `code` of a problem document: what it means and the way out, from errors.md.

use pulldown_cmark::{Options, Parser, html};

/// All pages, in the order of the text.
const TEXT: &str = include_str!("errors.md");

/// What a code means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorPage {
    pub code: &'static str,
    /// Markdown below the heading: a line with status and title, then the explanation.
    text: &'static str,
}

pub fn page(code: &str) -> Option<ErrorPage> {
    pages().find(|page| page.code == code)
}

fn pages() -> impl Iterator<Item = ErrorPage> {
    TEXT.split("\n## ").skip(1).filter_map(|section| {
        let (code, text) = section.split_once('\n')?;
        // The next chapter is not part of the page before it.
        let text = text.split("\n# ").next()?.trim();
        Some(ErrorPage { code, text })
    })
}

impl ErrorPage {
    /// The page's inside, as HTML.
    pub fn render(&self) -> String {
        let Self { code, text } = self;
        let (title, explanation) = text.split_once('\n').unwrap_or((text, ""));
        render(&format!("[All errors](/docs/errors)\n\n# `{code}`\n\n**{title}**\n{explanation}\n"))
    }
}

/// The list of them all: the introduction, and under each chapter its codes.
pub fn index() -> String {
    let lines = TEXT.lines().scan(false, |in_page, line| {
        let is_page = line.starts_with("## ");
        *in_page = is_page || *in_page && !line.starts_with("# ");
        Some((*in_page, line))
    });
    let mut list = String::new();
    for (in_page, line) in lines {
        match line.strip_prefix("## ").and_then(page) {
            Some(page) => {
                let title = page.text.lines().next().unwrap_or_default();
                list.push_str(&format!("- [`{0}`](/docs/errors/{0}) {title}\n", page.code));
            }
            None if !in_page => {
                list.push_str(line);
                list.push('\n');
            }
            None => {}
        }
    }
    render(&list)
}

fn render(markdown: &str) -> String {
    let mut page = String::with_capacity(markdown.len() * 2);
    html::push_html(&mut page, Parser::new_ext(markdown, Options::empty()));
    page
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use common::event::InvalidEvent;

    use super::*;

    /// What the search below does not find: the processor's own, and the retry of one event.
    const ELSEWHERE: [&str; 2] = ["row_refused", "broker_refused"];

    /// Every text that stands where a code stands: `code: "…"`, or an arm of a `fn code`.
    fn codes_in(file: &Path, into: &mut BTreeSet<String>) {
        let source = std::fs::read_to_string(file).unwrap();
        let program = source.split("#[cfg(test)]").next().unwrap();
        let mut in_table = false;
        for line in program.lines() {
            in_table = line.contains("fn code(") || in_table && line != "    }";
            let quoted = match line.split_once("code: \"") {
                Some((_, rest)) => Some(rest),
                None if in_table => line.split_once("=> \"").map(|(_, rest)| rest),
                None => None,
            };
            if let Some((code, _)) = quoted.and_then(|it| it.split_once('"')) {
                into.insert(code.to_owned());
            }
        }
    }

    fn walk(folder: &Path, into: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, into);
            } else if path.extension().is_some_and(|it| it == "rs") {
                codes_in(&path, into);
            }
        }
    }

    #[test]
    fn every_code_has_a_page_and_every_page_a_code() {
        let mut codes: BTreeSet<_> =
            InvalidEvent::ALL_CODES.iter().chain(&ELSEWHERE).map(|it| (*it).to_owned()).collect();
        walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut codes);
        let documented: BTreeSet<_> = pages().map(|page| page.code.to_owned()).collect();
        assert_eq!(codes, documented);
    }

    #[test]
    fn a_page_holds_its_own_text_alone() {
        let last_of_a_chapter = page("events_rejected").unwrap().render();
        assert!(last_of_a_chapter.contains("<code>events_rejected</code>"));
        assert!(last_of_a_chapter.contains("results=errors"));
        assert!(!last_of_a_chapter.contains("The request"), "{last_of_a_chapter}");
        assert_eq!(page("no_such_code"), None);
    }

    #[test]
    fn the_list_names_every_page_and_no_explanation() {
        let index = index();
        assert!(pages().all(|page| index.contains(&format!("/docs/errors/{}\"", page.code))));
        assert!(!index.contains("emoji"));
    }
}
