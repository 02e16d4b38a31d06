//! A list of kernel options, and what has become of them.

use anyhow::{Result, bail};

/// Options of a kernel's configuration with the values they are to have.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Options(Vec<(String, Option<String>)>);

impl Options {
    /// Reads a file such as `.config`: `CONFIG_NAME=value`, `# CONFIG_NAME is not set`, and comments.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let mut options: Vec<(String, Option<String>)> = Vec::new();
        for (number, line) in text.lines().map(str::trim).enumerate() {
            let unset = line.strip_prefix("# ").and_then(|line| line.strip_suffix(" is not set"));
            let option = match (unset.filter(|name| is_name(name)), line.split_once('=')) {
                (Some(name), _) => (name.to_owned(), None),
                (None, _) if line.is_empty() || line.starts_with('#') => continue,
                // The kernel takes `=n` for "is not set", and never writes it.
                (None, Some((name, "n"))) if is_name(name) => (name.to_owned(), None),
                (None, Some((name, value))) if is_name(name) && !value.is_empty() => {
                    (name.to_owned(), Some(value.to_owned()))
                }
                _ => bail!("line {}: {line:?} is neither an option nor a comment", number + 1),
            };
            // The kernel's tools take the last one, with a warning that nobody sees.
            if options.iter().any(|(name, _)| *name == option.0) {
                bail!("line {}: {} is there twice", number + 1, option.0);
            }
            options.push(option);
        }
        Ok(Self(options))
    }

    /// The options that are not as wanted in the configuration `result`, each with what it is there.
    pub(super) fn missing_in(&self, result: &str) -> Vec<String> {
        let value = |name: &str| {
            result.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix('=')).map(str::to_owned)
        };
        let described = |value: &Option<String>| value.clone().unwrap_or_else(|| "not set".to_owned());
        self.0
            .iter()
            .map(|(name, wanted)| (name, wanted, value(name)))
            .filter(|(_, wanted, found)| *wanted != found)
            .map(|(name, wanted, found)| format!("{name} ({} wanted, {})", described(wanted), described(&found)))
            .collect()
    }
}

fn is_name(text: &str) -> bool {
    text.strip_prefix("CONFIG_")
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: &str = "# why\nCONFIG_A=y\n\nCONFIG_NAME=\"-x=y\"\n# CONFIG_B is not set\nCONFIG_C=n\n# is not set\n";

    #[test]
    fn each_option_that_was_dropped_or_changed_is_named() -> Result<()> {
        let options = Options::parse(WANTED)?;
        let as_wanted = "CONFIG_A=y\nCONFIG_NAME=\"-x=y\"\n# CONFIG_B is not set\nCONFIG_AB=y\n";
        assert_eq!(options.missing_in(as_wanted), Vec::<String>::new());
        let otherwise = "# CONFIG_A is not set\nCONFIG_NAME=\"\"\nCONFIG_B=m\nCONFIG_AB=y\nCONFIG_C=y\n";
        let expected = [
            "CONFIG_A (y wanted, not set)",
            "CONFIG_NAME (\"-x=y\" wanted, \"\")",
            "CONFIG_B (not set wanted, m)",
            "CONFIG_C (not set wanted, y)",
        ];
        assert_eq!(options.missing_in(otherwise), expected);
        Ok(())
    }

    #[test]
    fn what_is_no_option_is_refused_with_its_line() {
        for (text, what) in [
            ("CONFIG_A=y\nCONFG_B=y", "line 2: \"CONFG_B=y\""),
            ("A", "line 1: \"A\""),
            ("CONFIG_A=", "line 1: \"CONFIG_A=\""),
            ("CONFIG_=y", "line 1"),
            ("CONFIG_A=y\n# CONFIG_A is not set", "line 2: CONFIG_A is there twice"),
        ] {
            let error = Options::parse(text).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
    }
}
