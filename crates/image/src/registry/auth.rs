//! What a registry asks for before it answers: `WWW-Authenticate` challenges (RFC 9110 §11.6.1).

/// One challenge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// Scheme in lower case: `basic`, `bearer`, ...
    pub scheme: String,
    /// Parameters, names in lower case.
    pub params: Vec<(String, String)>,
}

impl Challenge {
    /// Value of a parameter.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

/// Challenges in the values of the `WWW-Authenticate` fields of one answer. What cannot be read ends the value
/// that it is in.
pub fn parse_challenges<'a>(values: impl IntoIterator<Item = &'a str>) -> Vec<Challenge> {
    let mut challenges = Vec::new();
    for value in values {
        parse_value(value, &mut challenges);
    }
    challenges
}

/// RFC 9110 §11.6.1: `scheme name=value, name="value", scheme name=...`.
fn parse_value(value: &str, challenges: &mut Vec<Challenge>) {
    let mut rest = value.trim_start();
    let mut current: Option<Challenge> = None;
    while !rest.is_empty() {
        let (word, after) = token(rest);
        if word.is_empty() {
            break;
        }
        let after_spaces = after.trim_start();
        match (after_spaces.strip_prefix('='), &mut current) {
            (Some(text), Some(challenge)) => {
                let Some((text, after)) = param_value(text.trim_start()) else { break };
                challenge.params.push((word.to_ascii_lowercase(), text));
                rest = after;
            }
            // A parameter before any scheme.
            (Some(_), None) => break,
            (None, _) => {
                challenges.extend(current.take());
                current = Some(Challenge { scheme: word.to_ascii_lowercase(), params: Vec::new() });
                rest = after_spaces;
            }
        }
        rest = rest.trim_start_matches([' ', '\t', ',']);
    }
    challenges.extend(current);
}

/// RFC 9110 §5.6.2.
fn token(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c))).unwrap_or(text.len());
    text.split_at(end)
}

/// A token or a quoted string (RFC 9110 §5.6.4).
fn param_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, rest) = token(text);
        return Some((value.to_owned(), rest));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_registries_send() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#;
        let challenges = parse_challenges([hub]);
        assert_eq!(challenges.len(), 1);
        assert_eq!(challenges[0].scheme, "bearer");
        assert_eq!(challenges[0].param("realm"), Some("https://auth.docker.io/token"));
        assert_eq!(challenges[0].param("scope"), Some("repository:a/b:pull,push"));
        let both = parse_challenges([r#"Basic realm="a \"b\"", BEARER Realm=x , service = y"#]);
        assert_eq!(both.len(), 2);
        assert_eq!(both[0].param("realm"), Some("a \"b\""));
        assert_eq!(
            (both[1].scheme.as_str(), both[1].param("realm"), both[1].param("service")),
            ("bearer", Some("x"), Some("y"))
        );
        assert_eq!(parse_challenges(["Basic", "Negotiate"]).len(), 2);
    }

    #[test]
    fn survives_nonsense() {
        for text in
            ["", "=", "a=b", "Bearer realm=\"x", "Bearer realm=\"x\\", "Bearer ,,,", "é", "Bearer =", "\"", "Basic é"]
        {
            for challenge in parse_challenges([text]) {
                assert!(!challenge.scheme.is_empty());
            }
        }
    }
}
