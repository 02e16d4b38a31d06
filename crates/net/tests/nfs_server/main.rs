//! Port mapper, MOUNT and NFSv3: through the dispatcher, over real sockets, and with libnfs' programs.

mod access;
mod client;
mod image;
mod persist;
mod power_cut;
mod procedures;
mod tools;
mod transport;
