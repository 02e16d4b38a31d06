//! `walt-init` as process 1 of namespaces of its own, from a root in a directory to the image's init
//! on the union. As root, like the node.
//!
//! What the namespaces cannot show (an NFS root, the clock, a real reboot) the whole boots of the
//! testbed do.

mod peer;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A root with busybox, the agent, and `script` as its init.
struct Root(PathBuf);

impl Root {
    fn new(name: &str, script: &str) -> Self {
        let root = std::env::temp_dir().join(format!("walt-init-{name}-{}", std::process::id()));
        for directory in ["bin", "sbin", "proc", "sys", "dev", "run", "etc", "bin/_walt_internal_"] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox-static is installed");
        for applet in ["sh", "cat", "echo", "grep", "ls", "readlink", "tr", "sleep", "touch", "stat", "pidof", "mount"]
        {
            symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        let root = Self(root);
        root.install_agent();
        root.write("bin/walt-env", "export walt_server_ip=127.0.0.1\nexport walt_image_id='an id'\n");
        root.program("sbin/init", script);
        root
    }

    /// The agent as it is on a node: static, for it runs where no library is.
    fn install_agent(&self) {
        let out = Path::new(env!("CARGO_BIN_EXE_walt-node")).ancestors().nth(2).unwrap();
        // The second for a machine whose toolchain lacks the first.
        let ways = [("x86_64-unknown-linux-musl", ""), ("x86_64-unknown-linux-gnu", "-C target-feature=+crt-static")];
        let built = ways.into_iter().find(|(target, flags)| {
            let mut cargo = Command::new(env!("CARGO"));
            cargo.args(["build", "--quiet", "--package", "walt-node", "--profile", "agent", "--target", target]);
            cargo.arg("--target-dir").arg(out).env("RUSTFLAGS", flags).status().unwrap().success()
        });
        let (target, _) = built.expect("the static agent can be built");
        fs::copy(out.join(target).join("agent/walt-node"), self.0.join("bin/walt-init")).unwrap();
    }

    fn write(&self, path: &str, text: &str) {
        fs::write(self.0.join(path), text).unwrap();
    }

    fn program(&self, path: &str, script: &str) {
        self.write(path, &format!("#!/bin/sh\n{script}\n"));
        fs::set_permissions(self.0.join(path), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Runs `walt-init` there as process 1; all that it and its successor print.
    fn boot(&self, arguments: &[&str]) -> Output {
        // The root must be a mount of its own to be pivoted away. Nothing is shared with the machine:
        // mounts, processes, network, host name.
        // A /dev of its own, without the machine's /dev/kmsg: what is said then goes to standard error.
        let script = "mount --bind \"$0\" \"$0\" && mount -t tmpfs tmpfs \"$0/dev\" &&
            mknod -m 666 \"$0/dev/null\" c 1 3 && cd \"$0\" && exec chroot . /bin/walt-init \"$@\"";
        Command::new("unshare")
            .args(["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--net", "--uts"])
            .args(["sh", "-c", script])
            .arg(&self.0)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

/// Shows what a process of the agent is run from: `name root cwd exe`.
const SHOW_SERVICES: &str = r#"for p in /proc/[0-9]*; do
  name=$(tr "\\0" " " < $p/cmdline)
  case $name in *walt-net-service*|walt-notify-bootup*)
    echo "service ${name%% *} $(readlink $p/root) $(readlink $p/cwd) $(readlink $p/exe)" ;;
  esac
done"#;

#[test]
fn the_images_init_runs_on_the_union() {
    let init = format!(
        "echo \"arguments $*\"; grep ' / ' /proc/mounts; touch /written && echo written
         ls -A / /run /bin/_walt_internal_; {SHOW_SERVICES}; echo \"pid $$\"; cat /preinit; grep -c . /proc/self/mountinfo"
    );
    let root = Root::new("union", &init);
    root.program("bin/walt-preinit", "echo \"preinit $walt_image_id\" > /preinit");
    let output = root.boot(&["single", "word two"]);
    let text = text(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    let lines: Vec<&str> = text.lines().collect();
    let has = |line: &str| assert!(lines.contains(&line), "no {line:?} in:\n{text}");
    has("arguments single word two");
    has("pid 1");
    has("preinit an id");
    has("written");
    let overlay = lines.iter().find(|line| line.contains(" / overlay rw,")).unwrap_or_else(|| panic!("{text}"));
    assert!(overlay.contains("lowerdir=/,upperdir=/run/walt-layer/upper"), "{overlay}");
    // Neither the old root nor the layers are to be seen, and what was written went to RAM.
    assert!(
        !text.contains(".walt-nfs-root\n") && !lines.contains(&"walt-layer") && !lines.contains(&"walt-root"),
        "{text}"
    );
    assert!(!root.0.join("written").exists());
    // Chrooted to RAM, where their program is.
    has("service @walt-net-service /run/walt /run/walt /run/walt/walt-node");
    has("service walt-notify-bootup /run/walt /run/walt /run/walt/walt-node");
    for step in ["copy-to-ram: ", "net-service: process ", "union: overlay of RAM over walt", "exec-init: /sbin/init"] {
        assert!(text.contains(&format!("walt-init: {step}")), "no {step:?} in:\n{text}");
    }
}

#[test]
fn a_boot_that_fails_says_where_and_reboots() {
    let root = Root::new("failure", "true");
    fs::remove_file(root.0.join("sbin/init")).unwrap();
    let output = root.boot(&[]);
    let text = text(&output);
    assert!(
        text.contains("walt-init: BOOT FAILED in step find-init: find /sbin/init in the image: No such file"),
        "{text}"
    );
    assert!(text.contains("walt-init: rebooting in 10 s, press a key for a shell"), "{text}");
    // reboot(2) in a namespace ends its process 1 by SIGHUP (pid_namespaces(7)).
    assert_eq!(output.status.signal(), Some(1), "{text}");
}

#[test]
fn file_capabilities_are_put_back() {
    let root = Root::new("capabilities", "ls -l /bin/pinger; cat /bin/pinger");
    root.program("bin/pinger", "content");
    root.write(
        "bin/_walt_internal_/capabilities",
        "0100000200200000000000000000000000000000 /bin/pinger\n00 /no/such\n",
    );
    let output = root.boot(&[]);
    let text = text(&output);
    assert!(text.contains("walt-init: capabilities FAILED: set the capabilities of /no/such"), "{text}");
    // The step is not fatal.
    assert!(text.contains("content") && output.status.success(), "{text}");
    assert_eq!(
        rustix::fs::getxattr(root.0.join("bin/pinger"), c"security.capability", &mut [0u8; 32][..]),
        Err(rustix::io::Errno::NODATA)
    );
}

/// What `walt-changes` tells of a root after `script` has run on it as init: a line an entry, as `tar -tv` lists them
/// (mode, size or device, path), and the tar itself.
fn changes(name: &str, prepare: impl Fn(&Root), script: &str) -> (Vec<String>, Vec<u8>) {
    let script = format!(
        "{script}\necho BEGIN; /bin/_walt_internal_/walt-node walt-changes 2>/said | base64; echo END; echo \"said $(cat /said)\""
    );
    let root = Root::new(name, &script);
    for applet in ["base64", "mv", "rm", "mkdir", "ln", "chmod", "dd", "mkfifo", "mknod", "setfattr"] {
        symlink("busybox", root.0.join("bin").join(applet)).unwrap();
    }
    fs::copy(root.0.join("bin/walt-init"), root.0.join("bin/_walt_internal_/walt-node")).unwrap();
    prepare(&root);
    let text = text(&root.boot(&[]));
    let between = text.split_once("BEGIN\n").and_then(|(_, rest)| rest.split_once("END\n"));
    let (encoded, said) = between.unwrap_or_else(|| panic!("{text}"));
    assert!(said.contains("said \n"), "{said}");
    let decoded = piped("base64", &["-d"], encoded.as_bytes());
    let listed = String::from_utf8(piped("tar", &["-tvf", "-", "--numeric-owner"], &decoded)).unwrap();
    let short = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        format!("{} {} {}", words[0], words[2], words[5..].join(" "))
    };
    (listed.lines().map(short).collect(), decoded)
}

fn piped(program: &str, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let file = std::env::temp_dir().join(format!("walt-piped-{program}-{}-{}", std::process::id(), input.len()));
    fs::write(&file, input).unwrap();
    let output = Command::new(program).args(arguments).stdin(fs::File::open(&file).unwrap()).output().unwrap();
    fs::remove_file(&file).unwrap();
    assert!(output.status.success(), "{program}: {}", text(&output));
    output.stdout
}

#[test]
fn what_changes_on_the_union_is_told_as_a_layer() {
    let prepare = |root: &Root| {
        for directory in ["lower/sub", "renamed/inner", "replaced", "gone", "tmp"] {
            fs::create_dir_all(root.0.join(directory)).unwrap();
        }
        for file in
            ["lower/kept", "lower/removed", "lower/mode", "renamed/inner/file", "replaced/old", "gone/x", "etc/hosts"]
        {
            root.write(file, "lower");
        }
    };
    let script = "echo new > /lower/new; ln /lower/new /lower/same; rm /lower/removed; chmod 600 /lower/mode
        mv /renamed /moved; rm -r /gone; rm -r /replaced; mkdir /replaced; echo x > /replaced/fresh
        ln -s /lower/new /link; mkfifo /fifo; mknod /device c 1 3; chmod 4755 /lower/new
        dd if=/dev/null of=/holes bs=1 seek=50000000 2>/dev/null; echo end >> /holes
        echo no > /tmp/no; echo no > /etc/hosts; echo no > /run/no; rm /bin/walt-env";
    let (lines, tar) = changes("changes", prepare, script);
    let has = |line: &str| assert!(lines.iter().any(|have| have == line), "no {line:?} in {lines:#?}");
    for line in [
        "-rwsr-xr-x 4 lower/new",
        "-rw-r--r-- 0 lower/.wh.removed",
        "-rw------- 5 lower/mode",
        "-rw-r--r-- 0 .wh.gone",
        "-rw-r--r-- 0 .wh.renamed",
        "drwxr-xr-x 0 moved",
        "-rw-r--r-- 0 moved/.wh..wh..opq",
        "-rw-r--r-- 5 moved/inner/file",
        "drwxr-xr-x 0 replaced",
        "-rw-r--r-- 0 replaced/.wh..wh..opq",
        "-rw-r--r-- 2 replaced/fresh",
        "lrwxrwxrwx 0 link -> /lower/new",
        "prw-r--r-- 0 fifo",
        "crw-r--r-- 1,3 device",
        "-rw-r--r-- 50000004 holes",
    ] {
        has(line);
    }
    assert!(lines.iter().any(|line| line.ends_with("lower/same link to lower/new")), "{lines:#?}");
    for word in ["kept", "lower/sub", "tmp", "hosts", "run", "walt-env", "old"] {
        assert!(!lines.iter().any(|line| line.contains(word)), "{word} in {lines:#?}");
    }
    assert!(tar.len() < 100_000, "{} bytes", tar.len());
    // The content of an inode whose data are in the image.
    let content = piped("tar", &["-xOf", "-", "lower/mode", "moved/inner/file"], &tar);
    assert_eq!(String::from_utf8_lossy(&content), "lowerlower");
}
