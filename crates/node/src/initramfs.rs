//! `/init` of our initramfs: network, NFS root, and on to the real init.
//!
//! It does what the kernel's arguments say (`ip=`, `BOOTIF=`, `nfsroot=`, `init=`) and nothing else,
//! which makes it fast: no shell, no device manager, no search.

mod devices;
mod network;
mod root;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, mount};

use crate::console::{self, Level, say};
use crate::failure::{Doing as _, Failure};
use crate::kernel_arguments::KernelArguments;
use crate::kernel_modules;
use crate::power;

use self::devices::Devices;

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
    let mut modules = load_modules()?;
    let drivers = start.elapsed();
    let interface = network::configure(&kernel)?;
    let network = start.elapsed();
    modules.finish();
    let loaded = start.elapsed();
    root::mount(&kernel)?;
    let times = format!(
        "drivers {} ms, {interface} {} ms, other modules {} ms, NFS root {} ms",
        drivers.as_millis(),
        (network - drivers).as_millis(),
        (loaded - network).as_millis(),
        (start.elapsed() - loaded).as_millis()
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

/// Modules that every machine gets, on their way into the kernel.
struct Loading(Option<JoinHandle<()>>);

impl Loading {
    /// Waits until they are all there.
    fn finish(&mut self) {
        if let Some(thread) = self.0.take() {
            // A panic there has ended the boot already.
            let _ = thread.join();
        }
    }
}

/// Loads the drivers of this machine's devices, and in the background, while they find their
/// hardware, what every machine gets. Each of the two in the list's order.
///
/// A module that can't be loaded is said and passed over: it may be for a machine of another kind. If
/// it is needed, the step that needs it fails.
fn load_modules() -> Result<Loading, Failure> {
    let list = match fs::read_to_string(MODULE_LIST) {
        // Everything may be built into the kernel.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Loading(None)),
        list => list.doing(|| format!("read {MODULE_LIST}"))?,
    };
    let lines = list.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).filter(|line| !line.is_empty());
    let (everywhere, drivers): (Vec<_>, Vec<_>) = lines.partition(|line| line.len() == 1);
    let everywhere: Vec<PathBuf> = everywhere.into_iter().flatten().map(PathBuf::from).collect();
    let work = move || everywhere.iter().for_each(|file| report(kernel_modules::insert(file)));
    let mut loading = Loading(Some(thread::Builder::new().spawn(work).doing(|| "start a thread".into())?));
    let mut devices = Devices::find();
    for line in drivers {
        if !devices.match_any(&line[1..]) {
            continue;
        }
        let file = Path::new(line[0]);
        if kernel_modules::insert(file).is_err() {
            // It may need one of the others.
            loading.finish();
            report(kernel_modules::insert(file));
        }
        // A module that drives a bus brings new devices.
        devices = Devices::find();
    }
    Ok(loading)
}

fn report(result: Result<(), Failure>) {
    if let Err(failure) = result {
        say(Level::Error, NAME, &failure.to_string());
    }
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
