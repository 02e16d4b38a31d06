//! A page as people read it: the little Markdown that it is written in, without its signs.

/// The text, with headings in bold if it goes to a terminal.
pub(super) fn rendered(markdown: &str, terminal: bool) -> String {
    let bold = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let mut text = String::with_capacity(markdown.len());
    let mut code = false;
    for line in markdown.lines() {
        if line.starts_with("```") {
            code = !code;
            continue;
        }
        let heading = if code { None } else { line.strip_prefix("# ").or_else(|| line.strip_prefix("## ")) };
        match heading {
            // ECMA-48 §8.3.117: 1 is bold, 0 ends it.
            Some(heading) if bold => text.push_str(&format!("\x1b[1m{heading}\x1b[0m")),
            Some(heading) => text.push_str(heading),
            None if code && !line.is_empty() => text.push_str(&format!("    {line}")),
            None => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_of_markdown_are_not_shown() {
        let page = "# Title\n\nWords.\n\n## More\n\n```console\nwalt node show   # comment\n\n# not a heading\n```\n";
        let text = "Title\n\nWords.\n\nMore\n\n    walt node show   # comment\n\n    # not a heading\n";
        assert_eq!(rendered(page, false), text);
    }
}
