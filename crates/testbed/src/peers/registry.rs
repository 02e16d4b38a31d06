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

    /// Pushes OCI archives, each for a platform (`linux/arm64`), as one image of several architectures, and gives back
    /// its whole reference.
    ///
    /// # Errors
    /// When skopeo cannot push, or the registry refuses the index.
    pub fn push_index(&self, variants: &[(&Path, serde_json::Value)], repository: &str, tag: &str) -> Result<String> {
        let mut manifests = Vec::new();
        for (number, (archive, platform)) in variants.iter().enumerate() {
            let reference = format!("docker://{}", self.push(archive, &format!("{repository}:{tag}-{number}"))?);
            let inspect = |how: &[&str]| {
                run(Command::new("skopeo").args(["inspect", "--tls-verify=false"]).args(how).arg(&reference))
            };
            let (digest, raw) = (inspect(&["--format", "{{.Digest}}"])?, inspect(&["--raw"])?);
            manifests.push(serde_json::json!({
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": digest.trim(),
                "size": raw.len(),
                "platform": platform,
            }));
        }
        let media_type = "application/vnd.oci.image.index.v1+json";
        let index = serde_json::json!({"schemaVersion": 2, "mediaType": media_type, "manifests": manifests});
        // OCI distribution specification, "Pushing manifests".
        run(Command::new("curl")
            .args(["--silent", "--show-error", "--fail", "--request", "PUT", "--header"])
            .arg(format!("Content-Type: {media_type}"))
            .args(["--data-binary", &index.to_string()])
            .arg(format!("http://{}/v2/{repository}/manifests/{tag}", Self::HOST)))?;
        Ok(format!("{}/{repository}:{tag}", Self::HOST))
    }
}
