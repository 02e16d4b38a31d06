//! The line that is being written, as words.

/// Words up to the cursor; the last one is being written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) words: Vec<String>,
    /// The quote that the last word is in.
    quote: Option<char>,
}

impl Line {
    /// Words that the shell has split and unquoted itself.
    pub(super) fn of_words(words: Vec<String>) -> Self {
        Self { words, quote: None }
    }

    /// `value` as bash is to put it in the place of what it takes for the word at the cursor. That begins after the last
    /// of COMP_WORDBREAKS in it (`:` and `=` among them), unless it stands in quotes.
    pub(super) fn for_bash(&self, value: &str, current: &str, breaks: &str) -> String {
        if self.quote.is_some() {
            return value.to_owned();
        }
        let is_break = |c: char| matches!(c, ':' | '=') && breaks.contains(c);
        let kept = current.rfind(is_break).map_or(0, |at| at + 1);
        let rest =
            if value.is_char_boundary(kept) && value.starts_with(&current[..kept]) { &value[kept..] } else { value };
        let mut escaped = String::with_capacity(rest.len());
        for c in rest.chars() {
            if c.is_whitespace() || "\\'\"`$&|;<>()*?[]{}!#".contains(c) {
                escaped.push('\\');
            }
            escaped.push(c);
        }
        escaped
    }
}

/// Splits what stands before the cursor, which is at byte `at`, as bash does (bash(1), QUOTING). Of a line with several
/// commands the last one counts.
pub(super) fn split(line: &str, at: usize) -> Line {
    let at = (0..=at.min(line.len())).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0);
    let mut words = vec![String::new()];
    // Between two words there may be more than one space.
    let mut between = true;
    let mut quote = None;
    let mut letters = line[..at].chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (None, ' ' | '\t' | '\n') => {
                if !between {
                    words.push(String::new());
                }
                between = true;
                continue;
            }
            (None, ';' | '|' | '&' | '(') => {
                words = vec![String::new()];
                between = true;
                continue;
            }
            (None, '\'' | '"') => quote = Some(letter),
            (Some(open), close) if open == close => quote = None,
            (None | Some('"'), '\\') => words.last_mut().into_iter().for_each(|word| word.extend(letters.next())),
            _ => words.last_mut().into_iter().for_each(|word| word.push(letter)),
        }
        between = false;
    }
    Line { words, quote }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        split(line, line.len()).words
    }

    #[test]
    fn words_are_those_of_the_shell() {
        assert_eq!(words("walt node  show n"), ["walt", "node", "show", "n"]);
        assert_eq!(words("walt node show "), ["walt", "node", "show", ""]);
        assert_eq!(words("cd x && walt 'a b' \"c\\\"d\" e\\ f"), ["walt", "a b", "c\"d", "e f"]);
        assert_eq!(words("walt image ls ada/img:1 '/et"), ["walt", "image", "ls", "ada/img:1", "/et"]);
        assert_eq!(words("walt node wait ''"), ["walt", "node", "wait", ""]);
        assert_eq!(split("walt node show", 6).words, ["walt", "n"]);
        assert_eq!(split("walt é", 6).words, ["walt", ""]);
        assert_eq!(split("walt", 400).words, ["walt"]);
    }

    #[test]
    fn bash_gets_what_comes_after_its_word_break() {
        let (plain, breaks) = (split("walt", 4), " \t\n\"'><=;|&(:");
        assert_eq!(plain.for_bash("ada/img:12", "ada/img:", breaks), "12");
        assert_eq!(plain.for_bash("--format=oci", "--format=o", breaks), "oci");
        assert_eq!(plain.for_bash("ada/img:12", "ada/img:", " \t\n"), "ada/img:12");
        assert_eq!(plain.for_bash("my image.tar", "my", breaks), "my\\ image.tar");
        assert_eq!(split("walt 'ada/img:", 14).for_bash("ada/img:12", "ada/img:", breaks), "ada/img:12");
    }
}
