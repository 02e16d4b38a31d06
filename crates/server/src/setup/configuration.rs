//! `/etc/walt/server.toml`: the few keys that are asked for are set in it, and all else stays as it is.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, ensure};

use crate::settings::{File, Flags, Settings};

/// What a configuration begins with: each key with its default, as a comment.
const EXAMPLE: &str = include_str!("../../../../docs/server.toml");

/// The configuration as it is and as it is to be.
#[derive(Debug)]
pub(super) struct Edit {
    path: PathBuf,
    old: Option<String>,
    new: String,
}

impl Edit {
    /// Reads what is there, and checks what will be.
    ///
    /// # Errors
    /// What is there is no valid configuration: it is left alone.
    pub(super) fn of(path: &Path, interface: &str, external_dhcp: bool) -> Result<Self, Error> {
        let old = match fs::read_to_string(path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).with_context(|| format!("can not read {}", path.display())),
        };
        let text = old.as_deref().unwrap_or(EXAMPLE);
        let before = File::parse(text, path).context("mend or remove it first: it is not changed as it is")?;
        let mut new = with_key(text, "", "interface", interface);
        let mode = if external_dhcp { "external" } else { "internal" };
        // Only if it has to be said: internal is the default.
        if external_dhcp || before.dhcp_is_external() {
            new = with_key(&new, "dhcp", "mode", mode);
        }
        let settings = Settings::merge(File::parse(&new, path)?, &Flags::default(), path.to_owned())?;
        // A file may be written in ways that setting a key line by line does not see.
        ensure!(
            settings.interface == interface,
            "can not set `interface` in {}: set it to \"{interface}\" by hand",
            path.display()
        );
        Ok(Self { path: path.to_owned(), old, new })
    }

    /// What the daemon will make of it.
    pub(super) fn settings(&self) -> Result<Settings, Error> {
        Ok(Settings::merge(File::parse(&self.new, &self.path)?, &Flags::default(), self.path.clone())?)
    }

    /// The lines that change, with their signs.
    pub(super) fn difference(&self) -> Vec<String> {
        let old: Vec<&str> = self.old.as_deref().unwrap_or(EXAMPLE).lines().collect();
        let new: Vec<&str> = self.new.lines().collect();
        let gone = old.iter().filter(|line| !new.contains(line)).map(|line| format!("- {line}"));
        let come = new.iter().filter(|line| !old.contains(line)).map(|line| format!("+ {line}"));
        gone.chain(come).collect()
    }

    /// Whether there is nothing to write.
    pub(super) fn is_done(&self) -> bool {
        self.old.as_deref() == Some(&self.new)
    }

    /// Where what was there before is kept.
    pub(super) fn kept_as(&self) -> Option<PathBuf> {
        self.old.as_ref().filter(|_| !self.is_done()).map(|_| self.path.with_extension("toml.old"))
    }

    /// Writes it, all or nothing.
    pub(super) fn write(&self) -> Result<(), Error> {
        if self.is_done() {
            return Ok(());
        }
        if let (Some(old), Some(kept)) = (&self.old, self.kept_as()) {
            replace(&kept, old)?;
        }
        replace(&self.path, &self.new)
    }
}

/// Gives a file this content in one step.
pub(super) fn replace(path: &Path, text: &str) -> Result<(), Error> {
    let failed = || format!("can not write {}", path.display());
    let partial = path.with_extension("partial");
    fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).with_context(failed)?;
    let mut file = fs::File::create(&partial).with_context(failed)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    written.and_then(|()| fs::rename(&partial, path)).with_context(failed)
}

/// The text of a configuration with a key of a table (or of none, `""`) set: in the line that has it, in that which has
/// it as a comment, or in a new one.
fn with_key(text: &str, table: &str, key: &str, value: &str) -> String {
    let line = format!("{key} = \"{value}\"");
    let mut lines: Vec<&str> = text.lines().collect();
    let header = |line: &&str| line.trim_start().starts_with('[');
    let begin = match table {
        "" => Some(0),
        _ => lines.iter().position(|line| line.trim() == format!("[{table}]")).map(|at| at + 1),
    };
    let header_of_new;
    match begin {
        Some(begin) => {
            let end = lines[begin..].iter().position(header).map_or(lines.len(), |at| begin + at);
            let is_key = |line: &&str| line.split_once('=').is_some_and(|(name, _)| name.trim() == key);
            let comment = |line: &&str| line.strip_prefix('#').is_some_and(|line| is_key(&line));
            let within = &lines[begin..end];
            match within.iter().position(&is_key).or_else(|| within.iter().position(comment)) {
                Some(at) => lines[begin + at] = &line,
                None => lines.insert(begin, &line),
            }
        }
        None => {
            header_of_new = format!("[{table}]");
            lines.extend(["", header_of_new.as_str(), &line]);
        }
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_set_where_it_stands() {
        assert_eq!(
            with_key("a = 1\ninterface = \"x\"\n[dhcp]\n", "", "interface", "y"),
            "a = 1\ninterface = \"y\"\n[dhcp]\n"
        );
        assert_eq!(with_key("# about\n#interface = \"x\"\n", "", "interface", "y"), "# about\ninterface = \"y\"\n");
        assert_eq!(with_key("[dhcp]\nmode = \"z\"\n", "", "mode", "y"), "mode = \"y\"\n[dhcp]\nmode = \"z\"\n");
        assert_eq!(with_key("[dhcp]\n#mode = \"z\"\n[x]\n", "dhcp", "mode", "y"), "[dhcp]\nmode = \"y\"\n[x]\n");
        assert_eq!(with_key("a = 1\n", "dhcp", "mode", "y"), "a = 1\n\n[dhcp]\nmode = \"y\"\n");
    }

    #[test]
    fn a_new_configuration_is_the_example_with_the_interface() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("walt/server.toml");
        let edit = Edit::of(&path, "walt-net", false).unwrap();
        assert_eq!(edit.difference(), ["- #interface = \"eth1\"", "+ interface = \"walt-net\""]);
        assert_eq!(edit.settings().unwrap().interface, "walt-net");
        edit.write().unwrap();
        assert_eq!(edit.kept_as(), None);
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), EXAMPLE.lines().count());
        assert!(Edit::of(&path, "walt-net", false).unwrap().is_done());
    }

    #[test]
    fn what_is_there_stays_and_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("server.toml");
        let old = "interface = \"eth1\"\n# mine\n[dhcp]\nmode = \"external\"\n[logs]\nkeep_days = 7\n";
        fs::write(&path, old).unwrap();
        let edit = Edit::of(&path, "eth2", false).unwrap();
        edit.write().unwrap();
        let new = old.replace("eth1", "eth2").replace("external", "internal");
        assert_eq!(fs::read_to_string(&path).unwrap(), new);
        assert_eq!(fs::read_to_string(edit.kept_as().unwrap()).unwrap(), old);

        for wrong in ["interface = ", "interfaces = \"eth1\"", "[logs]\nkeep_days = \"many\""] {
            fs::write(&path, wrong).unwrap();
            assert!(Edit::of(&path, "eth2", false).is_err());
            assert_eq!(fs::read_to_string(&path).unwrap(), wrong);
        }
        // The key in a form that is not looked for.
        fs::write(&path, "\"interface\" = \"eth1\"\n").unwrap();
        let error = format!("{:#}", Edit::of(&path, "eth2", false).unwrap_err());
        assert!(error.contains("duplicate") || error.contains("by hand"), "{error}");
    }
}
