//! How QEMU runs the processor of a PC: by the hardware where that works.

use std::fs;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use crate::process::Background;

/// QEMU's options for the processor: KVM where it really works, plain emulation elsewhere.
pub(super) fn of_pc() -> &'static [&'static str] {
    if kvm_works() {
        &["-accel", "kvm", "-cpu", "host"]
    } else {
        // Without AMD's virtualisation, or Linux loads KVM in the machine, which takes seconds under emulation. QEMU
        // then leaves out the CPUID leaf with the width of addresses, and Linux would guess that wrong with 5 levels
        // of page tables: its file system code could not read its own memory. Without the promise of fast `rep stosb`
        // (erms, fsrm), which emulation breaks byte by byte: Linux spent most of a boot clearing pages with it.
        &["-accel", "tcg,thread=multi,tb-size=256", "-cpu", "max,-svm,-la57,-erms,-fsrm,xlevel=0x80000008"]
    }
}

/// Whether a machine runs under KVM, by a trial at the first call.
pub fn kvm_works() -> bool {
    static KVM: OnceLock<bool> = OnceLock::new();
    *KVM.get_or_init(try_kvm)
}

/// Whether a machine runs under KVM. That `/dev/kvm` is there does not say so: nested, it may open and then hang.
///
/// The probe is a boot sector that writes one letter to the serial port and halts.
fn try_kvm() -> bool {
    if let Some(choice) = std::env::var_os("WALT_KVM") {
        return choice == "1";
    }
    if fs::File::options().read(true).write(true).open("/dev/kvm").is_err() {
        return false;
    }
    // mov dx,0x3f8; mov al,'K'; out dx,al; then 16 MiB of stores, which makes the machine fault memory in; 'V'; hlt
    let mut sector = vec![0xba, 0xf8, 0x03, 0xb0, b'K', 0xee, 0xb0, b'V', 0xee, 0xf4, 0xeb, 0xfd];
    sector.resize(510, 0);
    sector.extend([0x55, 0xaa]);
    let stem = std::env::temp_dir().join(format!("walt-kvm-{}", std::process::id()));
    let (disk, serial) = (stem.with_extension("disk"), stem.with_extension("serial"));
    let mut works = false;
    if fs::write(&disk, &sector).is_ok() {
        let mut command = Command::new("qemu-system-x86_64");
        command.args(["-nodefaults", "-display", "none", "-accel", "kvm", "-cpu", "host", "-m", "32", "-drive"]);
        command.arg(format!("file={},format=raw,if=ide", disk.display()));
        command.arg("-serial").arg(format!("file:{}", serial.display()));
        if let Ok(mut probe) = Background::start("kvm probe", &mut command, &stem.with_extension("log")) {
            let written = || fs::read(&serial).is_ok_and(|bytes| bytes.ends_with(b"KV"));
            works = probe.wait_until("written", Duration::from_secs(5), written).is_ok();
        }
    }
    for extension in ["disk", "serial", "log"] {
        let _ = fs::remove_file(stem.with_extension(extension));
    }
    works
}
