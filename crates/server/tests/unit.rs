//! The unit of systemd, as systemd itself reads it. `./x e2e install` starts the daemon by it.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The most exposure that is accepted, in tenths (systemd-analyze(1), `security`): 0 is none, 100 all.
const MOST_EXPOSURE: u32 = 57;

/// Directives that would hide mounts of images from the rest of the machine: systemd.exec(5) names them at `MountFlags=`
/// and where each is described.
const HIDE_MOUNTS: &[&str] = &[
    "ProtectSystem",
    "ProtectHome",
    "ProtectKernelTunables",
    "ProtectKernelModules",
    "ProtectKernelLogs",
    "ProtectControlGroups",
    "ProtectProc",
    "ProcSubset",
    "PrivateTmp",
    "PrivateDevices",
    "PrivateMounts",
    "PrivateIPC",
    "PrivateUsers",
    "PrivateNetwork",
    "MountAPIVFS",
    "ReadWritePaths",
    "ReadOnlyPaths",
    "InaccessiblePaths",
    "ExecPaths",
    "NoExecPaths",
    "BindPaths",
    "BindReadOnlyPaths",
    "TemporaryFileSystem",
    "RootDirectory",
    "RootImage",
    "DynamicUser",
];

fn unit() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/walt-server.service")
}

/// The unit with programs that are there: that it names the right ones is seen where the package is installed.
fn as_installed(directory: &Path) -> PathBuf {
    let text = std::fs::read_to_string(unit()).unwrap();
    let installed = text.replace("/usr/sbin/walt-server-daemon", env!("CARGO_BIN_EXE_walt-server-daemon"));
    let without_pages = installed.lines().filter(|line| !line.starts_with("Documentation=")).collect::<Vec<_>>();
    let path = directory.join("walt-server.service");
    std::fs::write(&path, without_pages.join("\n") + "\n").unwrap();
    path
}

fn systemd_analyze(arguments: &[&str], path: &Path) -> String {
    let output = Command::new("systemd-analyze").args(arguments).arg(path).output();
    let output = output.expect("systemd-analyze (package systemd) is needed");
    let text = [&output.stdout[..], &output.stderr].concat();
    let text = String::from_utf8(text).unwrap();
    assert!(output.status.success(), "{text}");
    text
}

#[test]
fn systemd_finds_nothing_wrong_with_it() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(systemd_analyze(&["--man=no", "verify"], &as_installed(directory.path())), "");
}

#[test]
fn its_exposure_is_bounded() {
    let text = systemd_analyze(
        &["--no-pager", "--offline=true", "security", &format!("--threshold={MOST_EXPOSURE}")],
        &unit(),
    );
    println!("{}", text.lines().last().unwrap_or_default());
    assert!(text.contains("Overall exposure level"), "{text}");
}

#[test]
fn nothing_in_it_hides_mounts() {
    let text = std::fs::read_to_string(unit()).unwrap();
    for line in text.lines() {
        let key = line.split('=').next().unwrap();
        assert!(!HIDE_MOUNTS.contains(&key), "{line}: images would be mounted for the daemon alone");
    }
    assert!(text.contains("\nKillMode=process\n"), "a restart would end the machines of virtual nodes");
    assert!(text.contains("\nType=notify\n") && text.contains("\nWatchdogSec="));
}

/// The configuration that the package installs names no interface: the daemon says who asks for one, and systemd does not
/// try for ever.
#[test]
fn the_shipped_configuration_is_right_but_for_the_interface() {
    let configuration = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/server.toml");
    let daemon = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_walt-server-daemon"));
        command.env_clear().args(["--check-config", "--config"]).arg(&configuration).args(arguments);
        let output = command.output().unwrap();
        let text = [&output.stdout[..], &output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    };
    let (code, text) = daemon(&["--interface", "lo"]);
    // 127.0.0.1/8 is a network as good as any here.
    assert!(code == Some(0) && text.contains("the configuration is valid"), "{text}");
    let (code, text) = daemon(&[]);
    assert!(code == Some(78) && text.contains("walt-server-setup"), "{code:?} {text}");
    let unit = std::fs::read_to_string(unit()).unwrap();
    assert!(unit.contains("\nRestartPreventExitStatus=78\n"));
}
