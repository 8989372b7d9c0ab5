//! Who may name whom: the table of rooms, and the table of crates that only some rooms may name.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each entry of `src/` and the rooms that it may name. `*` assembles, so it may name all.
const ROOMS: &[(&str, &[&str])] = &[
    ("lib", &["*"]),
    ("main", &["*"]),
    ("config", &[]),
    ("model", &[]),
    ("json", &[]),
    ("failpoints", &[]),
    ("wire", &["model"]),
    ("crd", &["model"]),
    ("crypto", &["model"]),
    ("store", &["model", "crypto", "telemetry"]),
    ("audit", &["model", "json", "crypto", "policy", "telemetry"]),
    ("identity", &["model", "crypto", "telemetry"]),
    ("network", &["model"]),
    ("policy", &["model"]),
    ("engine", &["model", "crypto", "store", "policy", "failpoints"]),
    (
        "gate",
        &[
            "model",
            "world",
            "identity",
            "network",
            "policy",
            "audit",
            "engine",
            "failpoints",
            "telemetry",
        ],
    ),
    ("clock", &["model", "gate", "telemetry"]),
    ("tls", &["model", "crypto", "store"]),
    (
        "compile",
        &["model", "crd", "world", "network", "policy", "identity"],
    ),
    ("world", &["model", "identity", "network", "policy"]),
    (
        "cluster",
        &[
            "model",
            "crd",
            "compile",
            "world",
            "crypto",
            "store",
            "identity",
            "network",
            "policy",
            "telemetry",
        ],
    ),
    (
        "dataplane",
        &["model", "json", "wire", "gate", "tls", "telemetry"],
    ),
    ("client", &["model", "wire"]),
    (
        "operator",
        &["model", "crd", "compile", "client", "wire", "telemetry"],
    ),
    ("node", &["model", "wire", "client", "telemetry"]),
    ("telemetry", &["model"]),
    ("roles", &["*"]),
];

/// Crates that only these rooms may name.
const CRATES: &[(&[&str], &[&str])] = &[
    (
        &["kube", "k8s_openapi", "kube_lease_manager"],
        &["crd", "cluster", "operator"],
    ),
    (
        &["aws_lc_rs", "jsonwebtoken", "rcgen", "x509_parser"],
        &["crypto"],
    ),
    (&["tonic", "prost", "tonic_prost"], &["node"]),
    (&["rustix"], &["node", "audit", "failpoints"]),
    (&["rustls", "tokio_rustls"], &["tls", "client", "dataplane"]),
    (
        &["hyper", "hyper_util"],
        &["dataplane", "client", "telemetry", "node", "cluster"],
    ),
    (&["prometheus"], &["telemetry"]),
    (&["clap"], &["config", "main"]),
    (&["anyhow"], &["main"]),
];

/// Rooms that stay free of I/O.
const PURE: (&[&str], &[&str]) = (
    &["model", "json", "network", "policy", "wire", "compile"],
    &["tokio", "hyper", "kube"],
);

struct Source {
    room: String,
    path: PathBuf,
    code: Vec<(usize, String)>,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    assert!(files.len() > 10, "no sources found below {}", root.display());
    files
        .into_iter()
        .map(|path| {
            let first = path.strip_prefix(&root).unwrap().components().next().unwrap();
            let room = Path::new(first.as_os_str())
                .file_stem()
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            let text = fs::read_to_string(&path).unwrap();
            let code = text
                .lines()
                .enumerate()
                .filter(|(_, line)| !line.trim_start().starts_with("//"))
                .map(|(number, line)| (number + 1, line.to_owned()))
                .collect();
            Source { room, path, code }
        })
        .collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The identifiers that follow `prefix` in a line, where `prefix` is not the end of a longer word.
fn words_after<'a>(line: &'a str, prefix: &str) -> Vec<&'a str> {
    line.match_indices(prefix)
        .filter(|(at, _)| !line[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':'))
        .map(|(at, _)| {
            let rest = &line[at + prefix.len()..];
            let end = rest
                .find(|c: char| !(c.is_alphanumeric() || c == '_'))
                .unwrap_or(rest.len());
            &rest[..end]
        })
        .collect()
}

fn names_crate(line: &str, name: &str) -> bool {
    let used = format!("{name}::");
    line.match_indices(&used)
        .any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || "_:\"".contains(c)))
}

#[test]
fn every_room_names_only_the_rooms_of_its_row() {
    let mut wrong = Vec::new();
    for source in sources() {
        let Some((_, allowed)) = ROOMS.iter().find(|(room, _)| *room == source.room) else {
            wrong.push(format!(
                "{}: this room has no row in the table",
                source.path.display()
            ));
            continue;
        };
        for (number, line) in &source.code {
            let place = format!("{}:{number}", source.path.display());
            for named in words_after(line, "crate::") {
                if named.is_empty() {
                    wrong.push(format!("{place}: one `use crate::room` line a room, not a group"));
                } else if named != source.room && !allowed.contains(&"*") && !allowed.contains(&named) {
                    wrong.push(format!("{place}: {} may not name {named}", source.room));
                }
            }
            if line.contains("super::super") {
                wrong.push(format!(
                    "{place}: `super::super` climbs past the table; say `crate::`"
                ));
            }
            if line.contains("pub use crate::") && source.room != "lib" {
                wrong.push(format!("{place}: only lib.rs hands out another room's names"));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn crates_with_a_home_are_named_only_there() {
    let mut wrong = BTreeSet::new();
    for source in sources() {
        for (number, line) in &source.code {
            for (crates, rooms) in CRATES {
                for name in *crates {
                    if names_crate(line, name) && !rooms.contains(&source.room.as_str()) {
                        wrong.insert(format!(
                            "{}:{number}: {} may not name {name}",
                            source.path.display(),
                            source.room
                        ));
                    }
                }
            }
            let (pure, forbidden) = PURE;
            if pure.contains(&source.room.as_str()) {
                for name in forbidden.iter().filter(|name| names_crate(line, name)) {
                    wrong.insert(format!(
                        "{}:{number}: {} is pure, {name} is not",
                        source.path.display(),
                        source.room
                    ));
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "\n{}",
        wrong.into_iter().collect::<Vec<_>>().join("\n")
    );
}

#[test]
fn the_clocks_way_through_the_gate_is_taken_by_the_clock_alone() {
    let rooms: BTreeSet<_> = sources()
        .into_iter()
        .filter(|source| source.code.iter().any(|(_, line)| line.contains("admit_clock(")))
        .map(|source| source.room)
        .collect();
    assert_eq!(rooms, BTreeSet::from(["clock".to_owned(), "gate".to_owned()]));
}

#[test]
fn the_guard_itself_sees_what_it_must() {
    assert_eq!(words_after("use crate::engine::Engine;", "crate::"), ["engine"]);
    assert_eq!(
        words_after("let x = crate::gate::y(crate::world::z);", "crate::"),
        ["gate", "world"]
    );
    assert_eq!(words_after("use mycrate::engine;", "crate::"), Vec::<&str>::new());
    assert_eq!(words_after("use crate::{a, b};", "crate::"), [""]);
    assert!(names_crate("use kube::Client;", "kube"));
    assert!(!names_crate("use crate::kube::Client;", "kube") && !names_crate("mykube::x", "kube"));
}
