//! A folder of shards with its `manifest.json`: a data set on its own, outside any job.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::shard::{ShardReader, ShardWriter};
use super::staging::Staged;
use super::{Duplicate, Inspected, Photo, Plan, Quarantined, ShardPlan, Split, decode, folder, pack, plan, scan};
use crate::config::DataSettings;
use crate::error::{Context, Error, Kind, Result};
use crate::signal;

/// The name of the manifest in its folder.
pub const FILE: &str = "manifest.json";
const VERSION: u32 = 1;
/// The largest manifest that is read, in bytes.
const MAX_BYTES: u64 = 1 << 30;

/// What a folder of shards holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of this format.
    pub version: u32,
    /// See [`Plan::dataset_sha256`].
    pub dataset_sha256: String,
    /// The seed of the split.
    pub seed: u64,
    /// Class names; a label is an index into them.
    pub classes: Vec<String>,
    /// Photos of each class on each side.
    pub counts: BTreeMap<Split, BTreeMap<String, usize>>,
    /// The shards, by side and number.
    pub shards: Vec<Shard>,
    /// Photos that could not be used.
    pub quarantined: Vec<Quarantined>,
    /// Photos that were dropped.
    pub duplicates: Vec<Duplicate>,
}

/// A shard in its folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// Its file name, `train-00000.tar`.
    pub name: String,
    /// The side of its photos.
    pub split: Split,
    /// How many.
    pub images: usize,
    /// The size of the file.
    pub bytes: u64,
    /// SHA-256 of the file, hexadecimal.
    pub sha256: String,
}

/// How far [`write`] has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// So many photos are to be inspected, and then at most as many packed.
    Photos(usize),
    /// One was inspected.
    Inspected,
    /// One was packed.
    Packed,
}

/// Splits the photos of the folder `source` and packs them into shards in the folder `out`, which
/// must be empty or not exist. The train side gets a multiple of `replicas` shards.
///
/// # Errors
/// What [`folder::list`], [`scan::scan`] and [`plan::plan`] refuse; `Storage` for `out`.
pub fn write(
    source: &Path,
    out: &Path,
    settings: &DataSettings,
    seed: u64,
    replicas: u32,
    mut progress: impl FnMut(Progress),
) -> Result<Manifest> {
    let photos = scan::scan(folder::list(source)?)?;
    let staged = Staged::beside(out)?;
    progress(Progress::Photos(photos.len()));
    let inspected = photos.into_iter().map(|photo| {
        let inspected = inspect(source, photo, settings)?;
        progress(Progress::Inspected);
        Ok(inspected)
    });
    let plan = plan::plan(inspected.collect::<Result<_>>()?, settings, seed, replicas)?;
    let mut shards = Vec::with_capacity(plan.shards.len());
    for shard in &plan.shards {
        shards.push(write_shard(source, &plan, shard, staged.path(), settings, &mut || progress(Progress::Packed))?);
    }
    let manifest = describe(plan, shards, seed);
    let json = serde_json::to_vec_pretty(&manifest).context(Kind::Internal, || "cannot write a manifest".into())?;
    staged.write(Path::new(FILE), &json[..], None)?;
    let root = staged.path().to_owned();
    staged.publish(&root, out)?;
    Ok(manifest)
}

fn inspect(source: &Path, photo: Photo, settings: &DataSettings) -> Result<Inspected> {
    signal::check()?;
    if photo.size > settings.max_file_bytes {
        let reason =
            format!("the file has {} bytes, data.max_file_bytes allows {}", photo.size, settings.max_file_bytes);
        return Ok(Inspected { photo, finding: super::Finding::Unusable(reason) });
    }
    let bytes = read(&source.join(&photo.path))?;
    Ok(decode::inspect(photo, &bytes, settings))
}

