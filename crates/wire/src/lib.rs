//! Codecs of the boot services: bytes in, values out.
//!
//! Nothing here does I/O, reads a clock or contains `unsafe`; no input makes it panic; nothing is
//! allocated by a length that has not been checked against the bytes that are really there.
#![forbid(unsafe_code)]

pub mod lldp;
pub mod mount;
pub mod nfs3;
pub mod node;
pub mod portmap;
pub mod record;
pub mod rpc;
pub mod sntp;
pub mod ssh;
pub mod ssh_agent;
pub mod tar;
pub mod tftp;
pub mod xdr;
