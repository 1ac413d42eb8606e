//! The fuzz targets on stable: each body runs over its corpus, and the dictionary agrees with the packet table.

use std::fs;
use std::path::{Path, PathBuf};

use gearwheel::wire::{Magic, PACKETS};

#[path = "../fuzz/bodies/mod.rs"]
#[allow(dead_code, unreachable_pub, clippy::allow_attributes, reason = "they are written for the fuzz targets")]
mod bodies;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// Runs a target over the inputs that were kept for it.
fn replay(target: &str, body: fn(&[u8])) {
    let corpus = fuzz().join("corpus").join(target);
    let mut files: Vec<_> =
        fs::read_dir(&corpus).expect("a corpus").map(|entry| entry.expect("a file").path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", corpus.display());
    for file in files {
        let input = fs::read(&file).expect("an input");
        eprintln!("{}", file.display());
        body(&input);
        for length in [0, input.len() / 2, input.len().saturating_sub(1)] {
            body(&input[..length]);
        }
    }
}

#[test]
fn packet() {
    replay("packet", bodies::packet::run);
}

#[test]
fn chunks() {
    replay("chunks", bodies::chunks::run);
}

#[test]
fn admin() {
    replay("admin", bodies::admin::run);
}

#[test]
fn client() {
    replay("client", bodies::client::run);
}

#[test]
fn worker() {
    replay("worker", bodies::worker::run);
}

#[test]
fn server() {
    replay("server", bodies::server::run);
}

#[test]
fn pair() {
    replay("pair", bodies::pair::run);
}

/// Run with `GEARWHEEL_REWRITE=1` after a change of the table.
#[test]
fn the_dictionary_is_made_of_the_packet_table() {
    let path = fuzz().join("gearman.dict");
    let wanted = dictionary();
    if std::env::var_os("GEARWHEEL_REWRITE").is_some() {
        fs::write(&path, &wanted).expect("the dictionary can be written");
    }
    let found = fs::read_to_string(&path).expect("fuzz/gearman.dict");
    assert!(found == wanted, "fuzz/gearman.dict is stale: run this test with GEARWHEEL_REWRITE=1");
}

fn dictionary() -> String {
    let quoted = |bytes: &[u8]| bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>();
    let mut text = String::from(
        "# Made of the packet table by tests/corpus.rs: the start of each packet, and words of the protocol.\n",
    );
    for (magic, name) in [(Magic::Request, "REQ"), (Magic::Response, "RES")] {
        for info in PACKETS {
            let start = [magic.bytes(), info.kind.number().to_be_bytes()].concat();
            text += &format!("{name}_{}=\"{}\"\n", info.name, quoted(&start));
        }
    }
    for word in
        ["exceptions", "JOB_NOT_FOUND", "QUEUE_ERROR", "H:a:1", "status\n", "workers\n", "version\n", "maxqueue "]
    {
        text += &format!("\"{}\"\n", quoted(word.as_bytes()));
    }
    text
}
