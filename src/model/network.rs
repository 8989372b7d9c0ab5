//! What a vault says about where calls may come from.

/// What becomes of a call that no rule speaks of (Azure's `networkAcls.defaultAction`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DefaultAction {
    /// It may come from anywhere; rules are not asked.
    #[default]
    Allow,
    /// It is refused unless a rule lets it in.
    Deny,
}

/// Who needs no rule (Azure's `networkAcls.bypass`). Whoever it is, policies decide about them all the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Bypass {
    /// Nobody.
    #[default]
    None,
    /// Mounted volumes: what a node asks for in the name of a pod that runs on it.
    Volumes,
}

/// What the `Vault` resource says about where calls may come from. What it leaves out is as the vault's head has it, so that
/// whoever deletes the resource and makes it anew opens nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NetworkSettings {
    /// What becomes of a call that no rule speaks of.
    pub default_action: Option<DefaultAction>,
    /// Who needs no rule.
    pub bypass: Option<Bypass>,
}

impl NetworkSettings {
    /// What holds in a vault whose head says so; none where the head is not known and the resource leaves it to the head.
    #[must_use]
    pub fn over(self, head: Option<NetworkAcls>) -> Option<NetworkAcls> {
        match (head, self.default_action) {
            (None, None) => None,
            (head, _) => Some(head.unwrap_or_default().following(self)),
        }
    }
}

/// From where a vault may be called (Azure's `networkAcls`). The default is that of a new vault: from anywhere.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NetworkAcls {
    /// What becomes of a call that no rule speaks of.
    pub default_action: DefaultAction,
    /// Who needs no rule.
    pub bypass: Bypass,
}

impl NetworkAcls {
    /// What a resource's settings make of them.
    #[must_use]
    pub fn following(self, said: NetworkSettings) -> Self {
        Self {
            default_action: said.default_action.unwrap_or(self.default_action),
            bypass: said.bypass.unwrap_or(self.bypass),
        }
    }

    /// Whether rules are asked at all.
    #[must_use]
    pub const fn denies(&self) -> bool {
        matches!(self.default_action, DefaultAction::Deny)
    }
}

impl DefaultAction {
    /// Azure's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "Allow",
            Self::Deny => "Deny",
        }
    }
}

impl Bypass {
    /// Its word in a `Vault`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Volumes => "Volumes",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_resource_leaves_out_is_as_the_head_has_it() {
        use DefaultAction::{Allow, Deny};
        let head = |default_action, bypass| NetworkAcls {
            default_action,
            bypass,
        };
        let said = |default_action, bypass| NetworkSettings {
            default_action,
            bypass,
        };
        let open = head(Allow, Bypass::None);
        let closed = head(Deny, Bypass::Volumes);
        for (settings, known, holds) in [
            (said(None, None), Some(open), Some(open)),
            (said(None, None), Some(closed), Some(closed)),
            (
                said(Some(Allow), None),
                Some(closed),
                Some(head(Allow, Bypass::Volumes)),
            ),
            (
                said(None, Some(Bypass::None)),
                Some(closed),
                Some(head(Deny, Bypass::None)),
            ),
            (said(Some(Deny), None), Some(open), Some(head(Deny, Bypass::None))),
            // Without a head nothing that it could say is made up for it, and nobody is let through by a bypass.
            (said(None, None), None, None),
            (said(None, Some(Bypass::Volumes)), None, None),
            (said(Some(Allow), None), None, Some(open)),
            (said(Some(Deny), None), None, Some(head(Deny, Bypass::None))),
            (said(Some(Deny), Some(Bypass::Volumes)), None, Some(closed)),
        ] {
            assert_eq!(settings.over(known), holds, "{settings:?} over {known:?}");
        }
    }
}
