//! The node room's protocol code is what its definitions say. `make generate` (`UPDATE=1`) writes it anew.

#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)]

use std::fs;
use std::path::Path;

#[test]
fn protocol_code_is_what_its_definitions_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/node/proto");
    let definitions = protox::compile(["csi.proto", "pluginregistration.proto"], [&folder]).unwrap();
    let made = tempfile::tempdir().unwrap();
    tonic_prost_build::configure()
        .build_client(false)
        .build_transport(false)
        .btree_map(".")
        // It holds the pods' tokens; what its Debug may show is written by hand.
        .skip_debug([".csi.v1.NodePublishVolumeRequest"])
        .out_dir(made.path())
        .compile_fds(definitions)
        .unwrap();
    let names = |folder: &Path| {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".rs") && name != "mod.rs")
            .collect();
        names.sort();
        names
    };
    let files = names(made.path());
    assert_eq!(files, ["csi.v1.rs", "pluginregistration.rs"]);
    for name in &files {
        let text = fs::read_to_string(made.path().join(name)).unwrap();
        let there = folder.join(name);
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&there, &text).unwrap();
        }
        let same = fs::read_to_string(&there).is_ok_and(|checked_in| checked_in == text);
        assert!(same, "{} is stale: run `make generate`", there.display());
    }
    assert_eq!(
        names(&folder),
        files,
        "{} has files that nothing makes",
        folder.display()
    );
}
