//! What is asked, beside who asks.

use std::borrow::Cow;

use crate::audit::About;
use crate::model::{Operation, VaultId};

/// One request, as a listener understood it.
#[derive(Debug)]
pub struct Request<'a> {
    /// Which vault, by the host that the client used.
    pub vault: VaultId,
    /// What to do there.
    pub operation: Operation,
    pub(super) about: About<'a>,
}

impl<'a> Request<'a> {
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
    pub fn api_version(mut self, version: &'a str) -> Self {
        self.about.api_version = Some(Cow::Borrowed(version));
        self
    }

    /// `x-ms-client-request-id`; the audit keeps a bounded, filtered form of it.
    #[must_use]
    pub fn client_request_id(mut self, id: Option<&'a str>) -> Self {
        self.about.client_request_id = id.map(Cow::Borrowed);
        self
    }

    /// `User-Agent`; the audit keeps a bounded, filtered form of it.
    #[must_use]
    pub fn user_agent(mut self, agent: Option<&'a str>) -> Self {
        self.about.user_agent = agent.map(Cow::Borrowed);
        self
    }

    /// The host that the client used, with its port.
    #[must_use]
    pub fn host(mut self, host: &'a str) -> Self {
        self.about.host = Some(Cow::Borrowed(host));
        self
    }

    /// Our own id of the request, which the answer carries too.
    #[must_use]
    pub fn request_id(mut self, id: &'a str) -> Self {
        self.about.request_id = Some(Cow::Borrowed(id));
        self
    }
}
