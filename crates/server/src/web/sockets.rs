//! Sockets of the web API and of the control API over TCP.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use anyhow::Error;
use net::http;

use super::{Door, Doors, News, Tokens, Web};
use crate::control::Control;
use crate::counters::CounterTable;
use crate::services::explain;
use crate::settings;
use crate::supervise::Parts;

/// Where the web API and the control API are besides the nodes' address and the control socket.
#[derive(Debug)]
pub(crate) struct WebSockets {
    on_nodes: bool,
    web: Vec<http::HandlerServer>,
    control: Option<http::HandlerServer>,
    tokens: Option<Tokens>,
    counters: Arc<http::Counters>,
    denied: Arc<AtomicU64>,
}

impl WebSockets {
    /// Binds all of them, and reads the tokens. Needs the privileges that are given up afterwards.
    pub(crate) fn bind(settings: &settings::Web) -> Result<Self, Error> {
        let counters: Arc<http::Counters> = Arc::default();
        let bind = |address: SocketAddr, service| {
            let server = http::HandlerServer::bind(address, counters.clone());
            server.map_err(|error| {
                explain(error, service, "tcp", address.port()).context(format!("{service} can not be at {address}"))
            })
        };
        let mut web = Vec::new();
        for &address in &settings.listen {
            match bind(address, "the web API") {
                Ok(server) => web.push(server),
                Err(error) if settings.is_asked_for => return Err(error),
                // The nodes' address has it all the same.
                Err(error) => tracing::warn!("{error:#}; `web.listen` chooses another address"),
            }
        }
        Ok(Self {
            on_nodes: settings.api,
            web,
            control: settings.control.map(|address| bind(address, "the control API")).transpose()?,
            tokens: settings.token_file.as_deref().map(Tokens::load).transpose()?,
            counters,
            denied: Arc::default(),
        })
    }

    /// Starts all of them; returns what HTTP boot is to hand requests to.
    pub(crate) fn start(self, control: &Control, parts: &mut Parts) -> Option<Door> {
        let news = News::new(control.site.clone());
        parts.add("the events of nodes", news.clone().run());
        let doors = Doors::new(Web::new(control.clone(), news), self.tokens, self.denied);
        for server in self.web {
            parts.add("the web API", server.run(Arc::new(Door::Web(doors.clone()))));
        }
        if let Some(server) = self.control {
            parts.add("the control API over TCP", server.run(Arc::new(Door::Control(doors.clone()))));
        }
        self.on_nodes.then(|| Door::Nodes(doors))
    }

    pub(crate) fn list_counters(&self, table: &mut CounterTable) {
        table.add(
            "web",
            &self.counters,
            &[
                ("connections", |c: &http::Counters| &c.connections),
                ("overload", |c| &c.overload),
                ("requests", |c| &c.requests),
                ("failed", |c| &c.failed),
            ],
        );
        table.add("web", &self.denied, &[("denied", |c| c)]);
    }
}
