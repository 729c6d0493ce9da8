//! A finished model in a folder: `model.safetensors` with timm's names and `model.json`.

use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::architecture::Design;
use super::spec::INPUT_SIZES;
use super::weights::Weights;
use super::{ModelSpec, export, fold, import, safetensors_file};
use crate::config::{Architecture, Resize};
use crate::error::{Context, Error, Kind, Result};

/// The name of the weights file.
pub const WEIGHTS_FILE: &str = "model.safetensors";
/// The name of the description.
pub const SPEC_FILE: &str = "model.json";

/// `model.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Description {
    #[serde(flatten)]
    spec: ModelSpec,
    #[serde(default)]
    metrics: Value,
    #[serde(default)]
    job: Value,
}

/// The bytes of a model's two files, [`WEIGHTS_FILE`] and [`SPEC_FILE`]. `metrics` and `job` are for
/// readers of `model.json`: what was measured, and what made it.
///
/// # Errors
/// When `folded` does not fit `spec`.
pub fn files(spec: &ModelSpec, folded: &Weights, metrics: Value, job: Value) -> Result<(Vec<u8>, Vec<u8>)> {
    let weights = safetensors_file::write(&export(spec.architecture, folded)?)?;
    let description = Description { spec: spec.clone(), metrics, job };
    let mut text = serde_json::to_vec_pretty(&description).context(Kind::Internal, || "model.json".into())?;
    text.push(b'\n');
    Ok((weights, text))
}

/// Writes a model into `folder`, each file as a whole or not at all.
///
/// # Errors
/// When `folded` does not fit `spec`, or the folder cannot be written.
pub fn save_model(folder: &Path, spec: &ModelSpec, folded: &Weights, metrics: Value, job: Value) -> Result<()> {
    let (weights, text) = files(spec, folded, metrics, job)?;
    std::fs::create_dir_all(folder).context(Kind::Storage, || format!("folder {} cannot be made", folder.display()))?;
    write_whole(&folder.join(WEIGHTS_FILE), &weights)?;
    write_whole(&folder.join(SPEC_FILE), &text)
}

/// Writes a file that is either there in full or not at all.
///
/// # Errors
/// When its folder cannot be made or written.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || -> std::io::Result<()> {
        std::fs::create_dir_all(folder)?;
        let mut file = tempfile::Builder::new().permissions(readable()).tempfile_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().context(Kind::Storage, || format!("file {} cannot be written", path.display()))
}

fn readable() -> std::fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o644)
}

/// Reads a model: its folder, its safetensors file (`model.json` beside it), or `imagenet` for
/// EfficientNet-Lite0 with its 1000 public classes.
///
/// # Errors
/// When there is no model, its files do not fit each other, or they are damaged.
pub fn load_model(path: &Path) -> Result<(ModelSpec, Weights)> {
    if path.as_os_str() == "imagenet" && !path.exists() {
        return imagenet_model();
    }
    let (folder, weights) = match path.is_dir() {
        true => (path, path.join(WEIGHTS_FILE)),
        false => (path.parent().unwrap_or(Path::new(".")), path.to_path_buf()),
    };
    let file = folder.join(SPEC_FILE);
    let text = std::fs::read(&file)
        .context(Kind::NotFound, || format!("no model at {}: {} cannot be read", path.display(), file.display()))?;
    let description: Description = serde_json::from_slice(&text)
        .context(Kind::Model, || format!("{} is not a model's description", file.display()))?;
    let spec = description.spec;
    if !INPUT_SIZES.contains(&spec.input_size) || spec.classes.is_empty() {
        return Err(Error::model(format!(
            "{} needs an input size from {} to {} and at least one class; it has {} and {}",
            file.display(),
            INPUT_SIZES.start(),
            INPUT_SIZES.end(),
            spec.input_size,
            spec.classes.len()
        )));
    }
    let timm = import::load_file(&weights)?;
    let folded =
        fold(spec.architecture, &timm).context(Kind::Model, || format!("{} is unusable", weights.display()))?;
    let named = spec.classes.len();
    let known = folded[&Design::of(spec.architecture).head_bias()].values.len();
    if named != known {
        return Err(Error::model(format!(
            "{} names {named} classes, but {} tells {known} apart",
            file.display(),
            weights.display()
        )));
    }
    Ok((spec, folded))
}

/// The names of ImageNet's 1000 classes.
pub(crate) fn imagenet_classes() -> Vec<String> {
    include_str!("imagenet_classes.txt").lines().map(str::to_string).collect()
}

fn imagenet_model() -> Result<(ModelSpec, Weights)> {
    let architecture = Architecture::TfEfficientnetLite0;
    let design = Design::of(architecture);
    let spec = ModelSpec {
        architecture,
        classes: imagenet_classes(),
        input_size: 224,
        resize: Resize::Crop,
        mean: design.mean,
        std: design.std,
    };
    Ok((spec, fold(architecture, &import::imagenet(architecture)?)?))
}
