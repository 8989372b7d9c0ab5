//! The way of the lifecycle clock: what is due comes through the same door as what is asked.

use std::sync::Arc;

use super::{Admitted, Gate, Refusal};
use crate::model::{Caller, Lifecycle, ObjectName, StoredVault, VaultId, deletions_left};

/// A vault that is there, and whether the management plane has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// As its head has it.
    pub vault: StoredVault,
    /// As the world has it.
    pub declared: Declared,
}

/// Whether the world has a resource for a vault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Declared {
    /// There is one of its name in its namespace.
    Yes,
    /// There is none of its name.
    No,
    /// There is one of its name, in a namespace that has been made anew: another tenant's.
    Elsewhere,
}

impl Gate {
    /// The lifecycle clock of this process. Called in `clock` alone, which a test sees to.
    #[must_use]
    pub fn admit_clock(&self) -> Admitted {
        Admitted {
            caller: Arc::new(Caller::Clock),
            peer: None,
            share: None,
            generation: self.parts.world.load().generation,
        }
    }

    /// Every vault that is there and not damaged, for the clock and for `operate`, whose status tells of the deleted ones. It
    /// discloses nothing that is in them.
    ///
    /// # Errors
    /// [`super::Reason::NotOnList`] for everybody else; [`super::Reason::OutOfStanding`] where it cannot be said what is
    /// declared.
    pub fn kept(&self, admitted: &Admitted) -> Result<Vec<Kept>, Refusal> {
        match &*admitted.caller {
            Caller::Clock | Caller::Operator => {}
            Caller::ServiceAccount(_) => return Err(Refusal::not_on_list()),
        }
        let (_, world) = self.look()?;
        let stored = self.parts.engine.stored_vaults().into_iter();
        let kept = stored.map(|vault| {
            let declared = match world.vaults.get(&vault.id) {
                None => Declared::No,
                Some(entry) if entry.namespace_uid == vault.namespace_uid => Declared::Yes,
                Some(_) => Declared::Elsewhere,
            };
            Kept { vault, declared }
        });
        Ok(kept.collect())
    }

    /// What becomes of vaults whose resources are gone, for status.
    ///
    /// # Errors
    /// As [`Gate::kept`].
    pub fn lifecycle(&self, admitted: &Admitted) -> Result<Lifecycle, Refusal> {
        let kept = self.kept(admitted)?;
        let gone = |kept: &&Kept| kept.vault.deletion.is_none() && kept.declared != Declared::Yes;
        let gone = kept.iter().filter(gone).count();
        let vaults: Vec<_> = kept.into_iter().map(|kept| kept.vault).collect();
        let left = self.deletions_left(&vaults);
        let deleted = vaults.into_iter().filter(|vault| vault.deletion.is_some());
        Ok(Lifecycle {
            deleted: deleted.collect(),
            waiting: gone.saturating_sub(left) as u64,
            source_addresses: self.parts.identity.source_addresses(),
        })
    }

    /// How many more vaults may be deleted within this hour.
    #[must_use]
    pub fn deletions_left(&self, vaults: &[StoredVault]) -> usize {
        let now = self.parts.clock.now().wall;
        deletions_left(vaults, self.parts.deletions_per_hour, now)
    }

    /// Deleted secrets whose date has come by our clock, for the clock.
    ///
    /// # Errors
    /// As [`Gate::kept`].
    pub fn due_secrets(&self, admitted: &Admitted) -> Result<Vec<(VaultId, ObjectName)>, Refusal> {
        match &*admitted.caller {
            Caller::Clock => {}
            Caller::Operator | Caller::ServiceAccount(_) => return Err(Refusal::not_on_list()),
        }
        let (now, _) = self.look()?;
        Ok(self.parts.engine.due_secrets(now.wall))
    }
}
