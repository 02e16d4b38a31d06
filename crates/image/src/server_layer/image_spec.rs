//! `/etc/walt/image.spec`: JSON or YAML, `#` comments allowed, unknown keys ignored.

use saphyr_parser::{Event, Parser};

/// The file says nothing that we understand.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// Not UTF-8.
    #[error("it is not UTF-8 text")]
    NotText,
    /// Neither JSON nor YAML; the message is that of the YAML parser, which reads both.
    #[error("it is neither JSON nor YAML: {0}")]
    Syntax(String),
    /// Not a mapping.
    #[error("it is not a mapping of names to values")]
    NotAMapping,
    /// `templates` is something else than a list of texts.
    #[error("its \"templates\" is not a list of paths")]
    Templates,
}

#[derive(serde::Deserialize)]
struct Json {
    #[serde(default)]
    templates: Vec<String>,
}

/// Paths listed as `templates`.
pub(super) fn parse_templates(bytes: &[u8]) -> Result<Vec<String>, SpecError> {
    let text = std::str::from_utf8(bytes).map_err(|_| SpecError::NotText)?;
    // JSON first: YAML knows most of it, but not tabs as indentation.
    match serde_json::from_str::<Json>(&without_comments(text)) {
        Ok(spec) => Ok(spec.templates),
        Err(error) if error.is_data() && text.trim_start().starts_with('{') => Err(SpecError::Templates),
        Err(_) => parse_yaml(text),
    }
}

/// Blanks whatever stands between a `#` outside of a JSON string and the end of its line.
fn without_comments(text: &str) -> String {
    let (mut in_string, mut escaped, mut in_comment) = (false, false, false);
    text.chars()
        .map(|c| {
            match c {
                '\n' => in_comment = false,
                _ if in_comment => return ' ',
                '#' if !in_string => {
                    in_comment = true;
                    return ' ';
                }
                '"' if !escaped => in_string = !in_string,
                _ => {}
            }
            escaped = in_string && c == '\\' && !escaped;
            c
        })
        .collect()
}

/// Walks the parser's events, never building a tree: aliases are not expanded, so a small file
/// cannot become a large one.
fn parse_yaml(text: &str) -> Result<Vec<String>, SpecError> {
    let mut templates = Vec::new();
    let mut depth = 0u32;
    // Within the top mapping: the key whose value comes next, or `None` if a key does.
    let mut key: Option<String> = None;
    for event in Parser::new_from_str(text) {
        let (event, _) = event.map_err(|e| SpecError::Syntax(e.to_string()))?;
        let in_templates = key.as_deref() == Some("templates");
        match event {
            Event::MappingStart(..) | Event::SequenceStart(..) => {
                let is_mapping = matches!(event, Event::MappingStart(..));
                match depth {
                    0 if !is_mapping => return Err(SpecError::NotAMapping),
                    1 if key.is_none() => return Err(SpecError::NotAMapping),
                    1 if in_templates && is_mapping => return Err(SpecError::Templates),
                    2.. if in_templates => return Err(SpecError::Templates),
                    _ => {}
                }
                depth += 1;
            }
            Event::MappingEnd | Event::SequenceEnd => {
                depth = depth.saturating_sub(1);
                if depth == 1 {
                    key = None;
                }
            }
            Event::Scalar(text, ..) => match depth {
                0 if text.is_empty() => {}
                0 => return Err(SpecError::NotAMapping),
                1 if key.is_none() => key = Some(text.into_owned()),
                // `templates:` with nothing behind it is an empty list.
                1 if in_templates && !matches!(&*text, "" | "~" | "null") => return Err(SpecError::Templates),
                1 => key = None,
                2 if in_templates => templates.push(text.into_owned()),
                _ => {}
            },
            Event::Alias(_) if in_templates || (depth == 1 && key.is_none()) => return Err(SpecError::Templates),
            Event::Alias(_) if depth == 1 => key = None,
            _ => {}
        }
    }
    Ok(templates)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_read_from_json_and_from_yaml() {
        let two = Ok(vec!["/etc/a".to_owned(), "/boot/pc-x86-64/start.ipxe".to_owned()]);
        let cases = [
            (r#"{"templates": ["/etc/a", "/boot/pc-x86-64/start.ipxe"]}"#, two.clone()),
            ("# ours\n{\n\t\"templates\": [ # two\n\t\"/etc/a\",\n\t\"/boot/pc-x86-64/start.ipxe\"]\n}\n", two.clone()),
            ("{\"x\": {\"y\": [1, 2]}, \"templates\": [\"/etc/a\", \"/boot/pc-x86-64/start.ipxe\"]}", two.clone()),
            ("# ours\ntemplates:\n  - /etc/a # one\n  - \"/boot/pc-x86-64/start.ipxe\"\n", two.clone()),
            ("features:\n  nfs: [a, {b: c}]\ntemplates: [/etc/a, /boot/pc-x86-64/start.ipxe]\nz: 1\n", two.clone()),
            (r##"{"templates": ["/etc/#a\"#"]}"##, Ok(vec!["/etc/#a\"#".to_owned()])),
            ("templates:\n", Ok(vec![])),
            ("{}", Ok(vec![])),
            ("", Ok(vec![])),
            ("# nothing\n", Ok(vec![])),
            ("- a\n- b\n", Err(SpecError::NotAMapping)),
            ("templates", Err(SpecError::NotAMapping)),
            ("templates: /etc/a\n", Err(SpecError::Templates)),
            ("templates:\n  a: b\n", Err(SpecError::Templates)),
            ("templates: [[a]]\n", Err(SpecError::Templates)),
            ("a: &a [x]\ntemplates: *a\n", Err(SpecError::Templates)),
            (r#"{"templates": "/etc/a"}"#, Err(SpecError::Templates)),
            (r#"{"templates": [1]}"#, Err(SpecError::Templates)),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_templates(text.as_bytes()), expected, "{text}");
        }
        for bad in ["{\"templates\": [\"a\"", "a: b: c: [", "\"", "{]"] {
            assert!(matches!(parse_templates(bad.as_bytes()), Err(SpecError::Syntax(_))), "{bad}");
        }
        assert_eq!(parse_templates(b"\xff\xfe"), Err(SpecError::NotText));
        // Deep nesting neither overflows the stack nor takes long.
        let _ = parse_templates("[".repeat(100_000).as_bytes());
        let _ = parse_templates(format!("a: {}", "{a: ".repeat(50_000)).as_bytes());
    }
}
