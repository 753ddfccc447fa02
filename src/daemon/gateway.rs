//! The gateways before media servers: where they listen, and what they know.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::gateway_calls::{Calls, Ground};
use super::hub::Hub;
use super::listening::{DaemonError, address_of, listen_for_many};
use crate::config::Config;
use crate::domain::catalogue::Placing;
use crate::domain::layout::LayoutKind;
use crate::domain::media::{GatewaySettings, MediaServerSettings};
use crate::domain::names::{MediaServerId, TreeId};
use crate::domain::stream_place::own_trees;
use crate::server::{Limits, serve_gateway};
use crate::system::Volumes;
use crate::zlmediakit::{Fronted, Upstream, gateway_router};

/// One gateway.
struct Gate {
    name: MediaServerId,
    listen: SocketAddr,
    fronted: Arc<ArcSwap<Fronted>>,
    calls: Arc<Calls>,
}

/// The gateways of the configuration that the guard was started with.
pub(super) struct Gateways(Vec<Gate>);

/// The media servers that have a gateway. The configuration was checked: each has a secret, and an address that can be passed on to.
fn with_gateway(
    all: &[MediaServerSettings],
) -> impl Iterator<Item = (&MediaServerSettings, &GatewaySettings, Fronted)> {
    all.iter().filter_map(|server| {
        let fronted = Fronted { upstream: Upstream::new(&server.api).ok()?, secret: server.secret.clone()? };
        Some((server, server.gateway.as_ref()?, fronted))
    })
}

impl Gateways {
    /// Nobody listens yet.
    pub(super) fn of(config: &Config, hub: &Arc<Hub>, machine: &Arc<dyn Volumes>) -> Self {
        let gate = |(server, settings, fronted): (&MediaServerSettings, &GatewaySettings, Fronted)| Gate {
            name: server.name.clone(),
            listen: settings.listen,
            fronted: Arc::new(ArcSwap::from_pointee(fronted)),
            calls: Arc::new(Calls::new(&server.name, ground(config, server, settings), hub.clone(), machine.clone())),
        };
        Self(with_gateway(&config.media_servers).map(gate).collect())
    }

    /// Listens until the shutdown.
    pub(super) fn serve(
        &self,
        tasks: &mut JoinSet<()>,
        open_files: u64,
        shutdown: &watch::Receiver<bool>,
    ) -> Result<(), DaemonError> {
        let limits = Limits::for_gateways(open_files, self.0.len());
        for gate in &self.0 {
            let listener = listen_for_many(gate.listen)?;
            let address = address_of(&listener);
            tracing::info!(media_server = %gate.name, %address, "Listening before the media server's API.");
            let router = gateway_router(gate.fronted.clone(), gate.calls.clone());
            tasks.spawn(serve_gateway(listener, router, limits, shutdown.clone()));
        }
        Ok(())
    }

    /// What another configuration wants and cannot have while the guard runs.
    pub(super) fn refuses(&self, all: &[MediaServerSettings]) -> Option<String> {
        let now: Vec<_> = self.0.iter().map(|gate| (&gate.name, gate.listen)).collect();
        let wanted: Vec<_> = with_gateway(all).map(|(server, settings, _)| (&server.name, settings.listen)).collect();
        let text = "the media servers that have a gateway, and their gateway.listen, cannot be changed while the guard runs; start it again";
        (now != wanted).then(|| text.to_owned())
    }

    /// Another configuration is in force.
    pub(super) fn set(&self, config: &Config) {
        for (server, settings, fronted) in with_gateway(&config.media_servers) {
            if let Some(gate) = self.0.iter().find(|gate| gate.name == server.name) {
                gate.fronted.store(Arc::new(fronted));
                gate.calls.set(ground(config, server, settings));
            }
        }
    }
}

/// What a gateway knows of the trees.
fn ground(config: &Config, server: &MediaServerSettings, settings: &GatewaySettings) -> Ground {
    let trees: Vec<(TreeId, PathBuf)> =
        config.trees.iter().map(|tree| (tree.name.clone(), tree.path.clone())).collect();
    let fits = |tree: &TreeId| {
        let of = config.trees.iter().find(|known| known.name == *tree);
        // What `auto` makes of a tree is known once it was scanned; such a tree is only observed.
        of.is_some_and(|tree| matches!(tree.policy.layout.kind(), LayoutKind::Zlmediakit | LayoutKind::Auto))
    };
    let fitting: Vec<(TreeId, PathBuf)> = trees.iter().filter(|(tree, _)| fits(tree)).cloned().collect();
    let claimed = |tree: &TreeId| {
        let of = config.trees.iter().filter(|known| known.name == *tree);
        let named = of.flat_map(|tree| &tree.policy.catalogues);
        let catalogues = named.filter_map(|name| config.catalogues.iter().find(|catalogue| catalogue.name == *name));
        catalogues.filter_map(|catalogue| catalogue.media_server.as_deref()).any(|of| of == server.name.as_str())
    };
    let own = own_trees(&fitting, &server.path_map, &claimed, config.media_servers.len() == 1);
    Ground {
        answer_within: settings.answer_within,
        placing: Placing { trees, path_map: server.path_map.clone(), media_server: None, relative: false },
        fitting: fitting.into_iter().map(|(tree, _)| tree).collect(),
        own,
    }
}
