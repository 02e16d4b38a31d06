//! Developer commands: everything that would otherwise be a long shell script.
fn main() {}
