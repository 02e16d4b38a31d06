//! The tree over NFS, as libnfs sees it: its library for everything, its programs for what they show.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use testbed::host::Host;
use testbed::lab::SERVER;
use testbed::process::run as run_program;

use super::super::stage::Stage;
use super::tree::{Differences, Object, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, Tree, device, differences, sha256};

/// A client of libnfs's library that walks the export.
const WALK: &str = include_str!("libnfs.py");

/// One file in so many is read by the programs too, each time by a process of its own.
const SAMPLE: usize = 40;

/// Files as large as this are all read by the programs: their content takes many READs.
const LARGE: u64 = 4 << 20;

pub(super) fn compare(stage: &mut Stage<'_>, expected: &Tree, host: &Host) -> Result<()> {
    let address = host.address()?;
    let url = format!("nfs://{SERVER}/var/lib/walt/nodes/{address}/fs");
    compare_library(stage, expected, host, &url)?;
    compare_listing(stage, expected, host, &url)?;
    compare_programs(stage, expected, host, &url)
}

/// Every object by a client that uses libnfs's library.
fn compare_library(stage: &mut Stage<'_>, expected: &Tree, host: &Host, url: &str) -> Result<()> {
    let script = stage.lab.write("libnfs.py", WALK)?;
    let text = run_program(host.command("python3").arg(script).args([url, &library()?]))?;
    let objects = text.lines().map(|line| object(line).with_context(|| format!("libnfs.py printed {line:?}")));
    let seen = Tree::of_objects(objects.collect::<Result<_>>()?);
    let mut without_xattrs = expected.clone();
    // NFSv3 has none.
    without_xattrs.0.values_mut().for_each(|object| object.xattrs.clear());
    let bytes: u64 = seen.0.values().filter(|object| object.is(S_IFREG)).map(|object| object.size).sum();
    let what = format!(
        "libnfs sees {} objects over NFS with umoci's kind, mode, owner, size, time, links, device numbers, link target \
         and content ({} MB)",
        seen.0.len(),
        bytes / 1_000_000
    );
    let differences = differences(&without_xattrs, &seen);
    stage.check(&what, differences.is_empty(), differences)
}

/// The library that libnfs's own programs use.
fn library() -> Result<String> {
    let text = run_program(Command::new("sh").args(["-c", "ldd \"$(command -v nfs-ls)\""]))?;
    let name = text.split_whitespace().find(|word| word.starts_with("libnfs.so."));
    name.map(str::to_owned).context("nfs-ls uses no libnfs")
}

/// One line of the client.
fn object(line: &str) -> Option<(PathBuf, Object, u64)> {
    let mut words = line.split(' ');
    let path = path_of_hex(words.next()?)?;
    let mut number = || words.next()?.parse::<u64>().ok();
    let mode = u32::try_from(number()?).ok()?;
    let (uid, gid) = (u32::try_from(number()?).ok()?, u32::try_from(number()?).ok()?);
    let mtime = (i64::try_from(number()?).ok()?, i64::try_from(number()?).ok()?);
    let (size, links, rdev, ino) = (number()?, number()?, number()?, number()?);
    let content = words.next().filter(|content| *content != "-").unwrap_or_default().to_owned();
    let object = Object {
        mode,
        uid,
        gid,
        mtime,
        size: if mode & S_IFMT == S_IFDIR { 0 } else { size },
        links,
        // RFC 1813 §2.5 has two words, specdata3; libnfs packs them into one as the kernel's user space does.
        device: device(rdev),
        content,
        ..Object::default()
    };
    Some((path, object, ino))
}

fn path_of_hex(hex: &str) -> Option<PathBuf> {
    if hex == "-" {
        return Some(PathBuf::new());
    }
    let byte = |at: usize| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok();
    let bytes: Option<Vec<u8>> = (0..hex.len()).step_by(2).map(byte).collect();
    Some(PathBuf::from(OsString::from_vec(bytes?)))
}

