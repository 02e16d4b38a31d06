//! DHCP with real clients and real servers, in network namespaces. These tests need root, and fail without.

mod clients;
mod external;
mod ipxe;
mod netns;
mod search;
