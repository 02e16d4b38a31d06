//! Other people's servers: what we work beside, and what we measure ourselves against.

mod dhcpd;
mod dnsmasq;
mod ganesha;
mod registry;

pub use dhcpd::Dhcpd;
pub use dnsmasq::Dnsmasq;
pub use ganesha::Ganesha;
pub use registry::Registry;
