//! Flags that name a model.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::config::Settings;
use crate::error::{Error, Result};
use crate::model::{Brought, Described, ScriptHints, bring};

/// Above these flags in the help.
const HEADING: &str = "TorchScript files (or FILE.json beside FILE.pt with classes, input_size, mean, std)";

/// What a TorchScript file does not say of itself.
#[derive(Debug, Default, PartialEq, Args)]
pub(super) struct ScriptArgs {
    /// Side of the input in pixels.
    #[arg(long, help_heading = HEADING, value_name = "PIXELS")]
    input_size: Option<u32>,
    /// Per-channel mean on the pixel scale [0, 1], e.g. 0.485,0.456,0.406; 0,0,0 if the model subtracts it itself.
    #[arg(long, help_heading = HEADING, value_name = "R,G,B", value_parser = channels, allow_hyphen_values = true)]
    mean: Option<[f32; 3]>,
    /// Per-channel standard deviation likewise; 1,1,1 if the model divides by it itself.
    #[arg(long, help_heading = HEADING, value_name = "R,G,B", value_parser = channels, allow_hyphen_values = true)]
    std: Option<[f32; 3]>,
    /// Class names, one a line or a JSON list, in the order of the logits; or `imagenet`.
    #[arg(long, help_heading = HEADING, value_name = "FILE")]
    classes: Option<PathBuf>,
}

impl ScriptArgs {
    /// The model at `path`.
    pub(super) fn bring(self, path: &Path) -> Result<Brought> {
        let Self { input_size, mean, std, classes } = self;
        bring(path, &ScriptHints { input_size, mean, std, classes })
    }
}

/// The model that `attack.from` names, if it names one; it must fit the one that is attacked.
pub(super) fn surrogate(settings: &Settings, attacked: &Described) -> Result<Option<Brought>> {
    let from = &settings.attack.from;
    if from.is_empty() {
        return Ok(None);
    }
    let brought = bring(Path::new(from), &ScriptHints::default())?;
    attacked.check_twin(&brought.spec).map_err(|e| Error::new(e.kind(), format!("attack.from = \"{from}\": {e}")))?;
    Ok(Some(brought))
}

fn channels(text: &str) -> std::result::Result<[f32; 3], String> {
    let numbers: Option<Vec<f32>> = text.split(',').map(|part| part.trim().parse().ok()).collect();
    numbers.and_then(|n| n.try_into().ok()).ok_or_else(|| "three numbers are needed, as in 0.485,0.456,0.406".into())
}
