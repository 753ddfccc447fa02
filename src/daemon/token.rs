//! The operator's token.

use super::hub::Hub;
use crate::config::Config;
use crate::domain::cause::chain;
use crate::domain::event::Event;
use crate::domain::secret::Secret;
use crate::server::operator_token;

/// The operator's token, made at first start where no tokens are configured.
pub(super) fn operator(config: &Config, state: &std::path::Path, hub: &Hub) -> Option<Secret> {
    if !config.auth.tokens.is_empty() {
        return None;
    }
    match operator_token(state) {
        Ok(token) => Some(token),
        Err(error) => {
            let text = format!("{}; until then only the control socket takes requests", chain(&error));
            hub.record(&Event::Remark { text, urgent: false });
            None
        }
    }
}
