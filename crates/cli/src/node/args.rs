//! Command lines of what is done on nodes.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;

/// Run a command on nodes
#[derive(Debug, Args)]
#[command(after_help = "\
The words of the command are put together with spaces between them, and a shell on the node reads them: quote what is not \
for the shell here. Of one node, standard input goes to the command, and its exit code is that of `walt`. Of several, each \
line has the node's name before it, and the exit code is the greatest.

Examples:
  walt node run node-0a1b2c uname -a
  walt node run my-nodes 'df -h / | tail -1'
  walt node run --timeout 10 my-nodes -- ping -c 3 server
  walt node run node-0a1b2c 'cat > /tmp/data' < data")]
pub(crate) struct RunArgs {
    /// Nodes: names, macs or ips with commas between them, `my-nodes`, `free-nodes`, `all-nodes`
    pub(crate) nodes: String,
    /// Seconds that the command may take on each node; then it is ended, and the exit code is 124
    #[arg(long, value_name = "SECONDS")]
    pub(crate) timeout: Option<u64>,
    /// Command, and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

/// Open a shell on a node
#[derive(Debug, Args)]
#[command(after_help = "\
What is typed goes to the node, Ctrl-C too; `exit` or Ctrl-D ends it, and a connection that hangs is ended by the keys \
Enter ~ . one after the other.

Examples:
  walt node shell node-0a1b2c")]
pub(crate) struct ShellArgs {
    /// Name, mac or ip
    pub(crate) node: String,
}

/// Copy files and folders to or from nodes
#[derive(Debug, Args)]
#[command(after_help = "\
One of the two is on a node, or on each of a set of nodes: NODES:PATH; a relative PATH begins at root's home. A folder is \
copied with all that is in it, modes, times and symlinks included. If DST is a directory, the copy goes into it. A file \
gets its name when it is whole.

Examples:
  walt node cp experiment.sh node-0a1b2c:                   # to /root/experiment.sh
  walt node cp input/ my-nodes:/tmp/
  walt node cp --progress node-0a1b2c:/var/log results/
  walt node cp ./a:b node-0a1b2c:                           # a name here with a colon in it")]
pub(crate) struct CpArgs {
    /// File or folder: PATH or NODE:PATH
    #[arg(value_name = "SRC")]
    pub(crate) from: String,
    /// Where to: PATH or NODES:PATH
    #[arg(value_name = "DST")]
    pub(crate) to: String,
    /// Show how far it has come, from the beginning and without a terminal, too
    #[arg(long)]
    pub(crate) progress: bool,
}

/// Check whether nodes answer on the network
#[derive(Debug, Args)]
#[command(after_help = "\
The kernel of a node answers long before its ssh server does, and may when this does not: `walt node wait` waits for that.

Examples:
  walt node ping node-0a1b2c
  walt node ping -c 1 all-nodes")]
pub(crate) struct PingArgs {
    /// Nodes: names, macs or ips with commas between them, `my-nodes`, `free-nodes`, `all-nodes`
    pub(crate) nodes: String,
    /// How often each is asked, once a second
    #[arg(short, long, value_name = "COUNT", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) count: u32,
}

/// Let programs here reach a TCP port of a node
#[derive(Debug, Args)]
#[command(after_help = "\
Until Ctrl-C, connections to the port here go on to the node's.

Examples:
  walt node expose node-0a1b2c 80 8080                      # http://127.0.0.1:8080/ is the node's
  walt node expose node-0a1b2c 80 0                         # a free port here, which is told
  walt node expose --bind 0.0.0.0 node-0a1b2c 80 8080       # for other machines, too")]
pub(crate) struct ExposeArgs {
    /// Name, mac or ip
    pub(crate) node: String,
    /// Port on the node
    #[arg(value_name = "NODE_PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: u16,
    /// Port here; 0 is any that is free
    pub(crate) local_port: u16,
    /// Address here
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub(crate) bind: IpAddr,
}

/// Make an image of what a node runs, with what was changed on it
#[derive(Debug, Args)]
#[command(after_help = "\
The image that the node has booted gets one more layer: files that were written, changed and removed since. What is \
mounted elsewhere (/tmp, /run, /persist and others), what the server adds to each image, and what makes the machine another one \
than its neighbour (/etc/machine-id, ssh's host keys) are not part of it. Stop what is just writing, or it may be saved \
half written.

Examples:
  walt node save node-0a1b2c debian-with-gcc                # <you>/debian-with-gcc:latest
  walt node save node-0a1b2c lab/debian:2026 --force        # in the place of what had that name
  walt node boot my-nodes debian-with-gcc")]
pub(crate) struct SaveArgs {
    /// Name, mac or ip
    pub(crate) node: String,
    /// Name of the new image; without a slash it is one of yours
    pub(crate) image: String,
    /// Even if there is an image of this name
    #[arg(long)]
    pub(crate) force: bool,
}

/// Make nodes yours
#[derive(Debug, Args)]
#[command(after_help = "\
They boot an image of yours from now on: <you>/<model>-default, which begins as the default image of their model. For \
those of others you are asked first.

Examples:
  walt node acquire node-0a1b2c
  walt node acquire free-nodes && walt node wait my-nodes")]
pub(crate) struct AcquireArgs {
    /// Nodes: names, macs or ips with commas between them, `free-nodes`, `all-nodes`
    pub(crate) nodes: String,
    /// Nodes of other users, too, without a question
    #[arg(long)]
    pub(crate) force: bool,
}

/// Give nodes back, for anybody to take
#[derive(Debug, Args)]
#[command(after_help = "\
They boot the default image of their model again.

Examples:
  walt node release my-nodes")]
pub(crate) struct ReleaseArgs {
    /// Nodes: names, macs or ips with commas between them, `my-nodes`, `all-nodes`
    pub(crate) nodes: String,
    /// Nodes of other users, too, without a question
    #[arg(long)]
    pub(crate) force: bool,
}

/// One side of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// On this machine.
    Here(PathBuf),
    /// On nodes.
    Nodes {
        /// Set of nodes.
        nodes: String,
        /// Path there.
        path: String,
    },
}

impl Place {
    /// As scp reads it: a colon with no slash before it ends the name of a machine.
    pub(super) fn parse(text: &str) -> Self {
        match text.split_once(':') {
            Some((nodes, path)) if !nodes.is_empty() && !nodes.contains('/') => {
                let path = if path.is_empty() { "." } else { path };
                Self::Nodes { nodes: nodes.to_owned(), path: path.to_owned() }
            }
            _ => Self::Here(text.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let node = |nodes: &str, path: &str| Place::Nodes { nodes: nodes.into(), path: path.into() };
        for (text, place) in [
            ("n1:/a:b", node("n1", "/a:b")),
            ("n1,n2:", node("n1,n2", ".")),
            ("./a:b", Place::Here("./a:b".into())),
            ("/a:b", Place::Here("/a:b".into())),
            (":a", Place::Here(":a".into())),
            ("a", Place::Here("a".into())),
        ] {
            assert_eq!(Place::parse(text), place, "{text}");
        }
    }
}
