//! docker-registry: a real registry to pull from.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::lab::{Lab, SERVER};
use crate::process::{Background, run};

/// A registry on the server's address, over plain http.
#[derive(Debug)]
pub struct Registry {
    process: Option<Background>,
    lab_state: std::path::PathBuf,
    log: std::path::PathBuf,
}

impl Registry {
    /// What its image references start with.
    pub const HOST: &str = "192.168.152.1:5000";

    /// Starts it, empty.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(lab: &Lab) -> Result<Self> {
        let mut registry = Self { process: None, lab_state: lab.state(), log: lab.logs().join("registry.log") };
        registry.resume()?;
        Ok(registry)
    }

    /// Stops answering, until [`Registry::resume`].
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Starts it again with what it had.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn resume(&mut self) -> Result<()> {
        let data = self.lab_state.join("registry");
        fs::create_dir_all(&data)?;
        let configuration = self.lab_state.join("registry.yml");
        fs::write(
            &configuration,
            format!(
                "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{}\"}}\n",
                data.display(),
                Self::HOST
            ),
        )?;
        let mut process = Background::start(
            "docker-registry",
            Command::new("docker-registry").arg("serve").arg(&configuration),
            &self.log,
        )?;
        let up = || std::net::TcpStream::connect((SERVER, 5000)).is_ok();
        process.wait_until("listening", Duration::from_secs(30), up)?;
        self.process = Some(process);
        Ok(())
    }

    /// Pushes an OCI archive as `name:tag` and gives back its whole reference.
    ///
    /// # Errors
    /// When skopeo cannot.
    pub fn push(&self, archive: &Path, name: &str) -> Result<String> {
        let reference = format!("{}/{name}", Self::HOST);
        run(Command::new("skopeo")
            .args(["copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false"])
            .arg(format!("oci-archive:{}", archive.display()))
            .arg(format!("docker://{reference}")))?;
        Ok(reference)
    }
}