fn write_shard(
    source: &Path,
    plan: &Plan,
    shard: &ShardPlan,
    folder: &Path,
    settings: &DataSettings,
    packed: &mut impl FnMut(),
) -> Result<Shard> {
    let name = format!("{}-{:05}.tar", shard.split.name(), shard.index);
    let path = folder.join(&name);
    let file = File::create(&path).context(Kind::Storage, || format!("cannot write {}", path.display()))?;
    let mut writer = ShardWriter::new(BufWriter::new(file));
    for sample in &shard.samples {
        signal::check()?;
        let bytes = read(&source.join(&sample.path))?;
        let packing = pack::sample(sample, &plan.classes[sample.label], bytes, settings);
        writer
            .append(&packing.map_err(|why| Error::data(format!("photo {:?} cannot be packed: {why}", sample.path)))?)?;
        packed();
    }
    writer.finish()?;
    let (bytes, sha256) = hash(&path)?;
    Ok(Shard { name, split: shard.split, images: shard.samples.len(), bytes, sha256 })
}

fn describe(plan: Plan, shards: Vec<Shard>, seed: u64) -> Manifest {
    let named = |counts: Vec<usize>| plan.classes.iter().cloned().zip(counts).collect();
    Manifest {
        version: VERSION,
        dataset_sha256: plan.dataset_sha256(),
        seed,
        counts: plan.counts().into_iter().map(|(split, counts)| (split, named(counts))).collect(),
        shards,
        classes: plan.classes,
        quarantined: plan.quarantined,
        duplicates: plan.duplicates,
    }
}

/// Reads every shard of the folder and compares it with the manifest: size, hash, samples, labels.
///
/// # Errors
/// Of kind `NotFound` without a manifest or a shard, `Data` naming the first shard that differs.
pub fn verify(folder: &Path, mut checked: impl FnMut(&Shard)) -> Result<Manifest> {
    let path = folder.join(FILE);
    let mut json = Vec::new();
    open(&path)?.take(MAX_BYTES).read_to_end(&mut json).context(Kind::Storage, || cannot_read(&path))?;
    let manifest: Manifest =
        serde_json::from_slice(&json).context(Kind::Data, || format!("{} is no manifest", path.display()))?;
    if manifest.version != VERSION {
        let version = manifest.version;
        return Err(Error::data(format!("{} has version {version}, known is {VERSION}", path.display())));
    }
    let mut counts: BTreeMap<Split, BTreeMap<String, usize>> = BTreeMap::new();
    for shard in &manifest.shards {
        let differs = |what: String| Error::data(format!("shard {:?}: {what}", shard.name));
        if Path::new(&shard.name).file_name().is_none_or(|name| name != shard.name.as_str()) {
            return Err(differs("is no plain file name".into()));
        }
        let path = folder.join(&shard.name);
        let (bytes, sha256) = hash(&path)?;
        if (bytes, &sha256) != (shard.bytes, &shard.sha256) {
            return Err(differs(format!(
                "{bytes} bytes with SHA-256 {sha256} where the manifest has {} bytes with {}",
                shard.bytes, shard.sha256
            )));
        }
        let mut images = 0;
        for sample in ShardReader::new(open(&path)?) {
            let sample = sample.context(Kind::Data, || format!("shard {:?}", shard.name))?;
            let class = manifest.classes.get(sample.label);
            let class = class.ok_or_else(|| differs(format!("label {} has no class", sample.label)))?;
            *counts.entry(shard.split).or_default().entry(class.clone()).or_default() += 1;
            images += 1;
        }
        if images != shard.images {
            return Err(differs(format!("{images} images where the manifest has {}", shard.images)));
        }
        checked(shard);
    }
    for (split, classes) in &manifest.counts {
        for (class, expected) in classes {
            let found = counts.get(split).and_then(|side| side.get(class)).copied().unwrap_or(0);
            if found != *expected {
                let side = split.name();
                return Err(Error::data(format!(
                    "{found} photos of {class:?} on side {side}, the manifest has {expected}"
                )));
            }
        }
    }
    Ok(manifest)
}

fn open(path: &Path) -> Result<BufReader<File>> {
    let file = File::open(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => Error::not_found(format!("{} does not exist", path.display())),
        _ => Error::storage(cannot_read(path)).because(e),
    })?;
    Ok(BufReader::with_capacity(1 << 18, file))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.read_to_end(&mut bytes).context(Kind::Storage, || cannot_read(path))?;
    Ok(bytes)
}

