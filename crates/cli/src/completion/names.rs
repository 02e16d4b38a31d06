//! Names that the server knows.

use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use api::{Checkpoint, Image, Node, NodeKind};
use serde::de::DeserializeOwned;

use crate::http::Client;
use crate::node::familiar;

/// How long somebody who has pressed a key waits for names. A server on the same machine needs some milliseconds.
const PATIENCE: Duration = Duration::from_millis(400);

/// A name, and what a shell shows beside it.
#[derive(Debug, Clone)]
pub(super) struct Name {
    pub(super) name: String,
    pub(super) about: String,
}

/// The server to ask.
#[derive(Debug, Clone)]
pub(super) struct Names {
    socket: Arc<PathBuf>,
}

impl Names {
    pub(super) fn of(socket: PathBuf) -> Self {
        Self { socket: Arc::new(socket) }
    }

    pub(super) fn nodes(&self) -> Vec<Name> {
        self.devices_that(|node| node.kind == NodeKind::Node)
    }

    pub(super) fn devices(&self) -> Vec<Name> {
        self.devices_that(|_| true)
    }

    fn devices_that(&self, wanted: impl Fn(&Node) -> bool) -> Vec<Name> {
        let nodes: Vec<Node> = self.ask("/v1/nodes?all=true");
        let nodes = nodes.into_iter().filter(wanted).map(|node| {
            let model = node.model.unwrap_or_else(|| "unknown".into());
            Name { about: format!("{model}, {}", node.state.as_str()), name: node.name }
        });
        nodes.collect()
    }

    pub(super) fn images(&self) -> Vec<Name> {
        let images: Vec<Image> = self.ask("/v1/images");
        let images = images.into_iter();
        let mut names: Vec<Name> =
            images.map(|image| Name { name: familiar(&image.name), about: image.models.join(", ") }).collect();
        // The variants of an image for several architectures have one name.
        names.dedup_by(|a, b| a.name == b.name);
        names
    }

    pub(super) fn checkpoints(&self) -> Vec<Name> {
        let checkpoints: Vec<Checkpoint> = self.ask("/v1/checkpoints");
        checkpoints.into_iter().map(|checkpoint| Name { name: checkpoint.name, about: String::new() }).collect()
    }

    /// What the server answers in time; else nothing.
    fn ask<T: DeserializeOwned + Default + Send + 'static>(&self, target: &'static str) -> T {
        let (answered, answer) = mpsc::channel();
        let socket = self.socket.clone();
        // A server that sends a byte now and then keeps within the patience of each read: the whole has a limit, too.
        std::thread::spawn(move || {
            // Nobody may be waiting any more.
            let _ = answered.send(Client::with_patience(&socket, PATIENCE).get::<T>(target));
        });
        answer.recv_timeout(PATIENCE).ok().and_then(Result::ok).unwrap_or_default()
    }
}
