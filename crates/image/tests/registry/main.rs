//! The store against real peers: Debian's `docker-registry`, filled by `skopeo`, with a proxy in between that
//! misbehaves as networks and registries do.

mod archives;
mod authorization;
mod content;
mod faults;
mod keeping;
mod layout;
mod platforms;
mod proxy;
mod pulling;
mod server;
mod tls;
