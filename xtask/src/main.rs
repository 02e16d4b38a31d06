//! Developer commands: everything that would otherwise be a long shell script. Called through the entry script `x`.

mod agents;
mod bench;
mod check;
mod container;
mod deb;
mod debian;
mod demo;
mod e2e;
mod firmware;
mod fuzz;
mod image;
mod kernel;
mod man;
mod programs;
mod static_programs;
mod test;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use test::Extent;

const HELP: &str = "\
usage: ./x COMMAND

  demo                      a PC boots Debian over the network, before your eyes
  test [--quick | --all]    all that must hold, in less than 30 minutes once the images are built; --quick leaves out
                            the machines and the fuzzing, --all leaves out nothing (./x e2e --list says what and why)
  e2e [--list | NAME]       one whole boot, with its checks
  bench NAME                boot, cli, logs, nfs or pull: how fast, against the programs one would use instead
  agents                    build the nodes' program for every architecture that this machine can build for
  image NAME                build an image of images/: debian-pc, debian-arm64, debian-armhf, or tiny-… of each
  deb                       the Debian package: server, agents, command, man pages, completion
  man                       the man pages, in target/man
  kernel                    build the Linux of an image without an initrd (once; it takes some minutes)
  fuzz [NAME] [--seconds N] each fuzz target, or one, for 300 s or as long as you say
  check                     formatting, lints, documentation, size of the agents
  help                      this

Whatever boots machines runs in a network of its own, with root's rights, and leaves nothing behind.
The variable WALT_CACHE names the directory for built images (/var/cache/walt-lab).
";

fn main() -> ExitCode {
    let start = Instant::now();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = run(&arguments);
    let code = result.unwrap_or_else(|error| {
        eprintln!("x: {error:#}");
        ExitCode::FAILURE
    });
    if !testbed::lab::inside() {
        eprintln!("x {}: {:.1} s", arguments.join(" "), start.elapsed().as_secs_f64());
    }
    code
}

fn run(arguments: &[&str]) -> Result<ExitCode> {
    match arguments {
        ["image", "build", name] | ["image", name] => {
            let recipe = image::Recipe::parse(name)?;
            let built = image::build(recipe, &agents::built(&[recipe.architecture()])?)?;
            println!("{} is {}", built.name, built.archive.display());
            Ok(ExitCode::SUCCESS)
        }
        ["agents"] => agents::run_command().map(|()| ExitCode::SUCCESS),
        ["kernel"] => {
            println!("{}", kernel::build()?.display());
            Ok(ExitCode::SUCCESS)
        }
        ["deb"] => deb::run_command(),
        ["man"] => {
            let directory = man::build()?;
            println!("{} man pages in {}", man::check(&directory)?, directory.display());
            Ok(ExitCode::SUCCESS)
        }
        ["demo"] => demo::run(),
        ["test"] => test::run(Extent::Usual),
        ["test", "--quick"] => test::run(Extent::Quick),
        ["test", "--all"] => test::run(Extent::All),
        ["check"] => check::run(),
        ["fuzz", named @ .., "--seconds", seconds] if named.len() <= 1 => {
            fuzz::run_targets(named.first().copied(), seconds.parse().context("--seconds wants a number")?)
        }
        ["fuzz", named @ ..] if named.len() <= 1 => fuzz::run_targets(named.first().copied(), 300),
        ["e2e", "--list"] | ["e2e"] => {
            e2e::list();
            Ok(ExitCode::SUCCESS)
        }
        ["e2e", name] => e2e::run(name),
        ["bench", name, options @ ..] => bench::run(name, options),
        [] | ["help" | "--help" | "-h"] => {
            print!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        other => bail!("no command {:?}; ./x help lists them", other.join(" ")),
    }
}

/// The root of the repository this program was built from.
fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

/// Where labs put their consoles, logs and state.
fn lab_directory() -> PathBuf {
    target_directory().join("lab")
}

/// Where cargo puts what it builds.
fn target_directory() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), PathBuf::from)
}
