//! Running other programs: to their end with their output kept, or in the background with a log, killed on drop.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Runs `command` to its end and gives back what it wrote to its standard output.
///
/// # Errors
/// When it cannot be started, or ends with another code than 0: the error then holds what it wrote to stderr.
pub fn run(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        bail!("{command:?} failed ({}): {} {}", output.status, err.trim(), last_lines(&out, 20).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs `command` with the caller's own terminal.
///
/// # Errors
/// When it cannot be started, or ends with another code than 0.
pub fn run_shown(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    if !status.success() {
        bail!("{command:?} failed ({status})");
    }
    Ok(())
}

/// `run` for a command line of plain words, such as `ip link set lo up`.
///
/// # Errors
/// As [`run`].
pub fn run_words(line: &str) -> Result<String> {
    let mut words = line.split_whitespace();
    let program = words.next().context("an empty command line")?;
    run(Command::new(program).args(words))
}

/// The last `count` lines of `text`.
pub fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// A program in the background. Both its outputs go to one log file; it is killed when this value is dropped.
#[derive(Debug)]
pub struct Background {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Background {
    /// Starts `command`; its output is appended to `log`.
    ///
    /// # Errors
    /// When the log cannot be opened or the program cannot be started.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let mut file =
            File::options().create(true).append(true).open(log).with_context(|| format!("cannot open {log:?}"))?;
        writeln!(file, "--- {command:?}").with_context(|| format!("cannot write {log:?}"))?;
        let again = file.try_clone().context("cannot clone a log file")?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(again)
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned() })
    }

    /// The id of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The file that holds what the program wrote.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// How the program ended, if it has.
    ///
    /// # Errors
    /// When the system cannot tell.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("cannot ask about {}", self.name))
    }

    /// Kills the program (SIGKILL) and waits for its end.
    pub fn kill(&mut self) {
        // Both fail only when it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits until `ready` says yes.
    ///
    /// # Errors
    /// When the program ends first or `limit` passes; the error holds the end of the log.
    pub fn wait_until(&mut self, what: &str, limit: Duration, mut ready: impl FnMut() -> bool) -> Result<()> {
        let start = Instant::now();
        while !ready() {
            if let Some(status) = self.ended()? {
                bail!("{} ended ({status}) before {what}:\n{}", self.name, self.tail(30));
            }
            if start.elapsed() > limit {
                bail!("{}: not {what} within {limit:?}:\n{}", self.name, self.tail(30));
            }
            sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// The last `count` lines of the log.
    pub fn tail(&self, count: usize) -> String {
        tail(&self.log, count)
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The last `count` lines of a file that may hold anything; empty if it cannot be read.
pub fn tail(path: &Path, count: usize) -> String {
    last_lines(&String::from_utf8_lossy(&fs::read(path).unwrap_or_default()), count)
}

/// Reads what has been added to a log since the last look, and waits for what is to come.
#[derive(Debug)]
pub struct Follow {
    path: PathBuf,
    offset: u64,
    seen: String,
}

impl Follow {
    /// Follows `path`, which need not exist yet, from its beginning.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), offset: 0, seen: String::new() }
    }

    /// What was added since the last call, with terminal control sequences removed.
    pub fn new_text(&mut self) -> String {
        let mut bytes = Vec::new();
        if let Ok(mut file) = File::open(&self.path)
            && file.seek(SeekFrom::Start(self.offset)).is_ok()
            && let Ok(count) = file.read_to_end(&mut bytes)
        {
            self.offset += count as u64;
        }
        plain_text(&bytes)
    }

    /// Waits until `text` has been written after the point where the last successful wait ended.
    /// `alive` may end the waiting by an error of its own.
    ///
    /// # Errors
    /// When `limit` passes first, or `alive` fails.
    pub fn wait_for(&mut self, text: &str, limit: Duration, mut alive: impl FnMut() -> Result<()>) -> Result<()> {
        let start = Instant::now();
        loop {
            let new = self.new_text();
            self.seen.push_str(&new);
            if let Some(at) = self.seen.find(text) {
                self.seen.drain(..at + text.len());
                return Ok(());
            }
            alive()?;
            if start.elapsed() > limit {
                bail!("{:?} was not written to {} within {limit:?}", text, self.path.display());
            }
            sleep(Duration::from_millis(50));
        }
    }

    /// Forgets what was written up to now: the next wait looks only at what comes later.
    pub fn skip(&mut self) {
        self.new_text();
        self.seen.clear();
    }
}

/// Removes escape sequences and carriage returns, which firmware and systemd put between the letters of a line.
fn plain_text(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut plain = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\u{1b}' => {
                if letters.next_if_eq(&'[').is_some() {
                    // ECMA-48 §5.4: parameters and intermediates, then one final byte of 0x40 to 0x7e.
                    for c in letters.by_ref() {
                        if ('\u{40}'..='\u{7e}').contains(&c) {
                            break;
                        }
                    }
                } else {
                    letters.next();
                }
            }
            '\r' => {}
            c => plain.push(c),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_keeps_letters_only() {
        assert_eq!(plain_text(b"\x1b[2J\x1b[01;01Hone\r\n\x1b[0;32m OK \x1b[0m\x1bctwo"), "one\n OK two");
    }

    #[test]
    fn run_tells_why_it_failed() {
        let error = run(Command::new("sh").args(["-c", "echo out; echo because >&2; exit 3"])).unwrap_err().to_string();
        assert!(error.contains("because") && error.contains('3'), "{error}");
    }

    #[test]
    fn a_wait_starts_after_the_last_one() -> Result<()> {
        let path = std::env::temp_dir().join(format!("walt-follow-{}", std::process::id()));
        fs::write(&path, "one two")?;
        let mut follow = Follow::new(&path);
        follow.wait_for("one", Duration::ZERO, || Ok(()))?;
        assert!(follow.wait_for("one", Duration::ZERO, || Ok(())).is_err());
        follow.wait_for("two", Duration::ZERO, || Ok(()))?;
        fs::remove_file(&path)?;
        Ok(())
    }
}
