//! Writes a node's initramfs: `node-initramfs AGENT LIB_MODULES_RELEASE OUTPUT`.

use std::error::Error;
use std::fs;
use std::path::Path;

use walt_boot::initramfs::{Modules, for_node, modules_of};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [agent, modules, output] = &arguments[..] else {
        return Err("usage: node-initramfs AGENT LIB_MODULES_RELEASE OUTPUT".into());
    };
    let archive =
        for_node(&fs::read(agent)?, &Modules::open(Path::new(modules))?, modules_of(walt_boot::Architecture::X86_64))?;
    fs::write(output, &archive)?;
    println!("{output}: {} bytes", archive.len());
    Ok(())
}
