//! Logging in to nodes by OpenSSH's client, with a key that stays in the daemon.
//!
//! ssh gets an agent of its own for this one command: a socket in a private directory, which passes each message on to the
//! daemon. It knows one host key, that of all nodes, and reads nobody's configuration.

use std::fs::Permissions;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command};

use anyhow::{Context, Error, bail};
use api::{Node, NodeState, SshHost};
use tempfile::TempDir;
use wire::ssh_agent::{LENGTH, MAX_MESSAGE, failure};

use crate::http::{Client, Sent, target};

/// The one name by which ssh knows all nodes.
const HOST: &str = "walt";

/// Longest path of a socket in bytes, its NUL not counted (unix(7)).
const MAX_SOCKET_PATH: usize = 107;

/// A way in. What it has made is gone when it is dropped.
#[derive(Debug)]
pub(super) struct Login {
    directory: TempDir,
}

impl Login {
    pub(super) fn open(client: &Client) -> Result<Self, Error> {
        let host: SshHost = client.get(&target(&["v1", "ssh", "host"], &[]))?;
        let private = Permissions::from_mode(0o700);
        let directory = tempfile::Builder::new().prefix("walt-").permissions(private).tempdir();
        let directory = directory.context("can not make a private directory for ssh")?;
        let login = Self { directory };
        std::fs::write(login.path("known_hosts"), format!("{HOST} {}\n", host.key))
            .context("can not tell ssh the host key")?;
        let path = login.path("agent");
        if path.len() > MAX_SOCKET_PATH {
            bail!("{path} is too long a name for a socket: set TMPDIR to a shorter one");
        }
        let listener = UnixListener::bind(&path).with_context(|| format!("can not listen on {path}"))?;
        let client = client.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let client = client.clone();
                std::thread::spawn(move || relay(&client, stream));
            }
        });
        Ok(login)
    }

    /// ssh to root on `address`, ready for more options and a command.
    pub(super) fn ssh(&self, address: &str) -> Command {
        let mut command = Command::new("ssh");
        command.args(["-F", "none", "-l", "root"]);
        for option in [
            &format!("IdentityAgent={}", self.path("agent")),
            &format!("UserKnownHostsFile={}", self.path("known_hosts")),
            &format!("HostKeyAlias={HOST}"),
            "GlobalKnownHostsFile=none",
            "StrictHostKeyChecking=yes",
            "HostKeyAlgorithms=ecdsa-sha2-nistp256",
            "UpdateHostKeys=no",
            "CheckHostIP=no",
            "IdentityFile=none",
            "PreferredAuthentications=publickey",
            "BatchMode=yes",
            "ForwardAgent=no",
            "ForwardX11=no",
            "ControlPath=none",
            "ConnectTimeout=20",
            "ServerAliveInterval=15",
            "ServerAliveCountMax=4",
            "LogLevel=ERROR",
        ] {
            command.args(["-o", option]);
        }
        command.arg(address);
        command
    }

    /// ssh that runs a program of the agent on the node, which needs nothing of the image.
    pub(super) fn agent(&self, address: &str, program: &str, argument: Option<&str>) -> Command {
        let mut command = self.ssh(address);
        let argument = argument.map(|argument| format!(" {}", quoted(argument))).unwrap_or_default();
        command.arg(format!("exec {}/walt-node {program}{argument}", wire::node::INTERNAL_DIRECTORY));
        command
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).to_string_lossy().into_owned()
    }
}

/// Starts ssh.
pub(super) fn start(command: &mut Command) -> Result<Child, Error> {
    command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            let hint =
                "OpenSSH's client is needed for this: `apt install openssh-client`, or what your system calls it";
            Error::new(error).context(hint)
        }
        _ => Error::new(error).context("can not run ssh"),
    })
}

/// Only a node that is up can be logged in to; ssh would wait in vain. One that seems lost may have lost the server alone, or
/// the server itself was just started: ssh finds out.
pub(super) fn expect_booted(node: &Node) -> Result<(), Error> {
    if matches!(node.state, NodeState::Booted | NodeState::Unreachable) {
        return Ok(());
    }
    let step = node.step.as_ref().map(|step| format!(" ({step})")).unwrap_or_default();
    bail!("{} is {}{step}: `walt node wait {}` waits until it is booted", node.name, node.state.as_str(), node.name)
}

/// As one word of a POSIX shell.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Passes messages of one ssh client to the daemon, one after the other.
fn relay(client: &Client, mut stream: UnixStream) -> io::Result<()> {
    loop {
        let mut length = [0; LENGTH];
        stream.read_exact(&mut length)?;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > MAX_MESSAGE {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut message = vec![0; length];
        stream.read_exact(&mut message)?;
        let answer = ask(client, &message).unwrap_or_else(|_| failure());
        // Far below 4 GiB.
        stream.write_all(&(answer.len() as u32).to_be_bytes())?;
        stream.write_all(&answer)?;
    }
}

fn ask(client: &Client, message: &[u8]) -> Result<Vec<u8>, Error> {
    let body = client.send("POST", &target(&["v1", "ssh", "agent"], &[]), Sent::Stream(&mut &message[..]))?;
    let mut answer = Vec::new();
    body.take(MAX_MESSAGE as u64).read_to_end(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_a_shell() {
        for text in ["", "a b", "it's", "$HOME `x` \"y\" \\ \n*", "''"] {
            let output = Command::new("sh").arg("-c").arg(format!("printf %s {}", quoted(text))).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), text);
        }
    }
}
