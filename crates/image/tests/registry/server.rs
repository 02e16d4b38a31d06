//! A real registry on a loopback port, with a directory of its own.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use walt_image::{Reference, RegistrySettings, Store};

use crate::layout::{Layout, TestImage};

/// User `walt`, password `s3cret`.
const HTPASSWD: &str = "walt:$2y$04$E3GEM95wVB.0zHoGT5N/muq9Zxieg/i3CNasLJ4QOT5gGvzx8AmwG\n";

pub(crate) struct Registry {
    process: Child,
    pub(crate) address: SocketAddr,
    dir: TempDir,
}

impl Registry {
    pub(crate) fn start() -> Registry {
        Registry::start_with("")
    }

    /// One that wants user `walt`, password `s3cret`.
    pub(crate) fn start_with_password() -> Registry {
        Registry::start_with("auth:\n  htpasswd:\n    realm: lab\n    path: DIR/htpasswd\n")
    }

    /// One that speaks https alone, with a certificate for 127.0.0.1 by an authority of its own, whose certificate is
    /// the file `ca.pem` in [`dir`](Self::dir).
    pub(crate) fn start_with_tls() -> Registry {
        let dir = tempfile::tempdir().unwrap();
        let openssl = |arguments: &str| {
            let output = Command::new("openssl").current_dir(&dir).args(arguments.split(' ')).output();
            let output = output.expect("openssl is needed (Debian package openssl)");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        };
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2";
        openssl(&format!("req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=authority"));
        fs::write(dir.path().join("server.ext"), "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n").unwrap();
        openssl(&format!("req {} -keyout server.key -out server.csr -subj /CN=registry", key.replace(" -days 2", "")));
        openssl(
            "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile server.ext \
             -out server.pem",
        );
        Registry::start_in(dir, "  tls:\n    certificate: DIR/server.pem\n    key: DIR/server.key\n")
    }

    /// Its directory.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn start_with(auth: &str) -> Registry {
        Registry::start_in(tempfile::tempdir().unwrap(), auth)
    }

    fn start_in(dir: TempDir, rest: &str) -> Registry {
        let path = dir.path().to_str().unwrap();
        fs::write(dir.path().join("htpasswd"), HTPASSWD).unwrap();
        // Another process may take the port between our look and the registry's start: then once more.
        for _ in 0..5 {
            let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let config = format!(
                "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {path}/data\n\
                 http:\n  addr: {address}\n{}",
                rest.replace("DIR", path)
            );
            let file = dir.path().join("config.yml");
            fs::write(&file, config).unwrap();
            let mut process = Command::new("docker-registry")
                .args(["serve", file.to_str().unwrap()])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("docker-registry is needed (Debian package docker-registry)");
            let deadline = Instant::now() + Duration::from_secs(20);
            while process.try_wait().unwrap().is_none() && Instant::now() < deadline {
                if TcpStream::connect(address).is_ok() {
                    return Registry { process, address, dir };
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            let _ = process.kill();
            let _ = process.wait();
        }
        panic!("docker-registry does not start");
    }

    /// Copies tag `tag` of an image layout to `name:tag` by skopeo, with more options for it.
    pub(crate) fn push(&self, layout: &Path, name: &str, tag: &str, options: &[&str]) {
        let output = Command::new("skopeo")
            .args(["--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"])
            .args(options)
            .arg(format!("oci:{}:{tag}", layout.display()))
            .arg(format!("docker://{}/{name}:{tag}", self.address))
            .output()
            .expect("skopeo is needed (Debian package skopeo)");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Pushes one image as `name:latest`.
    pub(crate) fn push_image(&self, name: &str, image: &TestImage, options: &[&str]) {
        let dir = tempfile::tempdir().unwrap();
        let mut layout = Layout::create(dir.path());
        let manifest = layout.image(image);
        layout.tag(manifest, "latest");
        layout.finish();
        self.push(dir.path(), name, "latest", options);
    }

    /// Digest of the manifest of `name:latest`, by skopeo.
    pub(crate) fn manifest_digest(&self, name: &str) -> String {
        let output = Command::new("skopeo")
            .args(["inspect", "--tls-verify=false", "--no-tags", "--format", "{{.Digest}}"])
            .arg(format!("docker://{}/{name}:latest", self.address))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// File of a blob in the registry's own store.
    pub(crate) fn blob_file(&self, hex: &str) -> std::path::PathBuf {
        self.dir.path().join("data/docker/registry/v2/blobs/sha256").join(&hex[..2]).join(hex).join("data")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(crate) fn reference(address: SocketAddr, name: &str) -> Reference {
    format!("{address}/{name}").parse().unwrap()
}

/// Settings that fail fast, and know nothing of the user's credentials.
pub(crate) fn settings() -> RegistrySettings {
    RegistrySettings {
        credential_files: Vec::new(),
        attempts: 4,
        first_pause: Duration::from_millis(20),
        idle_timeout: Duration::from_secs(2),
        ..RegistrySettings::default()
    }
}

/// A store in a throw-away directory.
pub(crate) fn store() -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    (dir, store)
}

/// Names of all files in the store's directory `name`.
pub(crate) fn files(store: &Store, name: &str) -> Vec<String> {
    let entries = fs::read_dir(store.root().join(name)).unwrap();
    let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
