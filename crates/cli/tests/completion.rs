//! What bash, zsh and fish make of a half-written line, by their own hands: each runs in a terminal, somebody presses the
//! Tab key, and the line that comes of it is looked at. The server is a socket that answers as the daemon does.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

const WALT: &str = env!("CARGO_BIN_EXE_walt");

/// A server with two nodes, an unknown device and two images.
fn server(directory: &Path) -> PathBuf {
    let path = directory.join("control.sock");
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).unwrap_or_default();
            let target = String::from_utf8_lossy(&request[..length]).split(' ').nth(1).unwrap_or_default().to_owned();
            let node = |name: &str, kind: &str| {
                format!(
                    r#"{{"name":"{name}","mac":"52:54:00:00:00:01","ip":"10.0.0.2","kind":"{kind}","registration":{{"status":"ready"}},"state":"booted","first_seen":0,"last_seen":0}}"#
                )
            };
            let body = match target.as_str() {
                "/v1/nodes?all=true" => {
                    format!(
                        "[{},{},{}]",
                        node("kitchen", "node"),
                        node("cellar", "node"),
                        node("unknown-000001", "unknown")
                    )
                }
                "/v1/images" => {
                    let image = |name: &str| {
                        format!(
                            r#"{{"name":"docker.io/{name}","state":{{"status":"present"}},"models":["pc-x86-64"]}}"#
                        )
                    };
                    format!("[{},{}]", image("ada/wifi:1"), image("ada/wifi:22"))
                }
                "/v1/checkpoints" => r#"[{"name":"begun"}]"#.to_owned(),
                _ => "[]".to_owned(),
            };
            let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        }
    });
    path
}

/// A shell in a terminal.
struct Terminal {
    child: Child,
    input: ChildStdin,
    output: Receiver<Vec<u8>>,
}

