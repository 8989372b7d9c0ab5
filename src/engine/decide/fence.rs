//! A write that changes nothing, so that nothing comes after it that was decided before.

use super::set::new_head;
use super::{Context, Step, following};
use crate::engine::Error;
use crate::engine::heads::Head;
use crate::model::{ObjectName, Reply};

/// After this no write comes through that expects a state before it. Where there is no head it leaves a receipt, as a purge
/// does, since a creation expects that there is none.
pub(in crate::engine) fn fence(
    head: Option<&Head>,
    name: &ObjectName,
    context: &Context,
) -> Result<Step<Head>, Error> {
    let mut head = match head {
        Some(head) => following(head, context)?,
        None => new_head(name, context),
    };
    // Nothing but the purges that it tells of says for how long a receipt stays.
    if head.is_free() && head.purged.lately.is_empty() {
        head.purged.note(head.incarnation, context.now);
    }
    Ok(Step::Write {
        head,
        reply: Reply::Purged,
        exempt: true,
    })
}
