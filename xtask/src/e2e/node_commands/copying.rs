//! `walt node cp`, and a node that lies.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use testbed::process::run as run_program;

use super::super::stage::Stage;
use super::{told, walt};

/// A tar that tries to write through a symlink of its own.
const HOSTILE: &str = r#"
import io, sys, tarfile
outside = sys.argv[1]
tar = tarfile.open(fileobj=sys.stdout.buffer, mode="w|", format=tarfile.USTAR_FORMAT)
def add(name, kind, link="", content=b""):
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.size, member.mode = kind, link, len(content), 0o755
    tar.addfile(member, io.BytesIO(content))
add("evil", tarfile.DIRTYPE)
add("evil/way-out", tarfile.SYMTYPE, outside)
add("evil/way-out/precious", tarfile.REGTYPE, content=b"overwritten")
tar.close()
"#;

/// A folder to the node and back, and single files.
pub(in super::super) fn both_ways(stage: &mut Stage<'_>, node: &str) -> Result<()> {
    let root = stage.lab.state().join("copy");
    let (source, back) = (root.join("folder"), root.join("back"));
    fs::create_dir_all(source.join("deep/er"))?;
    fs::create_dir_all(&back)?;
    fs::write(source.join("program"), "#!/bin/sh\necho it runs\n")?;
    fs::set_permissions(source.join("program"), fs::Permissions::from_mode(0o750))?;
    fs::write(source.join("deep/er").join("y".repeat(150)), vec![7; 3_000_001])?;
    symlink("../program", source.join("deep/link"))?;
    run_program(Command::new("touch").args(["-d", "2001-02-03 04:05:06"]).arg(source.join("program")))?;
    let text = |path: &Path| path.to_string_lossy().into_owned();

    let there = walt(stage, &["node", "cp", &text(&source), &format!("{node}:/root/")])?;
    stage.check("a folder is copied to the node", there.status.success(), told(&there))?;
    let output =
        walt(stage, &["node", "run", node, "/root/folder/deep/link; stat -c '%a %Y %U' /root/folder/program"])?;
    let expected = output.stdout == b"it runs\n750 981173106 root\n";
    stage.check("with modes, times and symlinks", expected, told(&output))?;
    let here = walt(stage, &["node", "cp", &format!("{node}:folder"), &text(&back)])?;
    stage.check("and back", here.status.success(), told(&here))?;
    let differences = run_program(
        Command::new("rsync")
            .args(["-rlptn", "--checksum", "--delete", "--itemize-changes"])
            .arg(format!("{}/", text(&source)))
            .arg(format!("{}/folder/", text(&back))),
    );
    let same = match differences {
        Ok(text) => text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect::<Vec<_>>(),
        // No rsync: content alone.
        Err(_) => vec![run_program(Command::new("diff").arg("-r").arg(&source).arg(back.join("folder")))?],
    };
    stage.check("the same as before", same.iter().all(String::is_empty), same.join("; "))?;
    let file = walt(stage, &["node", "cp", &format!("{node}:/root/folder/program"), &text(&root.join("other-name"))])?;
    let same = fs::read(root.join("other-name")).ok() == Some(fs::read(source.join("program"))?);
    stage.check("a file gets the name that it is to have", same, told(&file))?;

    let missing = walt(stage, &["node", "cp", &format!("{node}:/no/such"), &text(&back)])?;
    let says = String::from_utf8_lossy(&missing.stderr).contains("No such file");
    stage.check("what is not there is told", says && !missing.status.success(), told(&missing))?;
    let full = walt(stage, &["node", "cp", &text(&source), &format!("{node}:/proc/nothing/here")])?;
    stage.check("a place that is none is told", !full.status.success(), told(&full))?;
    walt(stage, &["node", "run", node, "rm -r /root/folder"]).map(drop)
}

/// The node's agent is replaced by something that sends what it likes.
pub(in super::super) fn hostile(stage: &mut Stage<'_>, node: &str) -> Result<()> {
    let root = stage.lab.state().join("hostile");
    let (outside, inside) = (root.join("outside"), root.join("inside"));
    fs::create_dir_all(&outside)?;
    fs::create_dir_all(&inside)?;
    fs::write(outside.join("precious"), "precious")?;
    let script = stage.lab.write("hostile.py", HOSTILE)?;
    let output = Command::new("python3").arg(script).arg(&outside).output()?;
    let tar = root.join("evil.tar");
    fs::write(&tar, output.stdout)?;
    let tar = tar.to_string_lossy().into_owned();
    let put = walt(stage, &["node", "cp", &tar, &format!("{node}:/tmp/evil.tar")])?;
    stage.check("something evil is put in the place of the node's agent", put.status.success(), told(&put))?;
    let agent = "/bin/_walt_internal_/walt-node";
    let replace = format!(
        "mkdir -p /tmp && mv {agent} {agent}.real && printf '#!/bin/sh\\ncase $1 in walt-send-files) exec cat /tmp/evil.tar ;; \
         esac\\nexec {agent}.real \"$@\"\\n' > {agent} && chmod 755 {agent}"
    );
    let replaced = walt(stage, &["node", "run", node, &replace])?;
    let evil = walt(stage, &["node", "cp", &format!("{node}:/evil"), &inside.to_string_lossy()])?;
    let precious = fs::read_to_string(outside.join("precious"))?;
    let is_so = !evil.status.success() && precious == "precious" && fs::read_dir(&outside)?.count() == 1;
    stage.check("what it sends writes nothing elsewhere", is_so && replaced.status.success(), told(&evil))?;
    let restored = walt(stage, &["node", "run", node, &format!("mv {agent}.real {agent} && rm /tmp/evil.tar")])?;
    stage.check("the agent is back", restored.status.success(), told(&restored))
}
