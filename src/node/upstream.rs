//! The other end of a volume's stream: `serve`, over the internal listener.

use futures::future::BoxFuture;

use crate::client::{Client, Projection, TokenSender};
use crate::model::{Kind, SecretBytes};
use crate::wire::{Open, ServeFrame};

/// Why there is no stream, or no longer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) kind: Kind,
    /// For a person.
    pub(super) reason: String,
}

/// Opens streams.
pub(super) trait Upstream: Send + Sync + 'static {
    /// Opens the stream of one volume.
    fn open(&self, open: Open) -> BoxFuture<'_, Result<Box<dyn Stream>, Lost>>;
}

/// One open stream; dropping it ends it.
pub(super) trait Stream: Send {
    /// What `serve` says next; none when it has ended the stream. May be dropped at any await.
    fn next(&mut self) -> BoxFuture<'_, Result<Option<ServeFrame>, Lost>>;

    /// Hands a younger token of the same pod over.
    fn token(&mut self, token: SecretBytes) -> BoxFuture<'_, Result<(), Lost>>;
}

fn lost(error: &crate::client::ClientError) -> Lost {
    Lost {
        kind: error.kind(),
        reason: error.to_string(),
    }
}

impl Upstream for Client {
    fn open(&self, open: Open) -> BoxFuture<'_, Result<Box<dyn Stream>, Lost>> {
        Box::pin(async move {
            let (tokens, frames) = self.project(open).await.map_err(|error| lost(&error))?;
            Ok(Box::new(ClientStream { tokens, frames }) as Box<dyn Stream>)
        })
    }
}

struct ClientStream {
    tokens: TokenSender,
    frames: Projection,
}

impl Stream for ClientStream {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<ServeFrame>, Lost>> {
        Box::pin(async move { self.frames.next().await.map_err(|error| lost(&error)) })
    }

    fn token(&mut self, token: SecretBytes) -> BoxFuture<'_, Result<(), Lost>> {
        Box::pin(async move { self.tokens.send(token).await.map_err(|error| lost(&error)) })
    }
}
