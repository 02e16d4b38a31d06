//! Keeps one machine running.

use std::collections::BTreeSet;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, fchown, lchown};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt, FdMapping};
use net::MacAddr;
use rustix::process::Pid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::sync::{mpsc, oneshot, watch};

use super::network::{self, Port};
use super::qemu::{self, Places};
use super::qmp::Control;
use super::{Accelerator, Request, Shared, Spec, Status, accelerator};
use crate::registry::{Issuer, LogRow};
use crate::site::now_ms;

/// Stream that holds what a console shows.
const STREAM: &str = "console";
/// Time that QEMU has to get ready.
const START: Duration = Duration::from_secs(60);
/// Time that QEMU has to end.
const END: Duration = Duration::from_secs(10);
/// Pause before a machine is started again that ended at once, or did not start.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause after failures.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A machine that ran for so long did start.
const RAN_WELL: Duration = Duration::from_secs(10);

/// Why a machine runs no more.
enum Ended {
    /// By itself: its guest has rebooted, or it broke.
    ByItself,
    /// Somebody has pressed the reset button, and wants to hear when it is on again.
    Reset(oneshot::Sender<()>),
    /// It is to be no more.
    Removed,
    /// The daemon ends; the machine goes on.
    Left,
}

/// Keeps a machine running until it is removed.
pub(super) async fn keep(
    mac: MacAddr,
    wanted: watch::Receiver<Spec>,
    mut requests: mpsc::Receiver<Request>,
    status: Arc<Status>,
    shared: Arc<Shared>,
) {
    let places = Places::of(&shared.host, mac);
    let mut waiting: Option<oneshot::Sender<()>> = None;
    let mut pause = FIRST_PAUSE;
    let mut told = None;
    // Networks among virtual nodes that it is on, or was on when it ran.
    let mut joined = BTreeSet::new();
    loop {
        let spec = wanted.borrow().clone();
        let ports = network::ports(&shared.host, mac, &spec);
        let begun = Instant::now();
        let machine = match Control::connect(&places.control).await {
            // It outlived the daemon that has started it.
            Ok(control) => Ok(control),
            // It may be stopped, or swapping, or somebody else speaks to it: it is not taken for one that is gone.
            Err(cause) if process(&places).is_some() => {
                Err(format!("QEMU runs, but does not answer ({cause}); `walt node reboot --hard` ends it"))
            }
            Err(_) => start(mac, &spec, &places, &ports, &shared).await,
        };
        let started = machine.is_ok();
        // Its settings may have changed since it was started: what it is on by now is what it leaves behind.
        let now =
            network::private(&ports).union(&network::joined(mac, Path::new(network::INTERFACES))).cloned().collect();
        shared.leave(joined.difference(&now)).await;
        joined = now;
        let ended = match machine {
            Ok(control) => {
                status.set_trouble(None);
                if told.take().is_some() {
                    shared.tell(format!("the machine of {} runs again", spec.name));
                }
                if let Some(done) = waiting.take() {
                    // Whoever asked may be gone.
                    let _ = done.send(());
                }
                run(mac, control, &places, &mut requests, &status, &shared).await
            }
            Err(trouble) => {
                if told.as_ref() != Some(&trouble) {
                    tracing::error!(node = spec.name, trouble, "a machine does not start");
                    shared.tell(format!("the machine of {} does not start: {trouble}", spec.name));
                    told = Some(trouble.clone());
                }
                status.set_trouble(Some(trouble));
                // Whoever waits hears that it has failed.
                waiting = None;
                Ended::ByItself
            }
        };
        match ended {
            Ended::Removed => {
                shared.leave(&joined).await;
                return remove(&places).await;
            }
            Ended::Left => return,
            Ended::Reset(done) => waiting = Some(done),
            Ended::ByItself if begun.elapsed() >= RAN_WELL => {}
            Ended::ByItself => {
                tokio::select! {
                    () = tokio::time::sleep(if started { FIRST_PAUSE } else { pause }) => {}
                    request = requests.recv() => match request {
                        Some(Request::Reset(done)) => {
                            kill(&places).await;
                            waiting = Some(done);
                        }
                        Some(Request::Remove) => {
                            kill(&places).await;
                            shared.leave(&joined).await;
                            return remove(&places).await;
                        }
                        None => return,
                    }
                }
            }
        }
        pause = if started { FIRST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
    }
}

/// Starts QEMU.
async fn start(mac: MacAddr, spec: &Spec, places: &Places, ports: &[Port], shared: &Shared) -> Result<Control, String> {
    let host = &shared.host;
    let user = user_of(&host.user)?;
    directories(places, &host.runtime_dir, user).map_err(|(path, cause)| format!("{path}: {cause}"))?;
    disks(spec, places, user).map_err(|(path, cause)| format!("disk {path}: {cause}"))?;
    let files = {
        let _turn = shared.network.lock().await;
        network::set_up(ports).await?
    };
    let kvm = match host.accelerator {
        Accelerator::Kvm => true,
        Accelerator::Tcg => false,
        Accelerator::Auto => {
            let works = || async {
                let works = accelerator::kvm_works(&host.state_dir.join("machines"), user).await;
                tracing::info!(works, "virtual nodes: hardware virtualisation (KVM) was tried");
                works
            };
            *shared.kvm.get_or_init(works).await
        }
    };
    let words = qemu::command(mac, spec, places, ports.len(), kvm);
    tracing::debug!(?words, "a machine is switched on");
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).current_dir("/").env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    let log = std::fs::File::create(places.log()).map_err(|cause| format!("{}: {cause}", places.log().display()))?;
    // It outlives the daemon: its own process group, so that a Ctrl-C at a terminal is none of its business.
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0);
    if let Some((user, group)) = user {
        command.uid(user).gid(group);
    }
    let mappings = files.into_iter().enumerate();
    let mappings = mappings.map(|(number, parent_fd)| FdMapping { parent_fd, child_fd: qemu::fd_of(number) }).collect();
    command.fd_mappings(mappings).map_err(|error| format!("can not hand its network interfaces to QEMU: {error}"))?;
    let mut child = command.spawn().map_err(|cause| format!("can not run {}: {cause}", super::QEMU))?;
    // When memory is short, a machine goes before the server and what else runs here; by inheritance it would be the last.
    if let Some(pid) = child.id()
        && let Err(error) = std::fs::write(format!("/proc/{pid}/oom_score_adj"), "500")
    {
        tracing::warn!(%error, "a machine is not marked as the first to go when memory is short");
    }
    let begun = Instant::now();
    loop {
        if let Ok(control) = Control::connect(&places.control).await {
            return Ok(control);
        }
        if let Ok(Some(status)) = child.try_wait() {
            let said = std::fs::read_to_string(places.log()).unwrap_or_default();
            let said = said.lines().find(|line| !line.contains("warning:")).unwrap_or("nothing");
            return Err(format!("QEMU ended with {status}, and said: {said}"));
        }
        if begun.elapsed() > START {
            // What it may still become would be in the way of the next one.
            let _ = child.kill().await;
            return Err(format!("QEMU was not ready after {} s", START.as_secs()));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Stands by while the machine runs.
async fn run(
    mac: MacAddr,
    mut control: Control,
    places: &Places,
    requests: &mut mpsc::Receiver<Request>,
    status: &Status,
    shared: &Shared,
) -> Ended {
    let console = serve_console(mac, &places.console, status, shared);
    let mut console = std::pin::pin!(console);
    let request = tokio::select! {
        () = control.ended() => {
            exited(places).await;
            return Ended::ByItself;
        }
        request = requests.recv() => match request {
            Some(request) => request,
            None => return Ended::Left,
        },
        () = &mut console => {
            exited(places).await;
            return Ended::ByItself;
        }
    };
    let quit = async {
        if control.execute("quit").await.is_ok() {
            control.ended().await;
            exited(places).await;
        }
    };
    if tokio::time::timeout(END, quit).await.is_err() {
        tracing::warn!(%mac, "QEMU does not end by itself, and is killed");
        kill(places).await;
    }
    match request {
        Request::Reset(done) => Ended::Reset(done),
        Request::Remove => Ended::Removed,
    }
}

/// Passes on what the console shows and what is typed, until the machine closes it.
async fn serve_console(mac: MacAddr, path: &Path, status: &Status, shared: &Shared) {
    let stream = match UnixStream::connect(path).await {
        Ok(stream) => stream,
        Err(error) => {
            tracing::warn!(%mac, %error, "a machine's console can not be reached");
            return std::future::pending().await;
        }
    };
    status.console.forget_typed().await;
    let (mut output, mut input) = stream.into_split();
    let typing = async {
        loop {
            let bytes = status.console.typed().await;
            if input.write_all(&bytes).await.is_err() {
                return std::future::pending().await;
            }
        }
    };
    let showing = async {
        let mut piece = vec![0; 16 * 1024];
        while let Ok(read @ 1..) = output.read(&mut piece).await {
            for line in status.console.show(&piece[..read]) {
                let issuer = Issuer::Device(mac);
                shared.registry.log(LogRow { issuer, stream: STREAM.into(), at_us: now_ms() * 1000, line });
            }
        }
    };
    tokio::select! {
        () = typing => {}
        () = showing => {}
    }
}

/// User and group that QEMU runs as: those of the configuration, or `nobody`; `None` if this daemon is not root itself.
/// The group is `kvm` if there is one, since that is who may use `/dev/kvm`.
fn user_of(name: &str) -> Result<Option<(u32, u32)>, String> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let look = |name: &str| sys::user::ids(name).map_err(|cause| format!("can not look up the user {name}: {cause}"));
    let found = match look(name)? {
        Some(found) => Some(found),
        None => look("nobody")?,
    };
    let (user, group) = found.ok_or_else(|| format!("there is no user {name}, nor nobody: make one"))?;
    let kvm = sys::user::group_id("kvm").map_err(|cause| format!("can not look up the group kvm: {cause}"))?;
    Ok(Some((user, kvm.unwrap_or(group))))
}

type PathError = (String, std::io::Error);

/// QEMU makes its sockets in the one directory. The other one is root's, so that nobody who has broken out of a machine can put
/// links there for us to follow: a disk is another user's, its name is not.
fn directories(places: &Places, runtime_dir: &Path, user: Option<(u32, u32)>) -> Result<(), PathError> {
    for (directory, mode, owner) in [(runtime_dir, 0o700, user), (&places.disks, 0o711, user.map(|_| (0, 0)))] {
        let failed = |cause| (directory.display().to_string(), cause);
        std::fs::create_dir_all(directory).map_err(failed)?;
        if let Some((user, group)) = owner {
            lchown(directory, Some(user), Some(group)).map_err(failed)?;
        }
        std::fs::set_permissions(directory, PermissionsExt::from_mode(mode)).map_err(failed)?;
    }
    // What a machine before has left would be taken for one that runs.
    for path in [&places.control, &places.console, &places.pid] {
        let _ = std::fs::remove_file(path);
    }
    Ok(())
}

/// Makes disks that are missing, empty; grows those that are to be larger; one that is to be smaller begins anew.
fn disks(spec: &Spec, places: &Places, user: Option<(u32, u32)>) -> Result<(), PathError> {
    for (number, mib) in spec.disks.iter().enumerate() {
        let path = places.disk(number);
        let failed = |cause| (path.display().to_string(), cause);
        let size = mib << 20;
        let mut options = std::fs::File::options();
        let no_link = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
        options.write(true).create(true).truncate(false).custom_flags(no_link);
        let file = options.open(&path).map_err(failed)?;
        if file.metadata().map_err(failed)?.len() > size {
            file.set_len(0).map_err(failed)?;
        }
        // A hole: it takes no room before it is written.
        file.set_len(size).map_err(failed)?;
        file.set_permissions(PermissionsExt::from_mode(0o600)).map_err(failed)?;
        if let Some((user, group)) = user {
            fchown(&file, Some(user), Some(group)).map_err(failed)?;
        }
    }
    Ok(())
}

/// The number of a machine's process, as it wrote it down.
fn recorded(places: &Places) -> Option<Pid> {
    std::fs::read_to_string(&places.pid).ok()?.trim().parse().ok().and_then(Pid::from_raw)
}

/// The process of a machine, if the number in its file is still its own.
fn process(places: &Places) -> Option<Pid> {
    let pid = recorded(places)?;
    // One that has ended has no command line, even if nobody has waited for it.
    let command = std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).ok()?;
    let own = places.pid.as_os_str().as_encoded_bytes();
    command.split(|byte| *byte == 0).any(|word| word == own).then_some(pid)
}

/// Kills QEMU, if it runs, and waits for its end.
pub(super) async fn kill(places: &Places) {
    let Some(pid) = process(places) else { return };
    if let Err(error) = rustix::process::kill_process(pid, rustix::process::Signal::KILL) {
        tracing::error!(%error, pid = pid.as_raw_nonzero(), "can not kill QEMU");
    }
    exited(places).await;
}

/// Waits for the end of QEMU, which closes its sockets a moment before: until then it would be taken for one that
/// hangs, and its network interfaces are still there.
async fn exited(places: &Places) {
    let Some(pid) = recorded(places) else { return };
    let begun = Instant::now();
    while has_files(pid) && begun.elapsed() < END {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Whether a process may have files open: it has none as a zombie, proc(5), but still has them when it has no command line
/// any more.
fn has_files(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    let state = stat.ok().and_then(|stat| stat.rsplit_once(") ")?.1.chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// Removes all that a machine had.
pub(super) async fn remove(places: &Places) {
    for path in [&places.control, &places.console, &places.pid] {
        let _ = tokio::fs::remove_file(path).await;
    }
    if let Err(error) = tokio::fs::remove_dir_all(&places.disks).await
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::error!(%error, path = %places.disks.display(), "can not remove the disks of a machine");
    }
}
