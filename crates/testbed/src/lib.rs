//! The lab: network namespaces and QEMU machines that the end-to-end tests, the demo and the benchmarks run in.

pub mod boards;
pub mod daemon;
pub mod host;
pub mod lab;
pub mod machine;
pub mod peers;
pub mod process;
pub mod ssh;
pub mod terminal;
