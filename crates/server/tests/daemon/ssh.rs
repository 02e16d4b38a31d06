//! Logging in with the server's key, which stays in the daemon: OpenSSH's client, and dropbear as a node has it.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;

use crate::lab::{Lab, Running, stderr};

/// An agent's socket at `path` whose messages go to the daemon, as `walt` makes one.
fn relay(daemon: &Arc<Running>, path: &Path) {
    // Not a hold on it: the daemon ends with the test.
    let (daemon, listener) = (Arc::downgrade(daemon), UnixListener::bind(path).unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            while let Some(message) = message(&mut stream) {
                let Some(daemon) = daemon.upgrade() else { return };
                let (status, answer) = daemon.exchange("POST", "/v1/ssh/agent", &message);
                assert_eq!(status, 200);
                let length = u32::try_from(answer.len()).unwrap().to_be_bytes();
                if stream.write_all(&[&length[..], &answer].concat()).is_err() {
                    break;
                }
            }
        }
    });
}

fn message(stream: &mut UnixStream) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let mut message = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut message).ok()?;
    Some(message)
}

/// A dropbear with this host key that lets in whom the line of `authorized_keys` says, in mounts of its own.
struct Dropbear {
    child: Child,
    port: u16,
}

impl Dropbear {
    fn start(lab: &Lab, host_key: &Path, authorized: &str) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let key = lab.dir.path().join("dropbear_host_key");
        let convert = Command::new("dropbearconvert").args(["openssh", "dropbear"]).arg(host_key).arg(&key).output();
        assert!(convert.expect("dropbear-bin is needed").status.success());
        std::fs::write(lab.dir.path().join("authorized_keys"), authorized).unwrap();
        let script = "mount -t tmpfs -o mode=0700 none /root && mkdir -m 700 /root/.ssh && cp \"$1\" /root/.ssh/ &&
            chmod 600 /root/.ssh/authorized_keys && exec dropbear -F -E -s -r \"$2\" -p 127.0.0.1:\"$3\"";
        let child = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"])
            .arg(lab.dir.path().join("authorized_keys"))
            .arg(key)
            .arg(port.to_string())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let dropbear = Self { child, port };
        lab.wait_until("dropbear listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        dropbear
    }
}

impl Drop for Dropbear {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ssh(agent: &Path, known_hosts: &Path, port: u16) -> Output {
    let mut ssh = Command::new("ssh");
    ssh.args(["-F", "none", "-l", "root", "-p", &port.to_string()]);
    for option in [
        &format!("IdentityAgent={}", agent.display()),
        &format!("UserKnownHostsFile={}", known_hosts.display()),
        "HostKeyAlias=walt",
        "GlobalKnownHostsFile=none",
        "StrictHostKeyChecking=yes",
        "IdentityFile=none",
        "BatchMode=yes",
        "LogLevel=ERROR",
    ] {
        ssh.args(["-o", option]);
    }
    ssh.args(["127.0.0.1", "echo hello from $(id -u)"]).stdin(Stdio::null()).output().expect("openssh-client is needed")
}

#[test]
fn a_node_is_opened_by_a_key_that_nobody_sees() {
    let lab = Lab::new();
    let daemon = Arc::new(lab.start(&[]));
    let (agent, known_hosts) = (lab.dir.path().join("agent.sock"), lab.dir.path().join("known_hosts"));
    relay(&daemon, &agent);
    let (status, body) = daemon.request("GET", "/v1/ssh/host", "");
    assert_eq!(status, 200, "{body}");
    let host: serde_json::Value = serde_json::from_str(&body).unwrap();
    std::fs::write(&known_hosts, format!("walt {}\n", host["key"].as_str().unwrap())).unwrap();
    let keys = lab.dir.path().join("state/keys");
    let public = std::fs::read_to_string(keys.join("id_ecdsa.pub")).unwrap();

    let node = Dropbear::start(&lab, &keys.join("ssh_host_ecdsa_key"), &public);
    let output = ssh(&agent, &known_hosts, node.port);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "hello from 0\n", "{}", stderr(&output));
    drop(node);

    // A machine with another host key is no node.
    let other = lab.dir.path().join("other_key");
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ecdsa", "-N", "", "-f"]).arg(&other).status().unwrap();
    assert!(made.success());
    let elsewhere = Dropbear::start(&lab, &other, &public);
    let output = ssh(&agent, &known_hosts, elsewhere.port);
    assert!(!output.status.success() && output.stdout.is_empty());
    assert!(stderr(&output).contains("Host key verification failed"), "{}", stderr(&output));
    drop(elsewhere);

    // Nor is there a way in without the key.
    let node = Dropbear::start(&lab, &keys.join("ssh_host_ecdsa_key"), "");
    let output = ssh(&agent, &known_hosts, node.port);
    assert!(stderr(&output).contains("Permission denied"), "{}", stderr(&output));
}

#[test]
fn the_agent_shows_one_key_and_signs_no_files() {
    let lab = Lab::new();
    let daemon = Arc::new(lab.start(&[]));
    let agent = lab.dir.path().join("agent.sock");
    relay(&daemon, &agent);
    let tool = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(arguments).env("SSH_AUTH_SOCK", &agent).stdin(Stdio::null()).output().unwrap()
    };
    let listed = tool("ssh-add", &["-l"]);
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(text.lines().count() == 1 && text.contains("walt-server (ECDSA)"), "{text}");
    assert!(!tool("ssh-add", &["-D"]).status.success(), "nothing can be removed");
    let key = lab.dir.path().join("state/keys/id_ecdsa.pub").display().to_string();
    // With the public half alone, ssh-keygen asks the agent.
    let copy = lab.dir.path().join("only.pub").display().to_string();
    std::fs::copy(key, &copy).unwrap();
    let file = lab.dir.path().join("contract").display().to_string();
    std::fs::write(&file, "I owe you").unwrap();
    let signed = tool("ssh-keygen", &["-Y", "sign", "-n", "file", "-f", &copy, &file]);
    assert!(!signed.status.success() && !Path::new(&format!("{file}.sig")).exists(), "{}", stderr(&signed));
    // Whatever comes, the answer is "no", and the daemon lives.
    for message in [&b""[..], b"\x0b\0", b"\x0d\xff\xff\xff\xff", b"\x13", &vec![0x0d; 200_000]] {
        assert_eq!(daemon.exchange("POST", "/v1/ssh/agent", message), (200, vec![5]));
    }
    assert_eq!(daemon.exchange("POST", "/v1/ssh/agent", &vec![0; 300_000]).0, 413);
}
