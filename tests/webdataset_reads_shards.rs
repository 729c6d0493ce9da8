//! The Python package `webdataset` reads Hardy's shards: the same keys, labels, bytes and meta, in order.

#![allow(clippy::unwrap_used)]

#[path = "python/mod.rs"]
mod python;

use std::path::{Path, PathBuf};
use std::process::Command;

use hardy::config::Settings;
use hardy::dataset::manifest;
use hardy::dataset::shard::{Extension, Sample, ShardReader};
use hardy::dataset::synth;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use python::python;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn described(sample: Sample) -> Value {
    json!({
        "key": sample.key,
        "label": sample.label,
        "extension": sample.extension.to_string(),
        "image": hex::encode(Sha256::digest(&sample.image)),
        "meta": sample.meta,
    })
}

#[test]
fn webdataset_reads_what_hardy_packed() {
    let folder = tempfile::tempdir().unwrap();
    let (photos, shards) = (folder.path().join("photos"), folder.path().join("shards"));
    let request = synth::Request { train: 8, val: 0, size: 24, seed: 1, extension: Extension::Jpg };
    synth::write(&request, &photos, || ()).unwrap();
    // Names and formats that are not plain.
    let odd = photos.join("roses/a photo.v2 of 日本\n.webp");
    std::fs::copy(root().join("tests/photos/alpha.webp"), odd).unwrap();
    let settings: Settings = toml::from_str(include_str!("../configs/default.toml")).unwrap();
    let manifest = manifest::write(&photos, &shards, &settings.data, 1, 2, |_| ()).unwrap();
    assert!(manifest.quarantined.is_empty());

    let paths: Vec<PathBuf> = manifest.shards.iter().map(|shard| shards.join(&shard.name)).collect();
    let ours: Vec<Value> = paths
        .iter()
        .flat_map(|path| ShardReader::new(std::fs::File::open(path).unwrap()).map(|s| described(s.unwrap())))
        .collect();
    let script = root().join("tests/python/read_shards.py");
    let output = Command::new(python()).arg(script).args(&paths).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let theirs: Vec<Value> = output
        .stdout
        .split(|b| *b == b'\n')
        .filter(|l| !l.is_empty())
        .map(|l| serde_json::from_slice(l).unwrap())
        .collect();
    assert_eq!(ours.len(), 41);
    assert_eq!(theirs, ours);
}
