//! `hardy weights`: weights files from elsewhere.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde::de::value::{Error as Unknown, StrDeserializer};
use serde_json::json;

use crate::config::{Architecture, Settings};
use crate::error::{Error, Result};
use crate::model::{self, Weights, checkpoint, import, write_whole};

#[derive(Debug, Subcommand)]
pub(super) enum WeightsCommand {
    /// Check a weights file and write it as safetensors with timm's names.
    Import(ImportArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "Example:
  hardy weights import resnet18-f37072fd.pth --out resnet18.safetensors
  hardy run --set model.architecture=resnet18 --set model.weights=resnet18.safetensors

Reads safetensors and what torch.save writes (zip or legacy) by timm, torchvision and efficientnet-lite-pytorch.
Nothing in a file is run: one that holds more than tensors is refused.")]
pub(super) struct ImportArgs {
    /// The weights file.
    file: PathBuf,
    /// tf_efficientnet_lite0, resnet18, resnet50 or hardy_small; without it the tensors tell.
    #[arg(long, value_parser = architecture)]
    architecture: Option<Architecture>,
    /// The safetensors file to write; without it the file is only checked.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

fn architecture(text: &str) -> std::result::Result<Architecture, Unknown> {
    Architecture::deserialize(StrDeserializer::new(text))
}

pub(super) fn run(command: WeightsCommand, json: bool) -> Result<()> {
    let WeightsCommand::Import(args) = command;
    let (architecture, weights) = import::timm_weights(args.architecture, &args.file)?;
    let parameters: usize = weights.values().map(|array| array.values.len()).sum();
    if let Some(out) = &args.out {
        write_whole(out, &checkpoint::write(&weights)?)?;
    }
    if json {
        let (tensors, file) = (weights.len(), args.out);
        println!(
            "{}",
            json!({ "architecture": architecture, "tensors": tensors, "numbers": parameters, "file": file })
        );
    } else {
        let place = args.out.map(|out| format!(" in {}", out.display())).unwrap_or_default();
        println!("{architecture}: {} tensors, {parameters} numbers{place}", weights.len());
    }
    Ok(())
}

/// The weights that `model.weights` names, folded; none for fresh ones.
pub(super) fn starting(settings: &Settings) -> Result<Option<Weights>> {
    let architecture = settings.model.architecture;
    let found = match settings.model.weights.as_str() {
        "none" => return Ok(None),
        "imagenet" => import::imagenet(architecture)?,
        path => import::with_timm_names(architecture, import::load_file(Path::new(path))?),
    };
    let source = &settings.model.weights;
    model::fold(architecture, &found)
        .map(Some)
        .map_err(|e| Error::new(e.kind(), format!("weights {}", source.escape_debug())).because(e))
}
