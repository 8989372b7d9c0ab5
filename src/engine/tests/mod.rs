//! The engine as a whole, over the memory store.

mod answers;
mod backup;
mod confirm;
mod damage;
mod drops;
mod lists;
mod management;
mod model;
mod parts;
mod purge;
mod retries;
mod root_versions;
mod secrets;
mod shaky;
pub(super) mod support;
mod vaults;
