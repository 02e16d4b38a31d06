//! libnfs.
