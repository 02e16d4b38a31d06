//! QEMU's command line.

use std::ffi::OsString;
use std::path::Path;

use net::MacAddr;

use super::{QEMU, Spec, accelerator};

/// Where things of one machine are.
#[derive(Debug, Clone)]
pub(super) struct Places {
    /// Directory of its disks.
    pub(super) disks: std::path::PathBuf,
    /// Control socket (QMP).
    pub(super) control: std::path::PathBuf,
    /// Socket of the serial port.
    pub(super) console: std::path::PathBuf,
    /// Number of the process.
    pub(super) pid: std::path::PathBuf,
}

impl Places {
    pub(super) fn of(host: &super::Host, mac: MacAddr) -> Self {
        let socket = |what: &str| host.runtime_dir.join(format!("{}.{what}", mac.to_string().replace(':', "")));
        Self {
            disks: host.state_dir.join("machines").join(mac.to_string()),
            control: socket("qmp"),
            console: socket("console"),
            pid: socket("pid"),
        }
    }

    /// What QEMU has to say.
    pub(super) fn log(&self) -> std::path::PathBuf {
        self.disks.join("qemu.log")
    }

    pub(super) fn disk(&self, number: usize) -> std::path::PathBuf {
        self.disks.join(format!("disk{number}.raw"))
    }
}

/// Whose file with the number of a process this is, by its name: the address without its colons.
pub(super) fn mac_of_pid_file(name: &str) -> Option<MacAddr> {
    let digits = name.strip_suffix(".pid").filter(|digits| digits.len() == 12)?;
    let mut bytes = [0; 6];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(MacAddr(bytes))
}

/// Program and arguments. QEMU ends with the machine's first reboot.
pub(super) fn command(mac: MacAddr, spec: &Spec, places: &Places, ports: usize, kvm: bool) -> Vec<OsString> {
    let mut words: Vec<OsString> = vec![QEMU.into()];
    let mut add = |text: &str| words.extend(text.split(' ').map(OsString::from));
    add(&format!("-name {} -nodefaults -no-user-config -display none", spec.name));
    // A reboot is another start, with the settings of then; and a machine that is switched off is switched on again.
    add("-action reboot=shutdown,shutdown=poweroff,panic=shutdown -rtc base=utc");
    // graphics=off makes SeaBIOS and the network boot ROM show their screen on the serial port. As most PCs do, try again
    // when nothing could be booted; SeaBIOS' default is to stop for ever.
    add("-machine pc,graphics=off -boot order=n,reboot-timeout=5000");
    add(accelerator::options(kvm));
    add(&format!("-smp {} -m {}", spec.cores, spec.ram));
    add("-object rng-random,id=rng,filename=/dev/urandom -device virtio-rng-pci,rng=rng");
    // What the guest breaks out into may start no program and gain no privilege. (QEMU could not go into the background by
    // itself then.)
    add("-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
    add("-serial chardev:console");
    for number in 0..ports {
        add(&format!("-netdev tap,id=net{number},fd={}", fd_of(number)));
        // Only the platform's network has a server to boot from.
        let rom = if number == 0 { "" } else { ",romfile=" };
        add(&format!("-device virtio-net-pci,netdev=net{number},mac={}{rom}", mac_of(mac, number)));
    }
    let mut add_path = |option: &str, before: &str, path: &Path, after: &str| {
        // QEMU separates by commas, and takes two for one.
        let path = path.display().to_string().replace(',', ",,");
        words.extend([option.into(), format!("{before}{path}{after}").into()]);
    };
    add_path("-pidfile", "", &places.pid, "");
    add_path("-qmp", "unix:", &places.control, ",server=on,wait=off");
    add_path("-chardev", "socket,id=console,path=", &places.console, ",server=on,wait=off");
    for number in 0..spec.disks.len() {
        add_path("-drive", "if=virtio,format=raw,discard=unmap,file=", &places.disk(number), "");
    }
    words
}

/// Number under which QEMU has the file of an interface: above its standard input, output and error.
pub(super) fn fd_of(number: usize) -> i32 {
    3 + i32::try_from(number).unwrap_or(i32::MAX - 3)
}

/// Hardware address of an interface: that of the node, and for others one that is made from it.
pub(super) fn mac_of(mac: MacAddr, number: usize) -> MacAddr {
    let MacAddr(mut bytes) = mac;
    // The second byte tells them apart: 52:54 is that of QEMU's usual addresses.
    bytes[1] = bytes[1].wrapping_add(u8::try_from(number).unwrap_or(u8::MAX));
    MacAddr(bytes)
}
