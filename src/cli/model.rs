//! Flags that name a model.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::config::Settings;
use crate::coordinator::{Compared, JobSpec, Surrogate};
use crate::error::{Error, Result};
use crate::model::{Brought, Described, ScriptHints, bring};
use crate::report::LOOKS;
use crate::store::Key;
use crate::task::ModelName;

/// What is put on the store, and where.
pub(super) type Files = Vec<(Key, Vec<u8>)>;

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
        bring(path, Some(&ScriptHints { input_size, mean, std, classes }))
    }
}

/// The model that `attack.from` names, if it names one; it must fit the one that is attacked.
pub(super) fn surrogate(settings: &Settings, attacked: &Described) -> Result<Option<Brought>> {
    let from = &settings.attack.from;
    if from.is_empty() {
        return Ok(None);
    }
    let brought = bring(Path::new(from), None)?;
    attacked.check_twin(&brought.spec).map_err(|e| Error::new(e.kind(), format!("attack.from = \"{from}\": {e}")))?;
    Ok(Some(brought))
}

/// Models that are measured beside each other.
#[derive(Debug)]
pub(super) struct Contest {
    /// What the first is called.
    first: ModelName,
    others: Vec<(ModelName, Brought)>,
}

impl Contest {
    /// The models of `evaluate.beside` beside the one that was brought from `path`; none where that is alone.
    ///
    /// # Errors
    /// When one of them cannot be read, sees other images than the first, or has the name of another.
    pub(super) fn of(settings: &Settings, path: &Path, first: &Described) -> Result<Option<Self>> {
        let texts = &settings.evaluate.beside;
        if texts.is_empty() {
            return Ok(None);
        }
        if texts.len() >= LOOKS {
            let many = texts.len() + 1;
            return Err(Error::usage(format!("evaluate.beside: {many} models; at most {LOOKS} can be told apart")));
        }
        let mut contest = Self { first: named(&path.to_string_lossy())?.0, others: Vec::new() };
        for text in texts {
            let about = |e: Error| Error::new(e.kind(), format!("evaluate.beside, {}: {e}", text.escape_debug()));
            let (name, path) = named(text).map_err(about)?;
            let known = [&contest.first].into_iter().chain(contest.others.iter().map(|(name, _)| name));
            if known.into_iter().any(|other| *other == name) {
                return Err(about(Error::usage(format!("two models are called {name}; name one, as in other={text}"))));
            }
            let brought = bring(&path, None).map_err(about)?;
            first.check_twin(&brought.spec).map_err(about)?;
            if first.resize() != brought.spec.resize() {
                return Err(about(Error::model("the two models want photos cut in different ways")));
            }
            contest.others.push((name, brought));
        }
        Ok(Some(contest))
    }

    /// What tells one contest from another.
    pub(super) fn identity(&self) -> Value {
        let others = self.others.iter();
        json!([self.first, others.map(|(name, other)| (name, sha256(&other.bytes))).collect::<Vec<_>>()])
    }
}

/// The models of a job.
#[derive(Debug, Default)]
pub(super) struct Models {
    /// Weights to start from, or the model as it was brought.
    pub(super) bytes: Option<Vec<u8>>,
    /// What it is, where the job looks at it.
    pub(super) model: Option<Described>,
    /// See [`JobSpec::surrogate`].
    pub(super) surrogate: Option<Brought>,
    /// See [`JobSpec::compared`].
    pub(super) contest: Option<Contest>,
}

impl Models {
    /// A model to look at.
    pub(super) fn of(brought: Brought) -> Self {
        Self { bytes: Some(brought.bytes), model: Some(brought.spec), ..Self::default() }
    }

    /// Names them in `spec` and gives the files that are then to be put on the store.
    pub(super) fn name_in(self, spec: &mut JobSpec) -> Files {
        let (id, mut files) = (spec.id.clone(), Vec::new());
        let mut file = |name: &str, bytes: Vec<u8>| {
            let blob = JobSpec::given(&id, name, &bytes);
            files.push((blob.key.clone(), bytes));
            blob
        };
        spec.weights = self.bytes.map(|bytes| file("weights", bytes));
        spec.surrogate =
            self.surrogate.map(|Brought { spec, bytes }| Surrogate { model: spec, weights: file("surrogate", bytes) });
        if let (Some(Contest { first, others }), Some(model), Some(weights)) =
            (self.contest, &self.model, &spec.weights)
        {
            spec.compared = vec![Compared { name: first, model: model.clone(), weights: weights.clone() }];
            spec.compared.extend(others.into_iter().map(|(name, Brought { spec, bytes })| {
                let weights = file(&format!("compared-{name}"), bytes);
                Compared { name, model: spec, weights }
            }));
        }
        spec.model = self.model;
        files
    }
}

/// Where the first model lies, which may have a name where others are beside it.
pub(super) fn place(settings: &Settings, path: &Path) -> Result<PathBuf> {
    if settings.evaluate.beside.is_empty() { Ok(path.into()) } else { Ok(named(&path.to_string_lossy())?.1) }
}

/// `NAME=MODEL`, or a model's place, of which the folder or file says the name.
fn named(text: &str) -> Result<(ModelName, PathBuf)> {
    if let Some((name, path)) = text.split_once('=')
        && !Path::new(text).exists()
    {
        return Ok((name.parse()?, path.into()));
    }
    let path = Path::new(text);
    let parts = path.components().rev().filter_map(|part| Path::new(part.as_os_str()).file_stem()?.to_str());
    // Every run keeps its model in a folder of this name.
    let name = parts.into_iter().find(|part| *part != "model").unwrap_or("model");
    let unfit = |e: Error| Error::usage(format!("{e}; give it another name, as in name={}", text.escape_debug()));
    Ok((name.parse().map_err(unfit)?, path.into()))
}

/// In lower-case hexadecimal.
pub(super) fn sha256(bytes: impl AsRef<[u8]>) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn channels(text: &str) -> std::result::Result<[f32; 3], String> {
    let numbers: Option<Vec<f32>> = text.split(',').map(|part| part.trim().parse().ok()).collect();
    numbers.and_then(|n| n.try_into().ok()).ok_or_else(|| "three numbers are needed, as in 0.485,0.456,0.406".into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_called_as_it_is_named_or_after_its_place() {
        for (text, name, path) in [
            ("runs/f8/model", "f8", "runs/f8/model"),
            ("runs/f8/model/model.safetensors", "f8", "runs/f8/model/model.safetensors"),
            ("resnet18.pt", "resnet18", "resnet18.pt"),
            ("imagenet", "imagenet", "imagenet"),
            ("plain=runs/f8/model", "plain", "runs/f8/model"),
        ] {
            assert_eq!(named(text).unwrap(), (name.parse().unwrap(), PathBuf::from(path)), "{text}");
        }
        assert!(named("../x=y").is_err() && named("a model.pt").is_err());
    }
}
