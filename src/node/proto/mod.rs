//! The kubelet's two protocols, as far as they are served. `*.rs` beside this file is generated from `*.proto`; a test
//! compares them.

#![allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::missing_const_for_fn,
    clippy::use_self,
    clippy::needless_pass_by_value,
    clippy::match_wildcard_for_single_variants,
    clippy::or_fun_call,
    reason = "generated"
)]

#[rustfmt::skip]
#[path = "csi.v1.rs"]
pub(super) mod csi;
#[rustfmt::skip]
#[path = "pluginregistration.rs"]
pub(super) mod registration;

/// Shows which volume; its maps hold tokens.
impl std::fmt::Debug for csi::NodePublishVolumeRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodePublishVolumeRequest")
            .field("volume_id", &self.volume_id)
            .finish_non_exhaustive()
    }
}
