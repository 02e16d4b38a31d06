//! Programs of the image, run from a service that lives outside of the image's root.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};

/// Where the image's programs see their root.
#[derive(Debug)]
pub(crate) enum ImageRoot {
    /// The root of PID 1, found through this open `/proc`: after the union is `/` it is the union, and
    /// it stays right if the image's init changes its root.
    OfInit(File),
    /// A directory (tests).
    At(PathBuf),
}

impl ImageRoot {
    /// The root as walt-init hands it over: its `/proc` is the standard input of the service.
    ///
    /// # Errors
    /// If standard input is anything else: whoever started the program is not walt-init, and a reboot
    /// of this machine is not what they want.
    pub(crate) fn from_standard_input() -> io::Result<Self> {
        let root = Self::OfInit(File::from(rustix::io::dup(rustix::stdio::stdin())?));
        root.open().map(|_| root)
    }

    fn open(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(match self {
            Self::OfInit(proc) => rustix::fs::openat(proc, "1/root", flags, Mode::empty())?,
            Self::At(path) => rustix::fs::open(path, flags, Mode::empty())?,
        })
    }

    /// A command that will run in this root.
    ///
    /// # Errors
    /// `NotFound` if the root has no such program.
    fn command(&self, program: &Path) -> io::Result<Command> {
        let root = self.open()?;
        let mut command = Command::new(program);
        command.stdin(Stdio::null());
        // The service's own output may be a directory (see `init::services`).
        command.stdout(Stdio::from(rustix::io::dup(rustix::stdio::stderr())?));
        sys::child::in_root(&mut command, root);
        Ok(command)
    }
}

/// How a run of a program ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The image has no such program.
    Absent,
    /// It ran and returned.
    Returned(ExitStatus),
    /// It could not be run.
    Failed(io::Error),
    /// It has not returned in time, and was left alone.
    StillRunning,
}

/// Runs `program` of the image and waits for at most `limit`.
///
/// Everything that can touch the image is done in a thread of its own: when the NFS server is gone
/// even looking for the program blocks, and the caller must be able to go on.
pub(crate) fn run(root: ImageRoot, program: &str, arguments: &[&str], limit: Duration) -> Ended {
    let (sender, receiver) = mpsc::channel();
    let program = PathBuf::from(program);
    let arguments: Vec<String> = arguments.iter().map(|&a| a.to_owned()).collect();
    let work = move || {
        let status = root.command(&program).and_then(|mut command| command.args(arguments).status());
        // The caller may have given up.
        let _ = sender.send(status);
    };
    if let Err(error) = thread::Builder::new().stack_size(128 * 1024).spawn(work) {
        return Ended::Failed(error);
    }
    match receiver.recv_timeout(limit) {
        Ok(Ok(status)) => Ended::Returned(status),
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => Ended::Absent,
        Ok(Err(error)) => Ended::Failed(error),
        Err(_) => Ended::StillRunning,
    }
}
