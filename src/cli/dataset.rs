//! `hardy dataset`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::SettingsArgs;
use super::meter::{Meter, PHOTOS, Unit};
use crate::dataset::manifest::{self, Manifest, Progress};
use crate::dataset::shard::Extension;
use crate::dataset::{Photo, Split, fetch, import, synth};
use crate::error::Result;

#[derive(Debug, Subcommand)]
pub(super) enum DatasetCommand {
    /// Draw flowers of five classes, for a first run without any photos.
    #[command(after_help = "\
Examples:
  hardy dataset synth --out flowers
  hardy dataset synth --out flowers --per-class 20000 --val-per-class 0 --size 128 --seed 7

With --val-per-class 0 the class folders are not split into train/ and val/.
The same seed gives the same files.")]
    Synth(SynthArgs),
    /// Download a public set of photos.
    #[command(after_help = "\
Examples:
  hardy dataset fetch tf-flowers --out flowers
  hardy dataset fetch tf-flowers --url http://mirror.example/flower_photos.tgz --out flowers

A download that broke off goes on where it was when the command is given again.")]
    Fetch(FetchArgs),
    /// Turn an archive, a list or a folder into class folders.
    #[command(after_help = "\
Examples:
  hardy dataset import photos.tgz --out photos
  hardy dataset import photos.tsv --out photos
  hardy dataset import /mnt/photos --out photos

A list has a line for each photo, path<TAB>class or path<TAB>class<TAB>split with split one of
train, val and test; paths are relative to the list's folder, lines that begin with # are ignored.
An archive with links, devices, absolute paths or '..' is refused.")]
    Import(ImportArgs),
    /// Check and split photos and pack them into WebDataset shards.
    #[command(after_help = "\
Examples:
  hardy dataset split photos --out shards
  hardy dataset split photos --out shards --set data.val_fraction=0.2 --set job.seed=1

`hardy run` does this by itself; this command is for using the shards elsewhere. An existing split
into train/, val/ and test/ is kept. manifest.json lists what was set aside or dropped, and why.")]
    Split(SplitArgs),
    /// Check a folder of shards against its manifest.
    #[command(after_help = "Example:\n  hardy dataset verify shards")]
    Verify {
        /// The folder, as `hardy dataset split` wrote it.
        folder: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(super) struct SynthArgs {
    /// Where to; must be empty or not exist.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Training pictures of each class.
    #[arg(long, value_name = "N", default_value_t = synth::Request::default().train)]
    per_class: u32,
    /// Pictures of each class in val/; a quarter of --per-class where not given.
    #[arg(long, value_name = "N")]
    val_per_class: Option<u32>,
    /// Pixels of a side.
    #[arg(long, value_name = "PIXELS", default_value_t = synth::Request::default().size, value_parser = clap::value_parser!(u32).range(1..=4096))]
    size: u32,
    /// The seed of all pictures.
    #[arg(long, default_value_t = synth::Request::default().seed)]
    seed: u64,
    /// The format of the files.
    #[arg(long, value_enum, default_value_t = Format::Jpg)]
    format: Format,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Jpg,
    Png,
}

#[derive(Debug, Args)]
pub(super) struct FetchArgs {
    /// Which.
    #[arg(value_enum)]
    set: PublicSet,
    /// Where to; must be empty or not exist.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Another place with the same archive.
    #[arg(long)]
    url: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum PublicSet {
    /// 3,670 photos of five flowers, 218 MiB.
    TfFlowers,
}

#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// A .tar, .tar.gz or .tgz, a list, or a folder.
    source: PathBuf,
    /// Where to; must be empty or not exist.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct SplitArgs {
    /// A folder of class folders, below train/ and val/ or not.
    source: PathBuf,
    /// Where to; must be empty or not exist.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    settings: SettingsArgs,
}

pub(super) fn run(command: DatasetCommand, as_json: bool, quiet: bool) -> Result<()> {
    let (text, value) = match command {
        DatasetCommand::Synth(args) => synthesise(&args, quiet)?,
        DatasetCommand::Fetch(args) => {
            let PublicSet::TfFlowers = args.set;
            let url = args.url.as_deref().unwrap_or(fetch::TF_FLOWERS);
            let meter = Meter::new("download", Unit::Bytes, quiet);
            let photos = fetch::fetch(url, &args.out, Duration::from_secs(1), |done, total| meter.show(done, total))?;
            photos_in(&args.out, &photos)
        }
        DatasetCommand::Import(args) => {
            photos_in(&args.out, &import::import(&args.source, &args.out, Meter::importing(quiet))?)
        }
        DatasetCommand::Split(args) => split(&args, quiet)?,
        DatasetCommand::Verify { folder } => {
            let meter = Meter::new("verify", Unit::Things("shards"), quiet);
            let mut done = 0;
            let manifest = manifest::verify(&folder, |_| {
                done += 1;
                meter.show(done, None);
            })?;
            (format!("{}: all {} shards are as the manifest says", folder.display(), done), summary(&manifest))
        }
    };
    if as_json {
        println!("{value:#}");
    } else if !quiet {
        println!("{text}");
    }
    Ok(())
}

fn synthesise(args: &SynthArgs, quiet: bool) -> Result<(String, Value)> {
    let request = synth::Request {
        train: args.per_class,
        val: args.val_per_class.unwrap_or(args.per_class.div_ceil(4)),
        size: args.size,
        seed: args.seed,
        extension: match args.format {
            Format::Jpg => Extension::Jpg,
            Format::Png => Extension::Png,
        },
    };
    let classes = synth::CLASSES.len() as u64;
    let (train, val) = (classes * u64::from(request.train), classes * u64::from(request.val));
    draw(&request, &args.out, quiet)?;
    let text = format!("{}: {train} pictures to train on and {val} to measure on", args.out.display());
    let value = json!({ "folder": args.out, "classes": synth::CLASSES, "train": train, "val": val });
    Ok((text, value))
}

/// Draws pictures into `folder` and tells how it goes.
pub(super) fn draw(request: &synth::Request, folder: &Path, quiet: bool) -> Result<()> {
    let meter = Meter::new("draw", Unit::Things("pictures"), quiet);
    let all = synth::CLASSES.len() as u64 * (u64::from(request.train) + u64::from(request.val));
    let mut done = 0;
    synth::write(request, folder, || {
        done += 1;
        meter.show(done, Some(all));
    })
}

fn split(args: &SplitArgs, quiet: bool) -> Result<(String, Value)> {
    let settings = args.settings.resolve()?.settings;
    let (inspect, pack) = (Meter::new("inspect", PHOTOS, quiet), Meter::new("pack", PHOTOS, quiet));
    let (mut total, mut inspected, mut packed) = (0, 0, 0);
    let (seed, replicas) = (settings.job.seed, settings.train.replicas);
    let manifest =
        manifest::write(&args.source, &args.out, &settings.data, seed, replicas, |progress| match progress {
            Progress::Photos(photos) => total = photos as u64,
            Progress::Inspected => {
                inspected += 1;
                inspect.show(inspected, Some(total));
            }
            Progress::Packed => {
                packed += 1;
                pack.show(packed, Some(total));
            }
        })?;
    let mut text =
        format!("{}: {} shards, {} classes", args.out.display(), manifest.shards.len(), manifest.classes.len());
    for (split, classes) in &manifest.counts {
        text.push_str(&format!("\n  {:<5} {} photos", split.name(), classes.values().sum::<usize>()));
    }
    for (what, count) in
        [("set aside", manifest.quarantined.len()), ("dropped as duplicates", manifest.duplicates.len())]
    {
        if count > 0 {
            text.push_str(&format!("\n  {count} {what}, see {}", manifest::FILE));
        }
    }
    Ok((text, summary(&manifest)))
}

fn summary(manifest: &Manifest) -> Value {
    json!({
        "dataset_sha256": manifest.dataset_sha256,
        "classes": manifest.classes,
        "counts": manifest.counts,
        "shards": manifest.shards.len(),
        "quarantined": manifest.quarantined,
        "duplicates": manifest.duplicates,
    })
}

fn photos_in(folder: &Path, photos: &[Photo]) -> (String, Value) {
    let mut counts: BTreeMap<&str, BTreeMap<&str, u64>> = BTreeMap::new();
    for photo in photos {
        let side = photo.split.map_or("all", Split::name);
        *counts.entry(side).or_default().entry(&photo.class).or_default() += 1;
    }
    let mut text = format!("{}: {} photos", folder.display(), photos.len());
    for (side, classes) in &counts {
        for (class, count) in classes {
            let side = if *side == "all" { String::new() } else { format!("{side}/") };
            text.push_str(&format!("\n  {side}{class} {count}"));
        }
    }
    (text, json!({ "folder": folder, "photos": photos.len(), "counts": counts }))
}