/// Every line of `nfs-ls -R`.
fn compare_listing(stage: &mut Stage<'_>, expected: &Tree, host: &Host, url: &str) -> Result<()> {
    let text = run_program(host.command("nfs-ls").args(["-R", url]))?;
    let seen: BTreeSet<String> = text.lines().map(without_directory_size).collect();
    let below = expected.0.iter().filter(|(path, _)| **path != Path::new(""));
    let wanted: BTreeSet<String> = below.map(|(path, object)| listed(path, object)).collect();
    let mut differences = Differences::default();
    for line in wanted.symmetric_difference(&seen) {
        let side = if wanted.contains(line) { "not listed" } else { "listed" };
        differences.add(|| format!("{side}: {line}"));
    }
    let once = text.lines().count() == seen.len();
    let what =
        format!("nfs-ls -R lists {} objects, each once, with umoci's kind, mode, links, owner and size", seen.len());
    stage.check(&what, differences.is_empty() && once, differences)
}

/// As nfs-ls prints it; setuid and its like it does not show.
fn listed(path: &Path, object: &Object) -> String {
    let kind = match object.mode & S_IFMT {
        S_IFDIR => 'd',
        S_IFLNK => 'l',
        0o060_000 => 'b',
        0o020_000 => 'c',
        0o010_000 => 'p',
        0o140_000 => 's',
        _ => '-',
    };
    let bits: String =
        (0..9).map(|bit| if object.mode >> (8 - bit) & 1 == 1 { ['r', 'w', 'x'][bit % 3] } else { '-' }).collect();
    let Object { links, uid, gid, size, .. } = object;
    let line = format!("{kind}{bits} {links:2} {uid:5} {gid:5} {size:12} {}", path.display());
    without_directory_size(&line)
}

/// Directories have a size, but not one that two file systems agree on.
fn without_directory_size(line: &str) -> String {
    let mut words = line.split_whitespace();
    let fields: Vec<&str> = words.by_ref().take(5).collect();
    // What follows the fifth word and one space is the path, whatever it holds.
    let path = fields.last().and_then(|size| {
        let at = size.as_ptr() as usize - line.as_ptr() as usize + size.len();
        line.get(at + 1..)
    });
    let shown = if line.starts_with('d') { &fields[..fields.len().min(4)] } else { &fields[..] };
    format!("{} {}", shown.join(" "), path.unwrap_or_default())
}

/// Large files, and one in [`SAMPLE`] of the others, by `nfs-cat` and `nfs-cp`.
fn compare_programs(stage: &mut Stage<'_>, expected: &Tree, host: &Host, url: &str) -> Result<()> {
    let copy = stage.lab.state().join("nfs-cp");
    let files: BTreeMap<_, _> = expected.0.iter().filter(|(_, object)| object.is(S_IFREG)).collect();
    let chosen = files.iter().enumerate().filter(|(n, (_, object))| n % SAMPLE == 0 || object.size >= LARGE);
    let (mut differences, mut count, mut bytes) = (Differences::default(), 0, 0);
    for (_, (path, object)) in chosen {
        let source = format!("{url}/{}", path.display());
        let mut cat = host.command("nfs-cat").arg(&source).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let content = sha256(&mut cat.stdout.take().context("nfs-cat has no output")?)?;
        if !cat.wait()?.success() || content != object.content {
            differences.add(|| format!("{}: nfs-cat gives {content}", path.display()));
        }
        run_program(host.command("nfs-cp").arg(&source).arg(&copy))?;
        let content = sha256(&mut std::fs::File::open(&copy)?)?;
        if content != object.content {
            differences.add(|| format!("{}: nfs-cp gives {content}", path.display()));
        }
        std::fs::remove_file(&copy)?;
        count += 1;
        bytes += object.size;
    }
    let what = format!(
        "nfs-cat and nfs-cp give umoci's content of {count} of {} files ({} MB)",
        files.len(),
        bytes / 1_000_000
    );
    stage.check(&what, differences.is_empty(), differences)
}
