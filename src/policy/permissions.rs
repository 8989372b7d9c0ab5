//! Azure's secret permissions as a set.

/// A permission on secrets, under Azure's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SecretPermission {
    /// Read values and attributes.
    Get,
    /// See names and attributes.
    List,
    /// Make versions and update attributes.
    Set,
    /// Soft-delete.
    Delete,
    /// Bring back what was deleted.
    Recover,
    /// Remove for good what was deleted.
    Purge,
    /// Take all versions away, sealed.
    Backup,
    /// Bring what was backed up into a vault.
    Restore,
}

impl SecretPermission {
    /// Every permission there is: what `all` stands for.
    pub const ALL: [Self; 8] = [
        Self::Get,
        Self::List,
        Self::Set,
        Self::Delete,
        Self::Recover,
        Self::Purge,
        Self::Backup,
        Self::Restore,
    ];

    /// Azure's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Set => "set",
            Self::Delete => "delete",
            Self::Recover => "recover",
            Self::Purge => "purge",
            Self::Backup => "backup",
            Self::Restore => "restore",
        }
    }

    const fn bit(self) -> u8 {
        match self {
            Self::Get => 1,
            Self::List => 2,
            Self::Set => 4,
            Self::Delete => 8,
            Self::Recover => 16,
            Self::Purge => 32,
            Self::Backup => 64,
            Self::Restore => 128,
        }
    }
}

/// A permission's name that is none of Azure's, or one that is not enforced yet: it grants nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an access policy names a permission that does not exist; it grants nothing")]
pub struct UnknownPermission;

/// A set of permissions on secrets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Permissions(u8);

impl Permissions {
    /// Parses one of Azure's names, without case; `all` gives every one.
    ///
    /// # Errors
    /// [`UnknownPermission`].
    pub fn parse(name: &str) -> Result<Self, UnknownPermission> {
        if name.eq_ignore_ascii_case("all") {
            return Ok(SecretPermission::ALL.into_iter().collect());
        }
        SecretPermission::ALL
            .into_iter()
            .find(|permission| name.eq_ignore_ascii_case(permission.as_str()))
            .map(|permission| Self(permission.bit()))
            .ok_or(UnknownPermission)
    }

    /// Both sets together.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether it gives the permission.
    #[must_use]
    pub const fn contains(self, permission: SecretPermission) -> bool {
        self.0 & permission.bit() != 0
    }
}

impl FromIterator<SecretPermission> for Permissions {
    fn from_iter<I: IntoIterator<Item = SecretPermission>>(permissions: I) -> Self {
        permissions
            .into_iter()
            .fold(Self::default(), |set, permission| Self(set.0 | permission.bit()))
    }
}
