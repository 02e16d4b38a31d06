//! The lab: network namespaces and QEMU machines that the end-to-end tests, the demo and the benchmarks run in.
