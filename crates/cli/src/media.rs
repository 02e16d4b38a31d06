//! `walt media`: no server is asked, and nobody needs to be root.

pub(crate) mod args;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Error};
use boot::media::output::{NewImage, remove_unfinished, write_directory};
use boot::media::pc::{self, Stick, StickError};
use boot::media::raspberry_pi::{self, Card, CardError, Firmware};
use boot::media::{File, disk, uboot_card};
use boot::{Architecture, Bootloader, MODELS, Model};
use serde::Serialize;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::progress::Shown;
use crate::report::{self, say, warn};
use args::{MediaCommand, MediaTarget};

/// The name of the file system, as a person sees it who puts the card into a computer.
const LABEL: &[u8; 11] = b"WALT       ";

/// What takes less time than this needs no progress.
const SHORT: Duration = Duration::from_secs(1);

/// An error, and what a person may do: lines below it.
#[derive(Debug, thiserror::Error)]
#[error("{error:#}")]
pub(crate) struct Advised {
    error: Error,
    pub(crate) advice: String,
}

/// What was written, for programs.
#[derive(Debug, Serialize)]
struct Written {
    /// Image or directory.
    path: String,
    /// Bytes of the image, or of the files.
    size: u64,
    /// Models that start from it.
    models: Vec<&'static str>,
    /// What does not start from it, or not well, and what is missing for that.
    left_out: Vec<LeftOut>,
    /// Paths of the files.
    files: Vec<String>,
}

#[derive(Debug, Serialize)]
struct LeftOut {
    what: String,
    missing: Vec<String>,
}

pub(crate) fn run(command: MediaCommand) -> Result<(), Error> {
    leave_nothing_when_ended()?;
    match command {
        MediaCommand::Sd { target, model, board, firmware } => {
            sd(&target, model.or(board).as_deref().unwrap_or(FAMILY), &firmware)
        }
        MediaCommand::Usb { out, force, json, firmware } => usb(&out, force, json, &firmware),
    }
}

/// Ctrl-C ends the program, but not before what is half written has been removed.
fn leave_nothing_when_ended() -> Result<(), Error> {
    let mut signals = Signals::new([SIGINT, SIGTERM]).context("can not wait for signals")?;
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            remove_unfinished();
            // As shells report a program that a signal has ended.
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}

fn sd(target: &MediaTarget, model: &str, firmware: &Path) -> Result<(), Error> {
    let boards = boards(model)?;
    // A file that can not be written is said before anything is read.
    let image = target.out.as_deref().map(|path| NewImage::create(path, target.force)).transpose()?;
    let Card { files, boards, left_out } = if boards.iter().all(|board| board.generation.is_some()) {
        let firmware = Firmware::find(firmware).context("there is no firmware")?;
        raspberry_pi::card(&firmware, &boards).map_err(|error| match &error {
            CardError::NoBoard { left_out, .. } => {
                let advice = raspberry_pi::advice(left_out);
                Error::new(Advised { error: Error::msg(explain(&error, left_out)), advice })
            }
            CardError::Firmware(_) => error.into(),
        })?
    } else {
        Card { files: uboot_card(), boards, left_out: Vec::new() }
    };

    let (path, size) = match (image, &target.out, &target.out_dir) {
        (Some(image), Some(path), _) => (path, finish(image, &disk::image(&files, LABEL, &[])?, |_| Ok(()))?),
        (_, _, Some(path)) => {
            write_directory(path, &files, target.force)?;
            (path, files.iter().map(|file| file.content.len() as u64).sum())
        }
        _ => unreachable!("the command line demands --out or --out-dir"),
    };

    let written = Written {
        path: path.display().to_string(),
        size,
        models: boards.iter().map(|board| board.name).collect(),
        left_out: left_out
            .iter()
            .map(|board| LeftOut {
                what: board.model.name.to_owned(),
                missing: board.missing.iter().map(ToString::to_string).collect(),
            })
            .collect(),
        files: paths(&files),
    };
    tell(&written, target.json, "starts", &raspberry_pi::advice(&left_out))
}

