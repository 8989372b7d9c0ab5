//! Points at which tests kill the process: none of them is in what is shipped, and each has its test.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::Command;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// Files that arm points, as the source names them.
fn files() -> Vec<String> {
    let source = read("src/failpoints.rs");
    let (code, _) = source.split_once("#[cfg(test)]\nmod tests").unwrap();
    let names = code.split('"').filter(|text| text.starts_with("failpoint-"));
    names.map(str::to_owned).collect()
}

/// Whether the program that these tests are built with holds this text.
fn binary_holds(text: &str) -> bool {
    let found = Command::new("grep")
        .args(["-qaF", "-e", text, env!("CARGO_BIN_EXE_strongroom")])
        .status()
        .unwrap();
    assert!(matches!(found.code(), Some(0 | 1)), "grep failed: {found}");
    found.success()
}

#[test]
fn what_is_shipped_has_no_failpoint_and_does_not_ask_for_one() {
    assert!(
        binary_holds("STRONGROOM_STALENESS_BOUND"),
        "settings can be found in it"
    );
    // With the feature this test shows that it would find them.
    let expected = cfg!(feature = "failpoints");
    for text in files()
        .iter()
        .map(String::as_str)
        .chain(["STRONGROOM_FAILPOINTS"])
    {
        assert_eq!(binary_holds(text), expected, "{text}");
    }
}

#[test]
fn every_failpoint_has_a_test_on_the_cluster() {
    let tests = read("tests/e2e/slow/failpoints.rs");
    let files = files();
    assert!(files.len() > 5, "{files:?}");
    for file in files {
        let point = file.strip_prefix("failpoint-").unwrap();
        assert!(tests.contains(&format!("\"{point}\"")), "no test dies at {point}");
    }
}
