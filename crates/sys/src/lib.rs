//! Thin safe wrappers over system calls: the only crate of the project that contains `unsafe`.
#![allow(unsafe_code, reason = "this crate is where the project keeps its unsafe blocks")]

mod buffer;
pub mod child;
pub mod clock;
pub mod datagrams;
pub mod file_handle;
pub mod icmp6;
pub mod identity;
mod interface;
pub mod ipv4;
pub mod kernel_log;
mod mmap;
pub mod packet;
pub mod rtc;
pub mod tap;
pub mod user;

pub use buffer::enlarge_receive_buffer;
pub use interface::{Interface, InterfaceError};
pub use mmap::Mmap;
