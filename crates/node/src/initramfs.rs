//! `/init` of our initramfs: network, NFS root, and on to the real init.
//!
//! It does what the kernel's arguments say (`ip=`, `BOOTIF=`, `nfsroot=`, `init=`) and nothing else,
//! which makes it fast: no shell, no device manager, no search.

mod devices;
mod network;
mod root;

use std::ffi::OsString;
use std::fs;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, mount};

use crate::console::{self, Level, say};
use crate::failure::{Doing as _, Failure};
use crate::kernel_arguments::KernelArguments;
use crate::kernel_modules;
use crate::power;

const NAME: &str = "initramfs";

/// The modules to load, one a line, in order: the file, then patterns of devices. A module with
/// patterns is loaded only if the machine has such a device.
const MODULE_LIST: &str = "/etc/modules-load";

/// Time to read why it failed.
const TIME_TO_READ: Duration = Duration::from_secs(10);

pub(crate) fn run(arguments: Vec<OsString>) -> ExitCode {
    if std::process::id() != 1 {
        eprintln!("this is the init of an initramfs: it is run by the kernel, as process 1");
        return ExitCode::from(2);
    }
    // Process 1 must not end: the kernel would panic without a word of ours.
    std::panic::set_hook(Box::new(|panic| give_up(&Failure::new(format!("bug: {panic}")))));
    let Err(failure) = boot(&arguments);
    give_up(&failure)
}

fn boot(arguments: &[OsString]) -> Result<std::convert::Infallible, Failure> {
    let start = Instant::now();
    mount_kernel_filesystems()?;
    let text = fs::read_to_string("/proc/cmdline").doing(|| "read /proc/cmdline".into())?;
    let kernel = KernelArguments::parse(&text);
    load_modules()?;
    let modules = start.elapsed();
    let interface = network::configure(&kernel)?;
    let network = start.elapsed();
    root::mount(&kernel)?;
    let times = format!(
        "modules {} ms, {interface} {} ms, NFS root {} ms",
        modules.as_millis(),
        (network - modules).as_millis(),
        (start.elapsed() - network).as_millis()
    );
    say(Level::Info, NAME, &times);
    root::switch(&kernel, arguments)
}

/// The file systems that the rest needs; they move on into the root. Without `/run`, which is the
/// next init's to mount.
fn mount_kernel_filesystems() -> Result<(), Failure> {
    let safe = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let systems = [
        ("proc", "/proc", safe, c""),
        ("sysfs", "/sys", safe, c""),
        ("devtmpfs", "/dev", MountFlags::NOSUID, c"mode=0755"),
    ];
    for (kind, point, flags, options) in systems {
        fs::create_dir_all(point).doing(|| format!("make directory {point}"))?;
        mount(kind, point, kind, flags, options).doing(|| format!("mount {kind} on {point}"))?;
    }
    console::adopt();
    Ok(())
}

/// A module that can't be loaded is said and passed over: it may be for a machine of another kind. If
/// it is needed, the step that needs it fails.
fn load_modules() -> Result<(), Failure> {
    let list = match fs::read_to_string(MODULE_LIST) {
        // Everything may be built into the kernel.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        list => list.doing(|| format!("read {MODULE_LIST}"))?,
    };
    for line in list.lines() {
        let mut words = line.split_whitespace();
        let Some(file) = words.next() else { continue };
        // Looked at anew for each module: one that drives a bus brings new devices.
        let mut patterns = words.peekable();
        if patterns.peek().is_some() && !devices::any_matches(&patterns.collect::<Vec<_>>()) {
            continue;
        }
        if let Err(failure) = kernel_modules::insert(file.as_ref()) {
            say(Level::Error, NAME, &failure.to_string());
        }
    }
    Ok(())
}

fn give_up(failure: &Failure) -> ! {
    say(Level::Error, NAME, &format!("BOOT FAILED: {failure}"));
    say(Level::Error, NAME, &format!("rebooting in {} s", TIME_TO_READ.as_secs()));
    std::thread::sleep(TIME_TO_READ);
    loop {
        power::reboot_now(None);
        std::thread::sleep(Duration::from_secs(60));
    }
}
