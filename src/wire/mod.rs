//! What the processes of one installation say to each other on the internal listener.
//!
//! Two conversations, both over HTTP/2 with the speaker's own service-account token as `authorization: Bearer`:
//!
//! * **Projection** (`node` to `serve`, [`PROJECTION_PATH`]): one `POST` per mounted volume whose two bodies stay open.
//!   The request body is [`NodeFrame`]s: first [`NodeFrame::Open`], then a [`NodeFrame::Token`] whenever the kubelet
//!   brings a younger token of the workload pod. The response body is [`ServeFrame`]s. Each frame is a length of four
//!   bytes (big endian) and that many bytes of CBOR.
//! * **Operation** (`operate` to `serve`): one `POST` of JSON per action ([`Action::path`]), answered by [`ActionReply`]
//!   or an [`ActionRefusal`]; [`SUMMARIES_PATH`], a `GET` whose body is [`SummaryFrame`]s in the same framing, JSON
//!   inside; and [`LIFECYCLE_PATH`], a `GET` that is answered at once.
//!
//! All of it is parsed into types that cannot hold a wrong thing: a [`FilePlan`] that escapes its folder does not exist.
//! Everything has a bound; no input makes a parser here panic.

mod files;
mod framing;
mod lifecycle;
mod objects;
mod operate;
mod projection;
mod text;

pub use files::{FileMode, FilePath, FilePlan, InvalidPlan, PlannedFile, TRUST_BUNDLE_FILE};
pub use framing::{Frame, FrameDecoder, InvalidFrame, encode};
pub use lifecycle::{LIFECYCLE_PATH, MAX_LIFECYCLE_BYTES, read_lifecycle, write_lifecycle};
pub use objects::{InvalidObjects, MAX_OBJECTS_BYTES, ObjectList, RequestedSecret};
pub use operate::{
    Action, ActionRefusal, ActionReply, DELETE_OWNED_PATH, DeleteOwnedAction, ENSURE_GENERATED_SECRET_PATH,
    ENSURE_VAULT_PATH, EnsureGeneratedSecretAction, EnsureVaultAction, InvalidAction, MAX_ACTION_BYTES,
    SUMMARIES_PATH, SummaryFrame,
};
pub use projection::{NodeFrame, Open, PROJECTION_PATH, Refused, ServeFrame, Unavailable};
