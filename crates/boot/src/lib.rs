//! What a machine needs to boot before its OS image runs: the table of node models and the
//! bootloader scripts.
