//! Changes files at random, reads them back, and later tells whether they are what they were left as: for file systems that
//! are interrupted meanwhile.
//!
//! `random-writes work DIRECTORY SEED STOP` goes on until the file STOP is there, and prints how many steps it took.
//! `random-writes check DIRECTORY SEED STEPS` takes the same steps in memory alone, and compares.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// Names that files may have.
const NAMES: u64 = 12;
/// Largest size of a file, in bytes.
const LARGEST: u64 = 300_000;
/// Largest write, in bytes.
const WRITE: u64 = 70_000;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [mode, directory, seed, last] = &arguments[..] else {
        return Err(Error::other("usage: random-writes work|check DIRECTORY SEED STOP|STEPS"));
    };
    let number = |text: &str| text.parse().map_err(|_| Error::other(format!("{text:?} is no number")));
    let mut work = Work { random: Random(number(seed)?), files: BTreeMap::new(), directory: None };
    match mode.as_str() {
        "work" => {
            work.directory = Some(directory.into());
            let mut steps: u64 = 0;
            while !Path::new(last).exists() {
                work.step().map_err(|error| Error::new(error.kind(), format!("step {steps}: {error}")))?;
                steps += 1;
            }
            for name in work.files.keys() {
                work.path(name).map_or(Ok(()), |path| File::open(path)?.sync_all())?;
            }
            println!("{steps}");
        }
        "check" => {
            for _ in 0..number(last)? {
                work.step()?;
            }
            work.directory = Some(directory.into());
            work.compare()?;
            println!("{} files are as they were left", work.files.len());
        }
        other => return Err(Error::other(format!("{other:?} is neither work nor check"))),
    }
    Ok(())
}

/// The files as they must be, and where they are; nowhere while steps are only counted.
struct Work {
    random: Random,
    files: BTreeMap<String, Vec<u8>>,
    directory: Option<PathBuf>,
}

impl Work {
    fn path(&self, name: &str) -> Option<PathBuf> {
        Some(self.directory.as_ref()?.join(name))
    }

    /// One change or look. What is drawn depends on the seed and on the files alone.
    fn step(&mut self) -> Result<()> {
        let kind = self.random.below(20);
        let (name, other) = (self.name(), self.name());
        if !self.files.contains_key(&name) {
            if let Some(path) = self.path(&name) {
                OpenOptions::new().write(true).create_new(true).open(path)?;
            }
            self.files.insert(name, Vec::new());
            return Ok(());
        }
        match kind {
            0..=8 => self.write(&name),
            9..=10 => self.truncate(&name),
            11..=13 => self.look(&name),
            14..=15 => self.path(&name).map_or(Ok(()), |path| File::open(path)?.sync_all()),
            16..=17 => {
                if let (Some(from), Some(to)) = (self.path(&name), self.path(&other)) {
                    fs::rename(from, to)?;
                }
                let content = self.files.remove(&name).unwrap_or_default();
                self.files.insert(other, content);
                Ok(())
            }
            18 => {
                self.path(&name).map_or(Ok(()), fs::remove_file)?;
                self.files.remove(&name);
                Ok(())
            }
            _ => {
                // Made, used and removed: each of these may be the call that has to be sent twice.
                let Some(path) = self.path(&format!("{name}.d")) else { return Ok(()) };
                fs::create_dir(&path)?;
                std::os::unix::fs::symlink("x", path.join("link"))?;
                fs::remove_file(path.join("link"))?;
                fs::remove_dir(path)
            }
        }
    }

    fn write(&mut self, name: &str) -> Result<()> {
        let (at, length) = (self.random.below(LARGEST - WRITE), self.random.below(WRITE) + 1);
        let first = self.random.next();
        let data: Vec<u8> = (0..length).map(|index| (first.wrapping_mul(index | 1) >> 32) as u8).collect();
        if let Some(path) = self.path(name) {
            OpenOptions::new().write(true).open(path)?.write_all_at(&data, at)?;
        }
        let content = self.files.entry(name.to_owned()).or_default();
        let end = (at + length) as usize;
        content.resize(content.len().max(end), 0);
        content[at as usize..end].copy_from_slice(&data);
        Ok(())
    }

    fn truncate(&mut self, name: &str) -> Result<()> {
        let size = self.random.below(LARGEST);
        if let Some(path) = self.path(name) {
            OpenOptions::new().write(true).open(path)?.set_len(size)?;
        }
        self.files.entry(name.to_owned()).or_default().resize(size as usize, 0);
        Ok(())
    }

    fn look(&self, name: &str) -> Result<()> {
        let Some(path) = self.path(name) else { return Ok(()) };
        let (read, expected) = (fs::read(path)?, &self.files[name]);
        if read == *expected {
            return Ok(());
        }
        let differs = read.iter().zip(expected).position(|(one, other)| one != other);
        let text = format!(
            "{name} has {} bytes where {} are expected, and differs at {differs:?}",
            read.len(),
            expected.len()
        );
        Err(Error::new(ErrorKind::InvalidData, text))
    }

    fn compare(&self) -> Result<()> {
        let mut names = Vec::new();
        for entry in self.directory.iter().map(fs::read_dir).flat_map(Result::into_iter).flatten() {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        if !names.iter().eq(self.files.keys()) {
            let expected: Vec<&String> = self.files.keys().collect();
            return Err(Error::other(format!("{names:?} where {expected:?} are expected")));
        }
        self.files.keys().try_for_each(|name| self.look(name))
    }

    fn name(&mut self) -> String {
        format!("file-{}", self.random.below(NAMES))
    }
}

/// xorshift64* of Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled".
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.max(1);
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 16) % limit
    }
}
