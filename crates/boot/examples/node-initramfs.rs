//! Writes a node's initramfs: `node-initramfs AGENT LIB_MODULES_RELEASE OUTPUT`.

use std::error::Error;
use std::fs;
use std::path::Path;

use walt_boot::initramfs::{Modules, PC_MODULES, for_node};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [agent, modules, output] = &arguments[..] else {
        return Err("usage: node-initramfs AGENT LIB_MODULES_RELEASE OUTPUT".into());
    };
    let archive = for_node(&fs::read(agent)?, &Modules::open(Path::new(modules))?, &PC_MODULES)?;
    fs::write(output, &archive)?;
    println!("{output}: {} bytes", archive.len());
    Ok(())
}
