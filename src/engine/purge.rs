//! Purge: mark, remove all parts, leave a receipt.
//!
//! # Why
//! The mark is the point of no return: from it on the secret is neither live nor deleted, whoever ends the purge. The
//! receipt is the head itself, without content, under the same record: it keeps a write that is late from bringing back
//! what was purged, and says to a replica that lags that the life it knew was ended by a purge and not by a loss.

use super::decide::{self, Context, SealBody};
use super::heads::Head;
use super::objects::Value;
use super::{Asked, Engine, Error};
use crate::failpoints::{Point, here};
use crate::model::{ObjectName, Reply};

impl Engine {
    /// Removes a deleted secret for good, or ends what somebody else began.
    pub(super) async fn purge(&self, asked: Asked<'_>, name: &ObjectName) -> Result<Reply, Error> {
        // Whether the vault is protected against this is asked of the store, not of a memory that may lag.
        self.refresh(
            &self
                .seals
                .vault_record(&asked.entry.namespace_uid, &asked.entry.id.name)?,
        )
        .await?;
        let mark =
            |head: Option<&Head>, context: &Context, _: &SealBody<'_>| decide::purge(head, name, context);
        self.change(asked, name, Value::None, mark).await?;
        self.finish(asked, name).await
    }

    /// The same for a deleted secret whose date has come, at the clock's wish.
    pub(super) async fn purge_due(&self, asked: Asked<'_>, name: &ObjectName) -> Result<Reply, Error> {
        let mark =
            |head: Option<&Head>, context: &Context, _: &SealBody<'_>| decide::purge_due(head, context);
        match self.change(asked, name, Value::None, mark).await? {
            Reply::Purged => self.finish(asked, name).await,
            reply => Ok(reply),
        }
    }

    async fn finish(&self, asked: Asked<'_>, name: &ObjectName) -> Result<Reply, Error> {
        here(Point::PurgeMarked);
        self.purge_parts(asked, name)
            .await
            .map_err(|_| Error::PurgeUnfinished)?;
        here(Point::PartsRemoved);
        let end = |head: Option<&Head>, context: &Context, _: &SealBody<'_>| decide::end_purge(head, context);
        self.change(asked, name, Value::None, end)
            .await
            .map_err(|_| Error::PurgeUnfinished)
    }
}
