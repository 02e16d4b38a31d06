//! TFTP, HTTP and SNTP against the clients that people have: tftp-hpa, atftp, busybox, curl, chrony.
//!
//! Everything runs on the loopback interface, on ports that need no privilege.

mod boards;
mod http;
mod lossy;
mod site;
mod sntp;
mod tftp;
