//! The same PC and image without us: dnsmasq for DHCP and TFTP, nfs-ganesha for the root.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use testbed::lab::{BRIDGE, Lab, SERVER};
use testbed::machine::{Machine, Spec};
use testbed::peers::{Dnsmasq, Ganesha};
use testbed::process::run;
use testbed::ssh::Ssh;

use crate::image::Built;

const MAC: &str = "52:54:00:00:00:77";
const NODE: [u8; 4] = [192, 168, 152, 77];

/// What a site needs that boots this image without us: its tree, unpacked, with keys, and what its TFTP server serves.
pub(super) struct Site {
    tree: PathBuf,
    tftp: PathBuf,
    key: PathBuf,
}

impl Site {
    /// Unpacks the image and gives it ssh keys.
    pub(super) fn unpack(lab: &Lab, image: &Built) -> Result<Self> {
        let tree = lab.state().join("tree");
        image.unpack(&tree)?;
        let key = lab.state().join("client-key");
        new_key(&key)?;
        new_key(&tree.join("etc/ssh/ssh_host_ecdsa_key"))?;
        fs::create_dir_all(tree.join("root/.ssh"))?;
        fs::copy(key.with_extension("pub"), tree.join("root/.ssh/authorized_keys"))?;

        let tftp = lab.state().join("tftp");
        fs::create_dir_all(&tftp)?;
        for (name, path) in [("kernel", "vmlinuz"), ("initrd", "initrd.img")] {
            fs::copy(tree.join(path), tftp.join(name)).with_context(|| format!("the image has no /{path}"))?;
        }
        fs::write(tftp.join("start.ipxe"), script(&tree))?;
        Ok(Self { tree, tftp, key })
    }

    /// Starts the two servers and boots the PC once; seconds from power-on to the greeting of its ssh server.
    pub(super) fn boot(&self, lab: &Lab, run: usize) -> Result<f64> {
        let _dnsmasq = Dnsmasq::start(lab, &configuration(&self.tftp))?;
        let _ganesha = Ganesha::start(lab, &self.tree)?;
        let machine = Machine::switch_on(lab, &Spec::new(&format!("peers-{run}"), MAC))?;
        let ssh = Ssh::new(IpAddr::from(NODE), &self.key, &self.key.with_extension("known"));
        let ready = ssh.wait_for_greeting(Duration::from_secs(600), || Ok(()))?;
        let seconds = ready.duration_since(machine.switched_on).as_secs_f64();
        let root = ssh.run("findmnt -n -o FSTYPE /")?;
        anyhow::ensure!(root.trim() == "nfs", "the root is not on NFS: {root}");
        // What this boot wrote must not help the next one.
        fs::write(self.tree.join("etc/machine-id"), "")?;
        Ok(seconds)
    }
}

fn new_key(path: &Path) -> Result<()> {
    run(Command::new("ssh-keygen").args(["-q", "-t", "ecdsa", "-N", "", "-C", "lab", "-f"]).arg(path)).map(drop)
}

/// The second stage: what the image's own start.ipxe does, without the parts that are ours.
fn script(tree: &Path) -> String {
    format!(
        "#!ipxe\n\
         imgfetch --name kernel tftp://${{next-server}}/kernel || reboot\n\
         imgfetch --name initrd tftp://${{next-server}}/initrd || reboot\n\
         imgargs kernel initrd=initrd root=/dev/nfs rw boot=nfs \
         nfsroot=${{next-server}}:{},nfsvers=3,nolock,tcp,rsize=1048576,wsize=1048576 \
         ip=${{netX/ip}}:${{next-server}}:${{netX/gateway}}:${{netX/netmask}}:peer::off BOOTIF=01-${{netX/mac:hexhyp}} \
         panic=15 net.ifnames=0 console=tty0 console=ttyS0,115200\n\
         boot kernel || reboot\n",
        tree.display()
    )
}

fn configuration(tftp: &Path) -> String {
    format!(
        "interface={BRIDGE}\n\
         bind-interfaces\n\
         port=0\n\
         no-ping\n\
         dhcp-range=192.168.152.70,192.168.152.80,1h\n\
         dhcp-host={MAC},192.168.152.77\n\
         dhcp-authoritative\n\
         enable-tftp\n\
         tftp-root={}\n\
         dhcp-boot=start.ipxe,,{SERVER}",
        tftp.display()
    )
}
