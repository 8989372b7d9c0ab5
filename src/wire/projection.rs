//! The conversation between `node` and `serve` about one mounted volume.

use minicbor::{Decode, Encode};

use super::files::FilePlan;
use super::framing::{Frame, InvalidFrame};
use super::objects::MAX_OBJECTS_BYTES;
use super::text::{kind, secret};
use crate::model::{Kind, SecretBytes};

/// `POST` here, on the internal listener.
pub const PROJECTION_PATH: &str = "/projection";

/// What `node` says.
#[derive(Debug, Encode, Decode)]
pub enum NodeFrame {
    /// First, and once.
    #[n(0)]
    Open(#[n(0)] Open),
    /// A younger token of the same workload pod; `serve` uses it from now on.
    #[n(1)]
    Token(#[cbor(n(0), with = "secret")] SecretBytes),
}

/// What a volume asks for, as its pod says it. Who asks follows from the token alone.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct Open {
    /// The kubelet's id of the volume, for log lines; at most 256 bytes.
    #[n(0)]
    pub volume: String,
    /// The volume's `vault` attribute: a vault of the workload pod's namespace. Not yet parsed; at most 64 bytes.
    #[n(1)]
    pub vault: String,
    /// The volume's `objects` attribute, not yet parsed ([`super::ObjectList::parse`]).
    #[n(2)]
    pub objects: String,
    /// The workload pod's service-account token of our audience, as the kubelet handed it over.
    #[cbor(n(3), with = "secret")]
    pub token: SecretBytes,
    /// Whether the pod has files of this volume already, by what `node` knows. It is for texts alone: nothing is decided
    /// by it.
    #[cbor(n(4), default)]
    pub mounted: bool,
}

/// What `serve` says. A stream stays open after each of them and speaks again when the answer changes, until `serve` ends
/// it (the token's end, a replica that stops); then `node` opens another with the newest token that it has.
#[derive(Debug, Encode, Decode)]
pub enum ServeFrame {
    /// All files of the volume, now.
    #[n(0)]
    Files(#[n(0)] FilePlan),
    /// The workload may not have them, or there is nothing to have. What is mounted stays as it is.
    #[n(1)]
    Refused(#[n(0)] Refused),
    /// `serve` cannot tell right now. What is mounted stays as it is.
    #[n(2)]
    Unavailable(#[n(0)] Unavailable),
    /// Nothing new: sent every [`ServeFrame::PING_SECONDS`] so that a dead peer is noticed.
    #[n(3)]
    Ping,
    /// The workload pod is being deleted: a mount that still waits for its first files is given up. Access goes on until
    /// the pod is gone, so files may follow.
    #[n(4)]
    PodEnding,
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Refused {
    /// What kind of refusal.
    #[cbor(n(0), with = "kind")]
    pub kind: Kind,
    /// For the person who reads the pod's events: what Azure's error says, and no more. At most 1 KiB counts.
    #[n(1)]
    pub message: String,
}

/// No answer for now.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Unavailable {
    /// For the person who reads the pod's events.
    #[n(0)]
    pub message: String,
    /// If the stream ends after this, open the next no sooner than in this many seconds.
    #[n(1)]
    pub retry_after_seconds: u32,
}

impl NodeFrame {
    /// Longest token that is accepted, in bytes.
    pub const MAX_TOKEN: usize = 16 * 1024;
    /// Longest volume id that is accepted, in bytes.
    pub const MAX_VOLUME: usize = 256;
    /// Longest `vault` attribute that is accepted, in bytes.
    pub const MAX_VAULT: usize = 64;

    fn is_within_bounds(&self) -> bool {
        let token = match self {
            Self::Open(open) => &open.token,
            Self::Token(token) => token,
        };
        let open_is_good = match self {
            Self::Open(open) => {
                open.volume.len() <= Self::MAX_VOLUME
                    && open.vault.len() <= Self::MAX_VAULT
                    && open.objects.len() <= MAX_OBJECTS_BYTES
            }
            Self::Token(_) => true,
        };
        open_is_good && token.len() <= Self::MAX_TOKEN
    }
}

impl ServeFrame {
    /// How often [`ServeFrame::Ping`] comes, in seconds.
    pub const PING_SECONDS: u64 = 10;
}

impl Frame for NodeFrame {
    const MAX: usize = MAX_OBJECTS_BYTES + Self::MAX_TOKEN + 1024;

    fn size(&self) -> usize {
        match self {
            Self::Open(open) => {
                open.objects.len() + open.vault.len() + open.volume.len() + open.token.len() + 64
            }
            Self::Token(token) => token.len() + 64,
        }
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<(), InvalidFrame> {
        if !self.is_within_bounds() {
            return Err(InvalidFrame::TooLarge);
        }
        write_cbor(self, out)
    }

    fn read(payload: &[u8]) -> Result<Self, InvalidFrame> {
        let frame: Self = read_cbor(payload)?;
        if frame.is_within_bounds() {
            Ok(frame)
        } else {
            Err(InvalidFrame::TooLarge)
        }
    }
}

impl Frame for ServeFrame {
    // Content, and beside each file its path, mode and the encoding's few bytes.
    const MAX: usize = FilePlan::MAX_BYTES + FilePlan::MAX_FILES * 1024 + 4096;

    fn size(&self) -> usize {
        match self {
            Self::Files(plan) => {
                plan.bytes()
                    + plan
                        .files()
                        .iter()
                        .map(|file| file.path.as_str().len() + 32)
                        .sum::<usize>()
                    + 64
            }
            Self::Refused(Refused { message, .. }) | Self::Unavailable(Unavailable { message, .. }) => {
                message.len() + 64
            }
            Self::Ping | Self::PodEnding => 8,
        }
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<(), InvalidFrame> {
        write_cbor(self, out)
    }

    fn read(payload: &[u8]) -> Result<Self, InvalidFrame> {
        read_cbor(payload)
    }
}

fn write_cbor<T: Encode<()>>(value: &T, out: &mut Vec<u8>) -> Result<(), InvalidFrame> {
    minicbor::encode(value, out).map_err(|_| InvalidFrame::Malformed)
}

fn read_cbor<'b, T: Decode<'b, ()>>(payload: &'b [u8]) -> Result<T, InvalidFrame> {
    let mut decoder = minicbor::Decoder::new(payload);
    let value = decoder.decode().map_err(|_| InvalidFrame::Malformed)?;
    if decoder.position() == payload.len() {
        Ok(value)
    } else {
        Err(InvalidFrame::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{FileMode, FilePath, FrameDecoder, PlannedFile, encode};
    use proptest::prelude::*;

    fn through<F: Frame>(frame: &F) -> F {
        let mut decoder = FrameDecoder::new();
        decoder.push(&encode(frame).unwrap());
        decoder.next_frame().unwrap().unwrap()
    }

    #[test]
    fn a_volume_of_the_largest_allowed_size_travels_in_one_frame() {
        let path = |i: usize| format!("{}{i:03}", "p/".repeat(7) + &"x".repeat(200));
        let each = FilePlan::MAX_BYTES / FilePlan::MAX_FILES;
        let files = (0..FilePlan::MAX_FILES)
            .map(|i| PlannedFile {
                path: FilePath::parse(&path(i)).unwrap(),
                mode: FileMode::default(),
                content: SecretBytes::new(vec![7; each]),
            })
            .collect();
        let frame = ServeFrame::Files(FilePlan::new(files, "").unwrap());
        let written = encode(&frame).unwrap();
        assert!(
            written.len() - 4 <= frame.size(),
            "the buffer never grows: {} of {}",
            written.len(),
            frame.size()
        );
        let ServeFrame::Files(plan) = through(&frame) else {
            panic!("another frame")
        };
        assert_eq!(plan.files().len(), FilePlan::MAX_FILES);
    }

    #[test]
    fn a_plan_that_escapes_its_folder_is_no_frame() {
        let good = encode(&ServeFrame::Files(
            FilePlan::new(
                vec![PlannedFile {
                    path: FilePath::parse("a/xy").unwrap(),
                    mode: FileMode::default(),
                    content: SecretBytes::new(vec![]),
                }],
                "",
            )
            .unwrap(),
        ))
        .unwrap();
        assert!(ServeFrame::read(&good[4..]).is_ok());
        for bad in ["/etc", "a/..", "../a", "a//x", "..da"] {
            let mut bytes = good[4..].to_vec();
            let at = bytes.windows(4).position(|window| window == b"a/xy").unwrap();
            bytes[at..at + 4].copy_from_slice(bad.as_bytes());
            assert_eq!(
                ServeFrame::read(&bytes).unwrap_err(),
                InvalidFrame::Malformed,
                "{bad}"
            );
        }
    }

    #[test]
    fn a_kind_of_another_release_reads_as_a_defect() {
        let refused = ServeFrame::Refused(Refused {
            kind: Kind::Denied,
            message: String::new(),
        });
        let mut bytes = encode(&refused).unwrap()[4..].to_vec();
        let at = bytes.windows(6).position(|window| window == b"denied").unwrap();
        bytes[at..at + 6].copy_from_slice(b"future");
        let ServeFrame::Refused(read) = ServeFrame::read(&bytes).unwrap() else {
            panic!("another frame")
        };
        assert_eq!(read.kind, Kind::Internal);
    }

    #[test]
    fn what_is_out_of_bounds_is_neither_sent_nor_taken() {
        let token = |n: usize| NodeFrame::Token(SecretBytes::new(vec![b'x'; n]));
        assert!(encode(&token(NodeFrame::MAX_TOKEN)).is_ok());
        assert_eq!(
            encode(&token(NodeFrame::MAX_TOKEN + 1)).unwrap_err(),
            InvalidFrame::TooLarge
        );
        let mut bytes = Vec::new();
        write_cbor(&token(NodeFrame::MAX_TOKEN + 1), &mut bytes).unwrap();
        assert_eq!(NodeFrame::read(&bytes).unwrap_err(), InvalidFrame::TooLarge);
    }

    #[test]
    fn nothing_secret_shows_in_debug() {
        let open = NodeFrame::Open(Open {
            volume: "v".into(),
            vault: "demo".into(),
            objects: String::new(),
            token: SecretBytes::new(b"canary".to_vec()),
            mounted: false,
        });
        assert!(!format!("{open:?}").contains("canary"));
    }

    proptest! {
        #[test]
        fn what_node_says_arrives(
            volume in "\\PC{0,40}", vault in "[a-z]{0,24}", objects in "\\PC{0,300}", token: Vec<u8>, mounted: bool,
        ) {
            let sent = Open {
                volume: volume.clone(), vault: vault.clone(), objects: objects.clone(), token: SecretBytes::new(token.clone()),
                mounted,
            };
            let NodeFrame::Open(got) = through(&NodeFrame::Open(sent)) else { panic!("another frame") };
            prop_assert_eq!((got.volume, got.vault, got.objects, got.mounted), (volume, vault, objects, mounted));
            prop_assert_eq!(got.token.expose(), token.as_slice());
        }

        #[test]
        fn what_serve_says_arrives(
            names in prop::collection::btree_set("[a-z]{1,8}", 0..8), content: Vec<u8>, bundle in "\\PC{0,80}", bits in 0u16..=0o777,
        ) {
            let files = names.iter().map(|name| PlannedFile {
                path: FilePath::parse(name).unwrap(),
                mode: FileMode::new(bits).unwrap(),
                content: SecretBytes::new(content.clone()),
            }).collect();
            let sent = ServeFrame::Files(FilePlan::new(files, &bundle).unwrap());
            let ServeFrame::Files(got) = through(&sent) else { panic!("another frame") };
            prop_assert_eq!(got.trust_bundle(), bundle.as_bytes());
            prop_assert!(got.files().iter().map(|file| file.path.as_str()).eq(names.iter().map(String::as_str)));
            prop_assert!(got.files().iter().all(|file| file.content.expose() == content && file.mode.bits() == bits));
        }

        #[test]
        fn no_bytes_make_a_frame_panic(bytes: Vec<u8>) {
            let _ = (NodeFrame::read(&bytes), ServeFrame::read(&bytes));
        }

        #[test]
        fn no_damaged_frame_panics(at in 0usize..400, with: u8, objects in "[a-z]{0,200}") {
            let open = Open { volume: "v".into(), vault: "demo".into(), objects, token: SecretBytes::new(vec![1; 20]), mounted: true };
            let mut bytes = encode(&NodeFrame::Open(open)).unwrap()[4..].to_vec();
            if let Some(byte) = bytes.get_mut(at) {
                *byte = with;
            }
            let _ = (NodeFrame::read(&bytes), ServeFrame::read(&bytes));
        }
    }
}
