//! `walt-init`: from the root that the kernel mounted to the image's own init.
//!
//! [`STEPS`] is the whole of it, in order.

mod capabilities;
mod environment;
mod layer;
mod log;
mod netconsole;
mod persist;
mod ram;
mod readahead;
mod services;
mod union;

use std::convert::Infallible;
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use rustix::fd::OwnedFd;

use crate::clock_sync;
use crate::console::{self, Level, say};
use crate::failure::{Doing as _, Failure};
use crate::kernel_modules;
use crate::power;
use crate::settings::Settings;

use self::log::BootLog;
use self::ram::Ram;

/// One step of the boot. What it returns is the detail that is logged.
struct Step {
    name: &'static str,
    run: fn(&mut Boot) -> Result<String, Failure>,
    /// Whether the boot ends here if the step fails.
    fatal: bool,
}

/// The boot, in order. A node without clock or readahead is still a node; one without watchdog
/// would hang for ever when its server goes, so it had better come again at once.
const STEPS: [Step; 16] = [
    Step { name: "mount-kernel-filesystems", run: |_| environment::mount_kernel_filesystems(), fatal: true },
    Step { name: "read-settings", run: read_settings, fatal: true },
    Step { name: "copy-to-ram", run: copy_to_ram, fatal: true },
    Step { name: "load-overlay", run: |_| load_overlay(), fatal: true },
    Step { name: "preinit", run: preinit, fatal: false },
    Step { name: "readahead", run: |boot| readahead::raise(boot.settings()?), fatal: false },
    Step { name: "watchdog", run: |boot| services::start_watchdog(boot.ram()?, boot.settings()?), fatal: true },
    Step { name: "layer", run: mount_layer, fatal: true },
    Step { name: "net-service", run: start_net_service, fatal: true },
    Step {
        name: "notify-bootup",
        run: |boot| services::start_notify_bootup(boot.ram()?, boot.settings()?),
        fatal: true,
    },
    Step { name: "clock-sync", run: |boot| clock_sync::synchronise(boot.settings()?.server), fatal: false },
    Step { name: "union", run: |boot| union::mount_and_enter(boot.settings()?), fatal: true },
    Step { name: "capabilities", run: |_| capabilities::restore(), fatal: false },
    Step { name: "netconsole", run: |boot| netconsole::start(boot.settings()?), fatal: false },
    Step { name: "persist", run: |boot| persist::mount(boot.settings()?), fatal: false },
    Step { name: "find-init", run: |_| find_init(), fatal: true },
];

/// What the steps leave for the later ones.
#[derive(Default)]
struct Boot {
    settings: Option<Settings>,
    ram: Option<Ram>,
    /// The directory of what will change.
    changes: Option<OwnedFd>,
    log: BootLog,
}

/// The init of the image.
const INIT: &str = "/sbin/init";

/// Time to press a key before a boot that failed begins again.
const TIME_TO_READ: Duration = Duration::from_secs(10);

pub(crate) fn run(arguments: Vec<OsString>) -> ExitCode {
    if std::process::id() != 1 {
        eprintln!("walt-init is run by the kernel (init=/bin/walt-init), as process 1");
        return ExitCode::from(2);
    }
    // Process 1 must not end: the kernel would panic without a word of ours.
    std::panic::set_hook(Box::new(|panic| give_up("walt-init", &Failure::new(format!("bug: {panic}")))));
    let mut boot = Boot::default();
    for step in &STEPS {
        let result = (step.run)(&mut boot);
        boot.log.step(step.name, &result);
        if let (Err(failure), true) = (result, step.fatal) {
            boot.log.close();
            give_up(step.name, &failure);
        }
    }
    boot.log.step("exec-init", &Ok(INIT.to_owned()));
    boot.log.close();
    let Err(failure) = exec_init(arguments);
    give_up("exec-init", &failure)
}

impl Boot {
    fn settings(&self) -> Result<&Settings, Failure> {
        self.settings.as_ref().ok_or_else(|| Failure::new("the settings are not known"))
    }

    fn ram(&self) -> Result<&Ram, Failure> {
        self.ram.as_ref().ok_or_else(|| Failure::new("the copy in RAM is not made"))
    }
}

fn read_settings(boot: &mut Boot) -> Result<String, Failure> {
    let settings = Settings::read()?;
    // From here on the server hears of each step, the past ones included.
    boot.log.connect(settings.server);
    let detail = format!("server {}, watchdog grace {} s", settings.server, settings.grace.as_secs());
    boot.settings = Some(settings);
    Ok(detail)
}

fn copy_to_ram(boot: &mut Boot) -> Result<String, Failure> {
    let ram = Ram::create()?;
    let detail = format!("{} bytes at {}", ram.size(), ram.directory().display());
    boot.ram = Some(ram);
    Ok(detail)
}

fn load_overlay() -> Result<String, Failure> {
    let known =
        || std::fs::read_to_string("/proc/filesystems").is_ok_and(|text| text.lines().any(|l| l == "nodev\toverlay"));
    if known() {
        return Ok("already there".into());
    }
    let how = kernel_modules::load("overlay")?;
    if known() { Ok(how) } else { Err(Failure::new(format!("{how}, but the kernel knows no overlay file system"))) }
}

fn preinit(boot: &mut Boot) -> Result<String, Failure> {
    const PREINIT: &str = "/bin/walt-preinit";
    if !Path::new(PREINIT).exists() {
        return Ok("none in this image".into());
    }
    let variables = boot.settings()?.environment.clone();
    let status = Command::new(PREINIT).envs(variables).status().doing(|| format!("run {PREINIT}"))?;
    if status.success() { Ok(format!("{PREINIT} ran")) } else { Err(Failure::new(format!("{PREINIT}: {status}"))) }
}

fn mount_layer(boot: &mut Boot) -> Result<String, Failure> {
    boot.changes = Some(layer::mount_layer()?);
    Ok(layer::LAYER.to_owned())
}

fn start_net_service(boot: &mut Boot) -> Result<String, Failure> {
    let changes = boot.changes.take();
    services::start_net_service(boot.ram()?, boot.settings()?, changes)
}

/// Checked as a step of its own, so that the reason reaches the server: after `exec` it is too late.
fn find_init() -> Result<String, Failure> {
    std::fs::metadata(INIT).doing(|| format!("find {INIT} in the image"))?;
    Ok(INIT.to_owned())
}

fn exec_init(arguments: Vec<OsString>) -> Result<Infallible, Failure> {
    let error = Command::new(INIT).args(arguments).exec();
    Err(error).doing(|| format!("execute {INIT}"))
}

/// The end of a boot that failed: says why, gives the person at the console a shell if they want one,
/// and reboots.
fn give_up(step: &str, failure: &Failure) -> ! {
    say(Level::Error, "walt-init", &format!("BOOT FAILED in step {step}: {failure}"));
    let shell = ["/bin/sh", "/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
    let offer = if shell.is_some() { ", press a key for a shell" } else { "" };
    say(Level::Error, "walt-init", &format!("rebooting in {} s{offer}", TIME_TO_READ.as_secs()));
    let pressed = console::key_pressed(TIME_TO_READ);
    if let Some(shell) = shell.filter(|_| pressed) {
        let arguments: &[&str] = if shell.ends_with("busybox") { &["sh"] } else { &[] };
        if let Err(error) = Command::new(shell).args(arguments).status() {
            say(Level::Error, "walt-init", &format!("{shell}: {error}"));
        }
    }
    loop {
        power::reboot_now(None);
        std::thread::sleep(Duration::from_secs(60));
    }
}