pub(super) fn hash(path: &Path) -> Result<(u64, String)> {
    let (mut file, mut hash, mut buffer, mut size) = (open(path)?, Sha256::new(), vec![0; 1 << 16], 0);
    loop {
        let read = file.read(&mut buffer).context(Kind::Storage, || cannot_read(path))?;
        if read == 0 {
            return Ok((size, hex::encode(hash.finalize())));
        }
        hash.update(&buffer[..read]);
        size += read as u64;
    }
}

fn cannot_read(path: &Path) -> String {
    format!("cannot read {}", path.display())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::dataset::fixtures::settings;
    use crate::dataset::shard::Extension;
    use crate::dataset::synth;

    /// Ten pictures of each class, and one file that is none.
    fn source(folder: &Path) -> std::path::PathBuf {
        let request = synth::Request { train: 10, val: 0, size: 24, seed: 1, extension: Extension::Png };
        let source = folder.join("photos");
        synth::write(&request, &source, || ()).unwrap();
        std::fs::write(source.join("roses/notes ü\n.txt"), "not a photo").unwrap();
        source
    }

    fn packed(folder: &Path, out: &str) -> Manifest {
        let settings = DataSettings { shard_images: 12, ..settings() };
        write(&folder.join("photos"), &folder.join(out), &settings, 1, 2, |_| ()).unwrap()
    }

    #[test]
    fn photos_become_verified_shards_with_the_same_bytes_each_time() {
        let folder = tempfile::tempdir().unwrap();
        source(folder.path());
        let manifest = packed(folder.path(), "one");
        assert_eq!(manifest.quarantined[0].path, "roses/notes ü\n.txt");
        let images = |split| manifest.counts[&split].values().sum::<usize>();
        assert_eq!([Split::Train, Split::Held, Split::Val, Split::Test].map(images), [25, 5, 10, 10]);
        assert_eq!(manifest.shards.iter().filter(|s| s.split == Split::Train).count(), 4);
        assert_eq!(packed(folder.path(), "two"), manifest);

        let mut checked = 0;
        assert_eq!(verify(&folder.path().join("one"), |_| checked += 1).unwrap(), manifest);
        assert_eq!(checked, manifest.shards.len());
    }

    #[test]
    fn what_differs_from_the_manifest_is_named() {
        let folder = tempfile::tempdir().unwrap();
        source(folder.path());
        let out = folder.path().join("shards");
        let manifest = packed(folder.path(), "shards");
        let refusal = || verify(&out, |_| ()).unwrap_err();

        let shard = out.join(&manifest.shards[1].name);
        let mut bytes = std::fs::read(&shard).unwrap();
        bytes[700] ^= 1;
        std::fs::write(&shard, &bytes).unwrap();
        assert!(refusal().to_string().contains(&format!("shard {:?}", manifest.shards[1].name)), "{}", refusal());
        std::fs::remove_file(&shard).unwrap();
        assert_eq!(refusal().kind(), Kind::NotFound);

        let rewrite = |change: &dyn Fn(&mut Manifest)| {
            let mut manifest = manifest.clone();
            change(&mut manifest);
            std::fs::write(out.join(FILE), serde_json::to_vec(&manifest).unwrap()).unwrap();
        };
        rewrite(&|m| m.shards[0].name = "../photos/x.tar".into());
        assert!(refusal().to_string().contains("no plain file name"));
        rewrite(&|m| m.version = 9);
        assert!(refusal().to_string().contains("version 9"));
        std::fs::write(out.join(FILE), "{}").unwrap();
        assert_eq!(refusal().kind(), Kind::Data);
        assert_eq!(verify(folder.path(), |_| ()).unwrap_err().kind(), Kind::NotFound);
    }

    #[test]
    fn a_source_that_is_refused_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("photos")).unwrap();
        let out = folder.path().join("new/shards");
        let error = write(&folder.path().join("photos"), &out, &settings(), 1, 1, |_| ()).unwrap_err();
        assert_eq!(error.kind(), Kind::Data);
        source(&folder.path().join("more"));
        let strict = DataSettings { quarantine_limit: 0.0, ..settings() };
        let error = write(&folder.path().join("more/photos"), &out, &strict, 1, 1, |_| ()).unwrap_err();
        assert!(error.to_string().contains("1 of 51 photos cannot be used"), "{error}");
        assert_eq!(std::fs::read_dir(folder.path().join("new")).unwrap().count(), 0);
    }
}