fn usb(out: &Path, force: bool, json: bool, root: &Path) -> Result<(), Error> {
    let image = NewImage::create(out, force)?;
    let path = std::env::var("PATH").unwrap_or_default();
    let stick = Stick::find(root, &path).map_err(|error| match &error {
        StickError::Nothing { missing, .. } => {
            let advice = install(missing);
            Error::new(Advised { error: error.into(), advice })
        }
        _ => error.into(),
    })?;
    let bytes = disk::image(&stick.files, LABEL, stick.boot_code.as_deref().unwrap_or_default())?;
    let size = finish(image, &bytes, |image| Ok(stick.install(image)?))?;
    let mut left_out: Vec<LeftOut> = Vec::new();
    for piece in &stick.missing {
        match left_out.iter_mut().find(|known| known.what == piece.consequence) {
            Some(known) => known.missing.push(piece.what.to_owned()),
            None => left_out.push(LeftOut { what: piece.consequence.to_owned(), missing: vec![piece.what.to_owned()] }),
        }
    }
    let written = Written {
        path: out.display().to_string(),
        size,
        models: MODELS
            .iter()
            .filter(|model| model.bootloader == Bootloader::Ipxe)
            // What starts by UEFI is for 64 bits; every PC starts by BIOS.
            .filter(|model| stick.boot_code.is_some() || model.architectures.contains(&Architecture::X86_64))
            .map(|model| model.name)
            .collect(),
        left_out,
        files: paths(&stick.files),
    };
    tell(&written, json, "starts PCs:", &install(&stick.missing))
}

/// The family of boards that share one card.
const FAMILY: &str = "rpi";

/// The boards that a card is for, by the name of a model or of the family.
fn boards(name: &str) -> Result<Vec<&'static Model>, Error> {
    if name == FAMILY {
        return Ok(raspberry_pi::boards());
    }
    let with_card = || MODELS.iter().filter(|model| model.bootloader == Bootloader::UBoot);
    if let Some(model) = with_card().find(|model| model.name == name) {
        return Ok(vec![model]);
    }
    if let Some(pc) = Model::by_name(name) {
        let advice = "`walt media usb` writes a USB stick".to_owned();
        return Err(Advised { error: Error::msg(format!("{} does not start from an SD card", pc.name)), advice }.into());
    }
    let names: Vec<_> = [FAMILY].into_iter().chain(with_card().map(|model| model.name)).collect();
    let alike = |known: &&str| strsim::jaro_winkler(name, known);
    let nearest =
        names.iter().copied().max_by(|a, b| alike(a).total_cmp(&alike(b))).filter(|known| alike(known) > 0.75);
    let question = nearest.map(|nearest| format!("is it `{nearest}`? ")).unwrap_or_default();
    let advice = format!("{question}known are {}", names.join(", "));
    Err(Advised { error: Error::msg(format!("no board is called {name:?}")), advice }.into())
}

/// The error, and what each board lacks.
fn explain(error: &CardError, left_out: &[raspberry_pi::LeftOut]) -> String {
    let boards = left_out.iter().map(|board| {
        let missing: Vec<_> = board.missing.iter().map(ToString::to_string).collect();
        format!("\n      {}: missing {}", board.model.name, missing.join("; "))
    });
    std::iter::once(error.to_string()).chain(boards).collect()
}

fn install(missing: &[pc::Missing]) -> String {
    let packages = pc::packages(missing);
    if packages.is_empty() { String::new() } else { format!("on Debian: `apt install {}`", packages.join(" ")) }
}

/// Writes an image, has `complete` go on with it, and gives it its name. Returns its size.
fn finish(mut image: NewImage, bytes: &[u8], complete: impl FnOnce(&Path) -> Result<(), Error>) -> Result<u64, Error> {
    let size = bytes.len() as u64;
    let (start, mut shown) = (Instant::now(), Shown::new());
    let mut told = Ok(());
    image.write(bytes, |done| {
        if start.elapsed() > SHORT && told.is_ok() {
            told = shown.bytes(done, size);
        }
    })?;
    told.and_then(|()| shown.close())?;
    complete(image.unfinished())?;
    image.finish()?;
    Ok(size)
}

fn paths(files: &[File]) -> Vec<String> {
    files.iter().map(|file| file.path.clone()).collect()
}

fn tell(written: &Written, json: bool, verb: &str, advice: &str) -> Result<(), Error> {
    for LeftOut { what, missing } in &written.left_out {
        warn(format_args!("{what}: missing {}", missing.join("; ")));
    }
    if !written.left_out.is_empty() {
        advice.lines().for_each(|line| eprintln!("      {line}"));
    }
    if json {
        return report::json(written);
    }
    let Written { path, size, models, .. } = written;
    say(format_args!("{path}, {}, {verb} {}", report::bytes(*size), models.join(", ")))
}
