//! `hardy patch`: a printable sticker that a model takes for something else.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::SettingsArgs;
use super::meter::{Meter, Unit};
use super::model::ScriptArgs;
use super::run::keep_apart;
use crate::attack::patch::PatchSettings;
use crate::config::Settings;
use crate::dataset::{decode::decode, folder, view};
use crate::error::{Context, Error, Kind, Result};
use crate::lab::Class;
use crate::lab::sticker::{self, Order, Photos};
use crate::model::images::png;
use crate::model::{self, Brought, Classifier, find_class, write_whole};

/// Photos with the patch on them that are written.
const EXAMPLES: usize = 8;

/// The file that is written last: where it is, everything is.
const RECORD: &str = "patch.json";

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  hardy patch photos --model imagenet --target toaster --out toaster
  hardy patch flower_photos --model flowers-run/model --target tulips --scale 0.2,0.3 --steps 500 --out tulip

Writes patch.png (a disc on a transparent square, to be printed), example-N.png and patch.json, in place of older ones.
Three photos in four are trained on; the others say how often it works, beside a grey disc of the same size at the same
places. Places, sizes and turns are drawn by chance. A patch is held to no epsilon. Brown et al., 2017.")]
pub(super) struct PatchArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// A folder of photos.
    photos: PathBuf,
    /// A model's folder or file, TorchScript too, or `imagenet`.
    #[arg(long)]
    model: PathBuf,
    #[command(flatten)]
    script: ScriptArgs,
    /// The class that everything under the patch is to be taken for, name or number.
    #[arg(long, value_name = "CLASS")]
    target: String,
    /// Where the results go.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Steps of training, each on evaluate.batch photos.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    steps: u32,
    /// Diameter as a share of a photo's side, from and to.
    #[arg(long, value_name = "FROM,TO", default_value = "0.3,0.5", value_parser = scale)]
    scale: (f64, f64),
    /// Degrees that it may be turned either way.
    #[arg(long, default_value_t = 22.5, value_parser = turn)]
    rotation: f64,
    /// Pixels of a side of the patch.
    #[arg(long, value_name = "PIXELS", default_value_t = 128, value_parser = clap::value_parser!(u32).range(8..=1024))]
    side: u32,
    /// Photos that are read at most; the first by name.
    #[arg(long, value_name = "COUNT", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(2..))]
    limit: u32,
}

fn scale(text: &str) -> std::result::Result<(f64, f64), String> {
    let both = text.split_once(',').and_then(|(from, to)| Some((from.trim().parse().ok()?, to.trim().parse().ok()?)));
    both.filter(|&(from, to): &(f64, f64)| 0.0 < from && from <= to && to <= 1.0)
        .ok_or_else(|| "two shares from 0 to 1 are needed, the smaller first, as in 0.3,0.5".into())
}

fn turn(text: &str) -> std::result::Result<f64, String> {
    let degrees = text.parse().ok().filter(|degrees| (0.0..=180.0).contains(degrees));
    degrees.ok_or_else(|| "degrees from 0 to 180 are needed".into())
}

