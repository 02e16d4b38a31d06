//! nfs-ganesha and the portmapper it needs: the NFS server we compare ours with.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::lab::{Lab, SERVER, wait_for_port};
use crate::process::Background;

/// nfs-ganesha with one exported directory.
#[derive(Debug)]
pub struct Ganesha {
    _process: Background,
    _portmapper: Background,
}

impl Ganesha {
    /// Exports `tree`, with no access control, as NFSv3 over TCP and UDP.
    ///
    /// # Errors
    /// When one of the two does not come up.
    pub fn start(lab: &Lab, tree: &Path) -> Result<Self> {
        let log = lab.logs().join("ganesha.log");
        let portmapper =
            Background::start("rpcbind", Command::new("rpcbind").args(["-f", "-w", "-h", &SERVER.to_string()]), &log)?;
        wait_for_port(SERVER, 111)?;
        let file = lab.write("ganesha.conf", &configuration(tree))?;
        std::fs::create_dir_all("/run/ganesha")?;
        let mut command = Command::new("ganesha.nfsd");
        command.args(["-F", "-N", "NIV_EVENT", "-p", "/run/ganesha/pid", "-L"]).arg(&log).arg("-f").arg(file);
        let mut process = Background::start("nfs-ganesha", &mut command, &log)?;
        let up = || std::net::TcpStream::connect((SERVER, 2049)).is_ok();
        process.wait_until("listening", Duration::from_secs(60), up)?;
        Ok(Self { _process: process, _portmapper: portmapper })
    }
}

fn configuration(tree: &Path) -> String {
    format!(
        r#"
NFS_CORE_PARAM {{
    Protocols = 3;
    MNT_Port = 20048;
    Enable_NLM = false;
    Enable_RQUOTA = false;
    mount_path_pseudo = false;
}}
NFSv4 {{
    Graceless = true;
    RecoveryRoot = "/run/ganesha";
}}
EXPORT {{
    Export_Id = 1;
    Path = "{0}";
    Pseudo = "/export";
    Access_Type = RW;
    Squash = No_Root_Squash;
    SecType = sys;
    Protocols = 3;
    Transports = TCP, UDP;
    FSAL {{ Name = VFS; }}
}}
LOG {{ Default_Log_Level = EVENT; }}
"#,
        tree.display()
    )
}
