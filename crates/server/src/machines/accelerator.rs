//! How QEMU runs a processor: by the hardware where that works.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::Command;

use super::QEMU;

/// How processors are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// By the hardware if a trial shows that it works.
    #[default]
    Auto,
    /// By the hardware.
    Kvm,
    /// By emulation.
    Tcg,
}

/// Time that the trial has: it takes a tenth of a second where KVM works.
const TRIAL: Duration = Duration::from_secs(5);

/// QEMU's options.
pub(super) fn options(kvm: bool) -> &'static str {
    if kvm {
        "-accel kvm -cpu host"
    } else {
        // Without AMD's virtualisation, or Linux loads KVM in the machine, which takes seconds under emulation. QEMU then
        // leaves out the CPUID leaf with the width of addresses, and Linux would guess that wrong with 5 levels of page
        // tables. Without the promise of fast `rep stosb` (erms, fsrm), which emulation breaks byte by byte.
        "-accel tcg,thread=multi,tb-size=256 -cpu max,-svm,-la57,-erms,-fsrm,xlevel=0x80000008"
    }
}

/// Whether a machine runs under KVM. That `/dev/kvm` is there does not say so: nested, it may open and then hang.
///
/// The trial is a boot sector that writes to the serial port and halts. `user` is whom QEMU runs as.
pub(super) async fn kvm_works(directory: &Path, user: Option<(u32, u32)>) -> bool {
    if !Path::new("/dev/kvm").exists() {
        return false;
    }
    // mov dx,0x3f8; mov al,'K'; out dx,al; mov al,'V'; out dx,al; hlt; jmp to the hlt
    let mut sector = vec![0xba, 0xf8, 0x03, 0xb0, b'K', 0xee, 0xb0, b'V', 0xee, 0xf4, 0xeb, 0xfd];
    sector.resize(510, 0);
    sector.extend([0x55, 0xaa]);
    // In a directory of root's, see `keep::directories`.
    let disk = directory.join("kvm-trial");
    let works = tokio::fs::write(&disk, &sector).await.is_ok() && run(&disk, user).await;
    let _ = tokio::fs::remove_file(&disk).await;
    works
}

async fn run(disk: &Path, user: Option<(u32, u32)>) -> bool {
    let mut command = Command::new(QEMU);
    command.args(["-nodefaults", "-no-user-config", "-display", "none", "-accel", "kvm", "-cpu", "host", "-m", "32"]);
    command.arg("-drive").arg(format!("file={},format=raw,if=ide,readonly=on", disk.display()));
    command.args(["-serial", "stdio"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    if let Some((user, group)) = user {
        command.uid(user).gid(group);
    }
    let Ok(mut trial) = command.spawn() else { return false };
    let Some(mut serial) = trial.stdout.take() else { return false };
    let shown = async {
        let mut shown = Vec::new();
        while !shown.ends_with(b"KV") {
            match serial.read_u8().await {
                Ok(byte) => shown.push(byte),
                Err(_) => return false,
            }
        }
        true
    };
    let works = tokio::time::timeout(TRIAL, shown).await.unwrap_or(false);
    // It is ours, and of another user: if it can not be killed it has ended.
    let _ = trial.kill().await;
    works
}