pub(super) fn run(args: PatchArgs, as_json: bool, quiet: bool) -> Result<()> {
    let settings = args.settings.resolve()?.settings;
    model::check_device(&settings.model)?;
    let brought = args.script.bring(&args.model)?;
    let target = find_class(brought.spec.classes(), &args.target, "--target")?;
    let classifier = Classifier::load(&brought.spec, &brought.bytes, model::device(&settings.model.device)?)?;
    if !classifier.is_differentiable() {
        return Err(Error::model("the model hides its gradient, which a patch is trained along"));
    }
    let batch = settings.evaluate.batch;
    keep_apart(&args.out, &args.photos)?;
    let (photos, small) = read(&args.photos, args.limit as usize, &settings, &brought)?;
    if small > 0 {
        eprintln!("hardy: {}", view::told_of_small(small));
    }
    let (train, kept) = dealt(sticker::without_target(&classifier, photos, target, batch));
    if train.views.is_empty() || kept.views.is_empty() {
        return Err(Error::data(format!(
            "{} has too few photos that the model does not take for '{}' already: at least 2 are needed",
            args.photos.display(),
            args.target
        )));
    }
    let PatchArgs { steps, scale, rotation, side, out, .. } = args;
    let shape = PatchSettings { side, scale, rotation, ..PatchSettings::default() };
    let order = Order { target, settings: shape, steps, batch, seed: settings.job.seed };
    let meter = Meter::new("train", Unit::Things("steps"), quiet);
    let taken = Cell::new(0);
    let step = |reached: f64| {
        taken.set(taken.get() + 1);
        meter.remark(format!("{:.0} % of the batch", 100.0 * reached));
        meter.show(taken.get(), Some(steps.into()));
    };
    let class = Class { index: target, name: brought.spec.classes()[target].clone() };
    let made = sticker::make(&classifier, &train, &kept, &order, class, EXAMPLES, &step);
    drop(meter);
    clear(&out)?;
    write_whole(&out.join("patch.png"), &png(&made.picture)?)?;
    for (number, example) in made.examples.iter().enumerate() {
        write_whole(&out.join(example_file(number)), &png(example)?)?;
    }
    let found = &made.success;
    let report = json!({
        "success": found, "trained_on": train.views.len(), "steps": steps, "batch": batch, "scale": scale,
        "rotation": rotation, "side": side, "seed": order.seed, "size": brought.spec.input_size(), "enlarged": small,
    });
    let text = serde_json::to_vec_pretty(&report).context(Kind::Internal, || "figures have no JSON form".into())?;
    write_whole(&out.join(RECORD), &text)?;
    if as_json {
        println!("{report}");
    } else {
        let (low, high) = found.interval;
        println!(
            "{} of {} photos ({:.1}–{:.1} %) are taken for '{}' under the patch; {} are no longer what they were, under a \
             grey disc {}\nwrote {}",
            found.reached,
            found.photos,
            100.0 * low,
            100.0 * high,
            found.target.name,
            found.changed,
            found.changed_by_grey,
            out.join("patch.png").display()
        );
    }
    Ok(())
}

fn example_file(number: usize) -> String {
    format!("example-{}.png", number + 1)
}

/// Removes the results of an older run, of which there may be more examples.
fn clear(out: &Path) -> Result<()> {
    for name in std::iter::once(RECORD.to_string()).chain((0..EXAMPLES).map(example_file)) {
        let path = out.join(name);
        if path.exists() {
            std::fs::remove_file(&path).context(Kind::Storage, || format!("{} cannot be removed", path.display()))?;
        }
    }
    Ok(())
}

/// The photos of a folder, at most `limit`, at the model's size, and how many of them are smaller than that. What is
/// no photo is named and passed over.
fn read(folder: &Path, limit: usize, settings: &Settings, brought: &Brought) -> Result<(Photos, u64)> {
    let (mut photos, mut small) = (Photos::default(), 0);
    let size = brought.spec.input_size();
    for (name, _) in folder::visible(folder)? {
        if photos.views.len() == limit {
            break;
        }
        let path = folder.join(&name);
        let bytes = std::fs::read(&path).context(Kind::Storage, || format!("{} cannot be read", path.display()))?;
        match decode(&bytes, &settings.data) {
            Ok(photo) => {
                small += u64::from(view::is_small(photo.dimensions(), size));
                photos.views.push(view::plain(&photo, size, brought.spec.resize()));
                photos.keys.push(name);
            }
            Err(reason) => eprintln!("hardy: {} is passed over: {reason}", path.display()),
        }
    }
    if photos.views.is_empty() {
        return Err(Error::data(format!("no photos found in {}", folder.display())));
    }
    Ok((photos, small))
}

/// Every fourth photo is kept from training.
fn dealt(photos: Photos) -> (Photos, Photos) {
    let (mut train, mut kept) = (Photos::default(), Photos::default());
    for (number, (key, view)) in photos.keys.into_iter().zip(photos.views).enumerate() {
        let side = if number % 4 == 1 { &mut kept } else { &mut train };
        side.keys.push(key);
        side.views.push(view);
    }
    (train, kept)
}
