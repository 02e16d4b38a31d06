//! QEMU machines: PCs and boards with the firmware a real one would have, on a lab's bridge.

mod accelerator;
mod board;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

pub use accelerator::kvm_works;
pub use board::{Board, Firmware, Nic, Width};

use crate::lab::Lab;
use crate::process::{Background, Follow};

/// How to build a [`Machine`].
#[derive(Clone, Debug)]
pub struct Spec {
    /// Names the console log and the control socket.
    pub name: String,
    /// The address of its network interface.
    pub mac: String,
    /// What it is, and what starts it.
    pub board: Board,
    /// Its network interface, if it is a PC.
    pub nic: Nic,
    /// RAM in MiB.
    pub memory: u32,
}

impl Spec {
    /// A BIOS machine with a virtio interface and 1 GiB.
    pub fn new(name: &str, mac: &str) -> Self {
        let (board, nic) = (Board::Pc(Firmware::Bios), Nic::Virtio);
        Self { name: name.to_owned(), mac: mac.to_owned(), board, nic, memory: 1024 }
    }

    /// The same with another board.
    pub fn on(self, board: Board) -> Self {
        Self { board, ..self }
    }
}

/// A machine that has been switched on. Dropping it pulls the plug.
#[derive(Debug)]
pub struct Machine {
    process: Background,
    console: Follow,
    console_log: PathBuf,
    control: PathBuf,
    /// When the machine was switched on.
    pub switched_on: Instant,
}

impl Machine {
    /// Switches a machine on. Its hardware clock says 2001, so that a clock that is right was set by somebody.
    ///
    /// # Errors
    /// When QEMU or what it needs is missing.
    pub fn switch_on(lab: &Lab, spec: &Spec) -> Result<Self> {
        let console_log = lab.logs().join(format!("{}.console", spec.name));
        // In /run, which is the lab's own: the path of a Unix socket may have 107 bytes only.
        let control = PathBuf::from(format!("/run/{}.qmp", spec.name));
        let mut command = board::qemu(lab, spec)?;
        command.args(["-nodefaults", "-display", "none", "-no-user-config", "-name", &spec.name]);
        command.args(["-m", &spec.memory.to_string(), "-rtc", "base=2001-09-09T01:46:40"]);
        command.arg("-chardev").arg(format!("file,id=console,path={}", console_log.display()));
        command.arg("-qmp").arg(format!("unix:{},server=on,wait=off", control.display()));
        let process = Background::start(&spec.name, &mut command, &lab.logs().join(format!("{}.qemu", spec.name)))?;
        let console = Follow::new(&console_log);
        Ok(Self { process, console, console_log, control, switched_on: Instant::now() })
    }

    /// Waits until the console shows `text`, after what the last wait has found.
    ///
    /// # Errors
    /// When `limit` passes first or the machine is gone; the error holds the end of the console.
    pub fn wait_for(&mut self, text: &str, limit: Duration) -> Result<()> {
        let Self { process, console, .. } = self;
        console
            .wait_for(text, limit, || match process.ended()? {
                Some(status) => bail!("the machine is gone ({status})"),
                None => Ok(()),
            })
            .with_context(|| format!("the console ends with:\n{}", self.console_tail(40)))
    }

    /// From now on [`Machine::wait_for`] looks only at what the console will show.
    pub fn skip_console(&mut self) {
        self.console.skip();
    }

    /// The file that holds the console.
    pub fn console_log(&self) -> &Path {
        &self.console_log
    }

    /// The last lines of the console.
    pub fn console_tail(&self, lines: usize) -> String {
        crate::process::last_lines(&Follow::new(&self.console_log).new_text(), lines)
    }

    /// Presses the reset button.
    ///
    /// # Errors
    /// When the machine does not answer.
    pub fn reset(&mut self) -> Result<()> {
        self.control(r#"{"execute":"system_reset"}"#)
    }

    /// Pulls or plugs the network cable.
    ///
    /// # Errors
    /// When the machine does not answer.
    pub fn plug_cable(&mut self, plugged: bool) -> Result<()> {
        self.control(&format!(r#"{{"execute":"set_link","arguments":{{"name":"net","up":{plugged}}}}}"#))
    }

    /// Sends one command in QEMU's control language (QMP) and waits for its answer.
    fn control(&mut self, command: &str) -> Result<()> {
        let mut stream = UnixStream::connect(&self.control).context("the machine's control socket is gone")?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut answers = BufReader::new(stream.try_clone()?).lines();
        let mut next = || answers.next().context("the machine's control socket closed")?.context("no answer from QEMU");
        next()?;
        for line in [r#"{"execute":"qmp_capabilities"}"#, command] {
            writeln!(stream, "{line}")?;
            loop {
                let answer = next()?;
                if answer.contains("\"error\"") {
                    bail!("QEMU refused {line}: {answer}");
                }
                if answer.contains("\"return\"") {
                    break;
                }
            }
        }
        Ok(())
    }
}
