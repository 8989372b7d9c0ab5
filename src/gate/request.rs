//! What is asked, beside who asks.

use crate::audit::About;
use crate::model::{Operation, VaultId};

/// One request, as a listener understood it.
#[derive(Debug)]
pub struct Request {
    /// Which vault, by the host that the client used.
    pub vault: VaultId,
    /// What to do there.
    pub operation: Operation,
    pub(super) about: About,
}

impl Request {
    /// A request about which nothing more is known.
    #[must_use]
    pub fn new(vault: VaultId, operation: Operation) -> Self {
        Self {
            vault,
            operation,
            about: About::default(),
        }
    }

    /// The `api-version` asked for.
    #[must_use]
    pub fn api_version(mut self, version: &str) -> Self {
        self.about.api_version = Some(version.to_owned());
        self
    }

    /// `x-ms-client-request-id`; the audit keeps a bounded, filtered form of it.
    #[must_use]
    pub fn client_request_id(mut self, id: Option<&str>) -> Self {
        self.about.client_request_id = id.map(str::to_owned);
        self
    }

    /// `User-Agent`; the audit keeps a bounded, filtered form of it.
    #[must_use]
    pub fn user_agent(mut self, agent: Option<&str>) -> Self {
        self.about.user_agent = agent.map(str::to_owned);
        self
    }

    /// The host that the client used, with its port.
    #[must_use]
    pub fn host(mut self, host: String) -> Self {
        self.about.host = Some(host);
        self
    }

    /// Our own id of the request, which the answer carries too.
    #[must_use]
    pub fn request_id(mut self, id: &str) -> Self {
        self.about.request_id = Some(id.to_owned());
        self
    }
}
