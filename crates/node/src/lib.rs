//! The agent on a node: `walt-init` and the other programs that a node runs.
//!
//! One static binary with many names, which needs nothing from the image that the node boots.
//! [`PROGRAMS`] is the table of the names; each program is a function from its arguments to an exit
//! code.

mod changes;
mod child;
mod clock_sync;
mod command;
mod console;
mod failure;
mod files;
mod init;
mod initramfs;
mod kernel_arguments;
mod kernel_modules;
mod logs;
mod mounts;
mod net_service;
mod notify_bootup;
mod options;
mod power;
mod settings;
mod switch;
mod timeout;
mod watchdog;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::process::ExitCode;

/// One name of the binary.
struct Program {
    name: &'static str,
    run: fn(Vec<OsString>) -> ExitCode,
}

/// Every name, with what it runs.
const PROGRAMS: [Program; 21] = [
    Program { name: "walt-init", run: init::run },
    Program { name: "walt-clock-sync", run: clock_sync::run },
    Program { name: "walt-log-echo", run: logs::echo },
    Program { name: "walt-log-cat", run: logs::cat },
    Program { name: "walt-log-tee", run: logs::tee },
    Program { name: "walt-log-monitor", run: logs::monitor },
    Program { name: "walt-timeout", run: timeout::run },
    // The names that images made for earlier servers use.
    Program { name: "walt-echo", run: logs::echo },
    Program { name: "walt-cat", run: logs::cat },
    Program { name: "walt-tee", run: logs::tee },
    // What walt-init starts; nobody else has a reason to.
    Program { name: "walt-watchdog", run: watchdog::run },
    Program { name: "walt-net-service", run: net_service::run },
    Program { name: "walt-notify-bootup", run: notify_bootup::run },
    // What `walt node` runs over ssh.
    Program { name: "walt-run", run: command::run },
    Program { name: "walt-send-files", run: files::send },
    Program { name: "walt-receive-files", run: files::receive },
    Program { name: "walt-changes", run: changes::run },
    // In an initramfs the kernel calls `/init`.
    Program { name: "init", run: initramfs::run },
    Program { name: "initramfs", run: initramfs::run },
    Program { name: "walt-version", run: version },
    Program { name: "walt-programs", run: programs },
];

/// Runs the program that `arguments[0]` names; called as anything else (`walt-node`), the one that
/// `arguments[1]` names.
pub fn run(mut arguments: Vec<OsString>) -> ExitCode {
    if let Some(program) = arguments.first().and_then(|name| program(name)) {
        return (program.run)(arguments.split_off(1));
    }
    if let Some(program) = arguments.get(1).and_then(|name| program(name)) {
        return (program.run)(arguments.split_off(2));
    }
    let names: Vec<_> = PROGRAMS.iter().map(|p| p.name).collect();
    eprintln!("usage: walt-node PROGRAM [ARGUMENT]...\nprograms: {}", names.join(", "));
    ExitCode::from(2)
}

/// The program called `name`: the last part of a path, without the `@` that keeps systemd from
/// killing a process at shutdown.
fn program(name: &OsStr) -> Option<&'static Program> {
    let name = name.as_bytes().rsplit(|&b| b == b'/').next()?;
    let name = name.strip_prefix(b"@").unwrap_or(name);
    PROGRAMS.iter().find(|program| program.name.as_bytes() == name)
}

fn version(_: Vec<OsString>) -> ExitCode {
    println!("{}", env!("CARGO_PKG_VERSION"));
    ExitCode::SUCCESS
}

fn programs(_: Vec<OsString>) -> ExitCode {
    PROGRAMS.iter().for_each(|program| println!("{}", program.name));
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_by_any_form_of_its_name() {
        for name in ["walt-init", "/bin/walt-init", "./walt-init"] {
            assert_eq!(program(OsStr::new(name)).map(|p| p.name), Some("walt-init"));
        }
        assert_eq!(program(OsStr::new("@walt-watchdog")).map(|p| p.name), Some("walt-watchdog"));
        assert_eq!(program(OsStr::new("/init")).map(|p| p.name), Some("init"));
        for name in ["walt-node", "", "/", "walt-init/", "xwalt-init"] {
            assert!(program(OsStr::new(name)).is_none(), "{name}");
        }
    }

    #[test]
    fn every_name_that_the_server_links_is_a_program() {
        for name in wire::node::PROGRAM_NAMES {
            assert!(program(OsStr::new(name)).is_some(), "{name}");
        }
    }
}
