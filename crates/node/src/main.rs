//! `walt-node`: the programs of a node in one static binary, chosen by the name it is called by.

use std::process::ExitCode;

fn main() -> ExitCode {
    walt_node::run(std::env::args_os().collect())
}
