//! Thin safe wrappers over system calls: the only crate of the project that contains `unsafe`.
#![allow(unsafe_code, reason = "this crate is where the project keeps its unsafe blocks")]

mod interface;
mod mmap;

pub use interface::{Interface, InterfaceError};
pub use mmap::Mmap;
