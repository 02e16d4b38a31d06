//! From tars to a view: what each layer format and each stacking rule comes out as.
#![allow(missing_docs, reason = "tests")]

mod compare;
mod formats;
mod hostile;
mod merge;
mod mount;
mod server_layer;
mod stacked;
mod view;