impl Terminal {
    /// Starts `shell`, which must print a line `ready` once it has read `prepare`.
    fn start(shell: &str, prepare: &str, socket: &Path, directory: &Path) -> Self {
        // script(1), of Debian's bsdutils, gives a program a terminal of its own.
        let mut command = Command::new("script");
        command.args(["--quiet", "--return", "--command", shell, "/dev/null"]).current_dir(directory);
        let path = format!("{}:/usr/bin:/bin", Path::new(WALT).parent().unwrap().display());
        command.env_clear().env("PATH", path).env("HOME", directory).env("TERM", "dumb").env("WALT_SOCKET", socket);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("script (package bsdutils) is needed: {error}"));
        let (read, output) = channel();
        let mut stdout = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = stdout.read(&mut bytes) {
                if read.send(bytes[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        let mut terminal = Self { input: child.stdin.take().unwrap(), child, output };
        terminal.type_keys(&format!("{prepare}; echo rea''dy\n"));
        terminal.read_until("\nready");
        terminal
    }

    fn type_keys(&mut self, keys: &str) {
        self.input.write_all(keys.as_bytes()).unwrap();
        self.input.flush().unwrap();
    }

    fn read_until(&mut self, wanted: &str) -> String {
        let begun = Instant::now();
        let mut text = String::new();
        while !text.replace('\r', "").contains(wanted) {
            match self.output.recv_timeout(Duration::from_secs(30).saturating_sub(begun.elapsed())) {
                Ok(bytes) => text.push_str(&String::from_utf8_lossy(&bytes)),
                Err(_) => panic!("the shell did not print {wanted:?} within 30 s:\n{text}"),
            }
        }
        text.replace('\r', "")
    }

    /// The line that comes of these keys, Tab among them. Ctrl-A goes to its beginning, so that it is printed, not run.
    fn line(&mut self, keys: &str) -> String {
        self.type_keys(&format!("{keys}\x01echo '<''<' \x05 '>''>'\n"));
        let text = self.read_until(">>\n");
        let (_, line) = text.rsplit_once("<< ").unwrap_or_else(|| panic!("{text}"));
        line.split(">>").next().unwrap().to_owned()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What somebody types, and the line that comes of it. A space at the end: the word is complete.
const LINES: &[(&str, &str)] = &[
    ("walt no\t", "walt node "),
    ("walt node sho\t", "walt node show "),
    ("walt node show --al\t", "walt node show --all "),
    ("walt node show ki\t", "walt node show kitchen "),
    ("walt node reboot kitchen,c\t", "walt node reboot kitchen,cellar "),
    ("walt node reboot my\t", "walt node reboot my-nodes "),
    ("walt node boot kitchen def\t", "walt node boot kitchen default "),
    ("walt node boot kitchen ada/wifi:2\t", "walt node boot kitchen ada/wifi:22 "),
    ("walt image ls ad\t2\t", "walt image ls ada/wifi:22 "),
    ("walt log show --issuers ser\t", "walt log show --issuers server "),
    ("walt log remove-checkpoint b\t", "walt log remove-checkpoint begun "),
    ("walt help show node-s\t", "walt help show node-sets "),
    ("walt media sd --model rpi-4-\t", "walt media sd --model rpi-4-b "),
    ("walt image import arch\t", "walt image import archive.tar "),
    // Nothing fits: nothing is changed, and nothing is printed into the line.
    ("walt node show nosuch\t", "walt node show nosuch"),
];

fn check(shell: &str, command: &str, prepare: &str) {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("archive.tar"), "").unwrap();
    let socket = server(directory.path());
    let mut terminal = Terminal::start(command, prepare, &socket, directory.path());
    let wrong: Vec<String> = LINES
        .iter()
        .filter_map(|(keys, wanted)| {
            let line = terminal.line(keys);
            // The shell's echo does not tell how many spaces stood at the end: trimmed on both sides.
            (line.trim_end() != wanted.trim_end()).then(|| format!("{keys:?} became {line:?}, not {wanted:?}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{shell}:\n{}", wrong.join("\n"));
}

#[test]
fn bash() {
    check("bash", "bash --norc --noprofile -i", "source <(walt completion bash)");
}

#[test]
fn zsh() {
    check(
        "zsh",
        "zsh -f -i",
        "autoload -Uz compinit; compinit -D -u; source <(walt completion zsh); unsetopt prompt_sp",
    );
}

/// fish tells what it would offer without a terminal.
#[test]
fn fish() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("archive.tar"), "").unwrap();
    let socket = server(directory.path());
    for (keys, wanted) in LINES.iter().filter(|(keys, _)| keys.matches('\t').count() == 1) {
        let typed = keys.trim_end_matches('\t');
        let script = format!("walt completion fish | source; complete --do-complete '{typed}'");
        let path = format!("{}:/usr/bin:/bin", Path::new(WALT).parent().unwrap().display());
        let output = Command::new("fish")
            .args(["--no-config", "--command", &script])
            .current_dir(directory.path())
            .env_clear()
            .envs([("PATH", path.as_str()), ("HOME", directory.path().to_str().unwrap())])
            .env("WALT_SOCKET", &socket)
            .output()
            .unwrap_or_else(|error| panic!("fish is needed (./x installs it): {error}"));
        let text = String::from_utf8(output.stdout).unwrap();
        let offered: Vec<&str> = text.lines().map(|line| line.split('\t').next().unwrap()).collect();
        let word = wanted.trim_end().rsplit(' ').next().unwrap();
        let nothing = wanted.trim_end() == typed;
        assert!(if nothing { offered.is_empty() } else { offered == [word] }, "{typed:?}: {text}");
    }
}

/// The server is not there, does not answer, or answers nonsense: the command is silent, and quick.
#[test]
fn without_a_server_nothing_is_printed_and_nobody_waits() {
    let directory = tempfile::tempdir().unwrap();
    let silent = directory.path().join("silent.sock");
    let _listener = UnixListener::bind(&silent).unwrap();
    let slow = directory.path().join("slow.sock");
    let listener = UnixListener::bind(&slow).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            // A byte now and then: each read is in time, the whole is not.
            std::thread::spawn(move || {
                while stream.write_all(b"H").is_ok() {
                    std::thread::sleep(Duration::from_millis(100));
                }
            });
        }
    });
    for socket in [directory.path().join("none.sock"), silent, slow] {
        let begun = Instant::now();
        let output = Command::new(WALT)
            .args(["complete", "fish", "--", "walt", "node", "show", ""])
            .env("WALT_SOCKET", &socket)
            .output()
            .unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        // Options may still be typed.
        assert!(!String::from_utf8_lossy(&output.stdout).contains("kitchen"));
        assert!(begun.elapsed() < Duration::from_secs(2), "{} took {:?}", socket.display(), begun.elapsed());
    }
}
