//! The program nft.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

/// Where it is: the second for those whose PATH is a user's.
const PROGRAMS: [&str; 2] = ["nft", "/usr/sbin/nft"];
/// Time that it has.
const TIME_LIMIT: Duration = Duration::from_secs(20);
/// Bytes of what it complains of that are told.
const MAX_OUTPUT: usize = 500;

/// Runs it with these arguments and this input.
///
/// # Errors
/// It is not there, or it fails; the text says why and what to do.
pub(super) async fn run(arguments: &[&str], input: &str) -> Result<(), String> {
    match timeout(TIME_LIMIT, try_programs(arguments, input)).await {
        Ok(result) => result,
        Err(_) => Err(format!("nft did not end within {} s", TIME_LIMIT.as_secs())),
    }
}

async fn try_programs(arguments: &[&str], input: &str) -> Result<(), String> {
    for program in PROGRAMS {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(format!("can not run {program}: {error}")),
        };
        let mut stdin = child.stdin.take();
        // Side by side: it may complain before it has read all.
        let feed = async {
            if let Some(stdin) = &mut stdin {
                // If it does not read, its complaint says more than the broken pipe.
                let _ = stdin.write_all(input.as_bytes()).await;
            }
            drop(stdin);
        };
        let ((), output) = tokio::join!(feed, child.wait_with_output());
        let output = output.map_err(|error| format!("can not run {program}: {error}"))?;
        if output.status.success() {
            return Ok(());
        }
        let complaint = String::from_utf8_lossy(&output.stderr[..output.stderr.len().min(MAX_OUTPUT)]).into_owned();
        return Err(format!("nft failed ({}): {}", output.status, complaint.trim()));
    }
    Err("the program nft is missing: install the package nftables".into())
}
