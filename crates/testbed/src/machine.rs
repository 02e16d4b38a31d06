//! QEMU machines: PCs with the firmware a real one would have, on a lab's bridge.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::lab::Lab;
use crate::process::{Background, Follow};

/// What starts the machine, before anything of ours runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// SeaBIOS and the network boot ROM that QEMU's package ships for the interface (iPXE).
    Bios,
    /// OVMF, which does PXE by itself: the interface has no ROM.
    UefiPxe,
    /// OVMF, told to boot over HTTP.
    UefiHttp,
}

/// The model of the network interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nic {
    /// virtio-net.
    Virtio,
    /// Intel 82540EM, as in many old PCs.
    E1000,
}

/// How to build a [`Machine`].
#[derive(Clone, Debug)]
pub struct Spec {
    /// Names the console log and the control socket.
    pub name: String,
    /// The address of its network interface.
    pub mac: String,
    /// What starts it.
    pub firmware: Firmware,
    /// Its network interface.
    pub nic: Nic,
    /// RAM in MiB.
    pub memory: u32,
}

impl Spec {
    /// A BIOS machine with a virtio interface and 1 GiB.
    pub fn new(name: &str, mac: &str) -> Self {
        let (firmware, nic) = (Firmware::Bios, Nic::Virtio);
        Self { name: name.to_owned(), mac: mac.to_owned(), firmware, nic, memory: 1024 }
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
        let tap = lab.new_tap()?;
        let console_log = lab.logs().join(format!("{}.console", spec.name));
        // In /run, which is the lab's own: the path of a Unix socket may have 107 bytes only.
        let control = PathBuf::from(format!("/run/{}.qmp", spec.name));
        let mut command = Command::new("qemu-system-x86_64");
        command.args(["-nodefaults", "-display", "none", "-no-user-config", "-name", &spec.name]);
        command.args(["-m", &spec.memory.to_string(), "-smp", "1", "-rtc", "base=2001-09-09T01:46:40"]);
        command.args(accelerator());
        command.arg("-chardev").arg(format!("file,id=console,path={}", console_log.display()));
        command.args(["-serial", "chardev:console", "-qmp"]);
        command.arg(format!("unix:{},server=on,wait=off", control.display()));
        command.args(["-object", "rng-random,id=rng,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng"]);
        command.arg("-netdev").arg(format!("tap,id=net,ifname={tap},script=no,downscript=no"));
        let nic = match spec.nic {
            Nic::Virtio => "virtio-net-pci",
            Nic::E1000 => "e1000",
        };
        let device = format!("{nic},netdev=net,mac={}", spec.mac);
        if spec.firmware == Firmware::Bios {
            // graphics=off makes SeaBIOS and the ROM show their screen on the serial port.
            // As most PCs do, try again when nothing could be booted; SeaBIOS' default is to stop for ever.
            let order = "order=n,reboot-timeout=5000";
            command.args(["-machine", "pc,graphics=off", "-boot", order, "-device", &device]);
        } else {
            let settings = lab.state().join(format!("{}.efivars", spec.name));
            fs::copy("/usr/share/OVMF/OVMF_VARS.fd", &settings).context("OVMF is missing (package ovmf)")?;
            command.args(["-machine", "q35", "-drive"]);
            command.arg("if=pflash,format=raw,unit=0,readonly=on,file=/usr/share/OVMF/OVMF_CODE.fd");
            command.arg("-drive").arg(format!("if=pflash,format=raw,unit=1,file={}", settings.display()));
            command.args(["-device", &format!("{device},romfile=,bootindex=0")]);
            if spec.firmware == Firmware::UefiHttp {
                // OVMF tries PXE first unless it is told that there is none (OvmfPkg's PxeBcPcdProducerLib).
                for protocol in ["IPv4PXESupport", "IPv6PXESupport"] {
                    command.arg("-fw_cfg").arg(format!("name=opt/org.tianocore/{protocol},string=n"));
                }
            }
        }
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

/// QEMU's options for the processor: KVM where it really works, plain emulation elsewhere.
fn accelerator() -> &'static [&'static str] {
    static KVM: OnceLock<bool> = OnceLock::new();
    if *KVM.get_or_init(kvm_works) {
        &["-accel", "kvm", "-cpu", "host"]
    } else {
        // Without AMD's virtualisation, or Linux loads KVM in the machine, which takes seconds under emulation. QEMU
        // then leaves out the CPUID leaf with the width of addresses, and Linux would guess that wrong with 5 levels
        // of page tables: its file system code could not read its own memory. Without the promise of fast `rep stosb`
        // (erms, fsrm), which emulation breaks byte by byte: Linux spent most of a boot clearing pages with it.
        &["-accel", "tcg,thread=multi,tb-size=256", "-cpu", "max,-svm,-la57,-erms,-fsrm,xlevel=0x80000008"]
    }
}

/// Whether a machine runs under KVM. That `/dev/kvm` is there does not say so: nested, it may open and then hang.
///
/// The probe is a boot sector that writes one letter to the serial port and halts.
fn kvm_works() -> bool {
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
