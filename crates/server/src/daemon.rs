//! The daemon's life: settings, state, sockets, privileges, service, and a clean end.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Error};
use clap::Parser;
use net::{Boards, Exports};
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::hooks::Hooks;
use crate::machines::{Host, Machines};
use crate::registry::Registry;
use crate::server_files::{Network, ServerIdentity};
use crate::services::{NodeInterface, Services};
use crate::settings::{Flags, Settings};
use crate::site::{Images, Site};
use crate::web::Tokens;
use crate::{journal, links, privileges};

/// Time that boards have to come from their firmware to U-Boot when the daemon stops.
const BOARDS_FINISH: Duration = Duration::from_secs(10);
/// Time that connections have to end when the daemon stops.
const GOODBYE: Duration = Duration::from_secs(2);

/// sysexits(3), `EX_CONFIG`: systemd does not try again what only a person can mend.
const WRONG_CONFIGURATION: u8 = 78;

/// Runs the daemon as the command line says, to its end.
pub fn run() -> ExitCode {
    let flags = Flags::parse();
    let result = journal::start(&flags.log).and_then(|()| Ok(Settings::load(&flags)?));
    let settings = match result {
        Ok(settings) => settings,
        Err(error) => {
            tracing::error!("{error:#}");
            return ExitCode::from(WRONG_CONFIGURATION);
        }
    };
    match if flags.check_config { check(&settings) } else { serve(&settings) } {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Says what can be said about the settings without changing anything.
fn check(settings: &Settings) -> Result<(), Error> {
    let nodes = NodeInterface::find(&settings.interface)?;
    nodes.dhcp(settings)?;
    if let Some(tokens) = &settings.web.token_file {
        Tokens::load(tokens)?;
    }
    println!("{settings:#?}");
    println!("the configuration is valid; nodes reach this server as {}", nodes.address);
    Ok(())
}

fn serve(settings: &Settings) -> Result<(), Error> {
    rustix::process::umask(rustix::fs::Mode::WGRP | rustix::fs::Mode::WOTH);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("walt")
        // This thread alone keeps its privileges until the sockets are bound.
        .on_thread_start(privileges::drop_or_exit)
        .build()
        .context("can not start the runtime")?;
    let result = runtime.block_on(start_and_serve(settings));
    runtime.shutdown_timeout(GOODBYE);
    result
}

async fn start_and_serve(settings: &Settings) -> Result<(), Error> {
    // From here on a signal is heeded, if not at once.
    let mut signals = Signals::listen()?;
    let nodes = NodeInterface::find(&settings.interface)?;
    // What the configuration gets wrong is said before anything is touched.
    nodes.dhcp(settings)?;
    // First of all the lock on the state: what follows assumes that nobody else works on it.
    let store = image::Store::open_with(&settings.state_dir, settings.limits).context(
        "can not use the state directory (one daemon a state directory: stop the other one, or use --state-dir)",
    )?;
    let (registry, writer, loaded) = Registry::open(&settings.state_dir.join("walt.db"), settings.logs)?;
    journal::keep_in(&registry);
    let exports = Arc::new(Exports::default());
    let for_defaults = settings.clone();
    let (site, inbox) = Site::new(
        &loaded,
        move |model| for_defaults.default_image(model),
        registry.clone(),
        exports.clone(),
        Images::new(store, identity(settings, &nodes)?, registries(settings)),
        Hooks::new(settings.hooks.lease.clone()),
        Machines::new(machine_host(settings), registry.clone()),
        settings.state_dir.clone(),
    );
    site.images().clean_stale_mounts().await;
    site.end_stray_machines().await;
    site.open_persist(settings.limits.reserve).await;
    // Before anything answers: a node that was up goes on reading what it had mounted.
    site.reopen().await;
    links::repair(&settings.state_dir, &site.all_links()).context("can not set the links of the nodes")?;
    let services = Services::bind(settings, &nodes, &loaded, &registry, &exports).await?;
    privileges::drop_unneeded().context("can not give up privileges")?;
    let mut parts = services.start(&site, inbox)?;
    site.images().mount_all().await;

    tracing::info!(interface = settings.interface, address = %nodes.address, "ready");
    notify(&[NotifyState::Ready]);
    let result = tokio::select! {
        stopped = parts.stopped() => Err(stopped.into()),
        () = signals.asked_to_stop() => Ok(()),
        () = watchdog() => Ok(()),
    };
    notify(&[NotifyState::Stopping]);
    tracing::info!("stopping");
    if result.is_ok() {
        tokio::select! {
            () = let_boards_finish(exports.boards(), BOARDS_FINISH) => {}
            // Whoever asks twice means it.
            () = signals.asked_to_stop() => {}
            stopped = parts.stopped() => tracing::error!("{stopped}"),
        }
        // Whoever comes next must not find a socket that nobody listens on. After a failure it
        // stays, and the next daemon replaces it.
        let _ = std::fs::remove_file(&settings.socket);
    }
    drop(parts);
    site.images().unmount_all().await;
    // Writes what is left.
    drop(writer);
    result
}

/// Lets no boot begin any more, and those boards finish that have no firmware left once they lose us: some would hang
/// until somebody switches them off and on.
async fn let_boards_finish(boards: &Boards, limit: Duration) {
    let begun = Instant::now();
    boards.close();
    let waiting = boards.on_their_way(begun);
    if waiting == 0 {
        return;
    }
    tracing::info!(boards = waiting, "boards are loading their firmware: they have {} s", limit.as_secs());
    while boards.on_their_way(Instant::now()) > 0 && begun.elapsed() < limit {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn machine_host(settings: &Settings) -> Host {
    let beside_socket = settings.socket.parent().unwrap_or(Path::new("/run/walt"));
    Host {
        bridge: settings.interface.clone(),
        state_dir: settings.state_dir.clone(),
        runtime_dir: beside_socket.join("machines"),
        user: settings.virtual_nodes.user.clone(),
        accelerator: settings.virtual_nodes.accelerator,
    }
}

fn identity(settings: &Settings, nodes: &NodeInterface) -> Result<ServerIdentity, Error> {
    let network = Network {
        server_ip: nodes.address,
        server_mac: nodes.interface.mac,
        name_servers: settings.dhcp.dns.clone(),
        domain: settings.dhcp.domain.clone(),
    };
    ServerIdentity::gather(&settings.state_dir.join("keys"), settings.agent_dir.clone(), network)
        .context("can not prepare the keys that nodes know the server by")
}

fn registries(settings: &Settings) -> image::RegistrySettings {
    // Few attempts at once: registration tries again by itself, and tells why meanwhile.
    image::RegistrySettings { insecure: settings.registries.insecure.clone(), attempts: 3, ..Default::default() }
}

/// The signals by which the daemon is asked to stop.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> Result<Self, Error> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("can not wait for SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("can not wait for SIGINT")?,
        })
    }

    /// Ends when one has come.
    async fn asked_to_stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Tells systemd that the runtime turns, if it wants to know; never ends.
async fn watchdog() {
    let Some(period) = sd_notify::watchdog_enabled() else { return std::future::pending().await };
    loop {
        notify(&[NotifyState::Watchdog]);
        tokio::time::sleep(period / 3).await;
    }
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "can not notify systemd");
    }
}

#[cfg(test)]
mod tests {
    use net::{BoardSeen, MacAddr};

    use super::*;

    #[tokio::test]
    async fn the_end_waits_for_boards_but_not_for_ever() {
        let limit = Duration::from_millis(300);
        let (boards, begun) = (Boards::default(), Instant::now());
        let_boards_finish(&boards, limit).await;
        assert!(boards.is_closing() && begun.elapsed() < limit, "nobody is on the way");

        let (mac, ip) = (MacAddr([0xb8, 0x27, 0xeb, 0, 0, 1]), [10, 0, 0, 5].into());
        boards.see(mac, BoardSeen::Firmware(ip), Instant::now());
        let (_transfer, begun) = (boards.transfer(ip, Instant::now()), Instant::now());
        let_boards_finish(&boards, limit).await;
        let took = begun.elapsed();
        assert!(took >= limit && took < 5 * limit, "{took:?}");
    }
}
