//! A model that somebody brings to be measured or attacked: one of Hardy's, or any TorchScript file.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::spec::INPUT_SIZES;
use super::{ModelSpec, checkpoint, load_model};
use crate::config::{Resize, Settings};
use crate::error::{Context, Error, Kind, Result};

/// Larger files are not read.
const MAX_FILE_BYTES: u64 = 4 << 30;

/// A model as it travels to whoever computes with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Brought {
    /// What it is.
    pub spec: Described,
    /// A checkpoint, or the TorchScript file as it is.
    pub bytes: Vec<u8>,
}

/// Describes a model of either kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Described {
    /// One of Hardy's architectures.
    Network(ModelSpec),
    /// A TorchScript file, which holds its network.
    Script(ScriptSpec),
}

/// What a TorchScript file does not say of itself. Written as JSON beside it, `model.json` for `model.pt`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScriptSpec {
    /// The file's name, for messages; the JSON beside it need not repeat it.
    #[serde(default)]
    pub file: String,
    /// Class names in the order of the logits.
    pub classes: Vec<String>,
    /// Side of the square input in pixels.
    pub input_size: u32,
    /// How a photo becomes that square.
    #[serde(default = "squash")]
    pub resize: Resize,
    /// What the network wants subtracted from each channel, pixel scale `[0, 1]`; 0 where it does so itself.
    pub mean: [f32; 3],
    /// What it then wants it divided by; 1 where it does so itself.
    pub std: [f32; 3],
}

fn squash() -> Resize {
    Resize::Squash
}

/// What is said of a TorchScript file beside the file; it goes before the JSON.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ScriptHints {
    /// See [`ScriptSpec::input_size`].
    pub input_size: Option<u32>,
    /// See [`ScriptSpec::mean`].
    pub mean: Option<[f32; 3]>,
    /// See [`ScriptSpec::std`].
    pub std: Option<[f32; 3]>,
    /// A file of class names, one a line or a JSON list; or `imagenet`.
    pub classes: Option<PathBuf>,
}

impl Described {
    /// Class names in the order of the logits.
    pub fn classes(&self) -> &[String] {
        match self {
            Self::Network(spec) => &spec.classes,
            Self::Script(spec) => &spec.classes,
        }
    }

    /// Side of the square input in pixels.
    pub fn input_size(&self) -> u32 {
        match self {
            Self::Network(spec) => spec.input_size,
            Self::Script(spec) => spec.input_size,
        }
    }

    /// How a photo becomes that square.
    pub fn resize(&self) -> Resize {
        match self {
            Self::Network(spec) => spec.resize,
            Self::Script(spec) => spec.resize,
        }
    }

    /// Its architecture, or what stands for one.
    pub fn architecture(&self) -> String {
        match self {
            Self::Network(spec) => spec.architecture.to_string(),
            Self::Script(_) => "TorchScript".into(),
        }
    }

    /// Whether images made against `other` can be shown to this model.
    ///
    /// # Errors
    /// Of kind `Model` where they tell other classes apart or see images of another size.
    pub fn check_twin(&self, other: &Described) -> Result<()> {
        if self.classes() != other.classes() {
            return Err(Error::model("the two models tell other classes apart: images cannot be carried over"));
        }
        if self.input_size() != other.input_size() {
            return Err(Error::model(format!(
                "the two models see images of {} and of {} pixels: images cannot be carried over",
                self.input_size(),
                other.input_size()
            )));
        }
        Ok(())
    }

    /// `settings` of a job that looks at this model.
    pub fn fit(&self, mut settings: Settings) -> Settings {
        if let Self::Network(spec) = self {
            settings.model.architecture = spec.architecture;
        }
        settings.model.input_size = self.input_size();
        settings.model.resize = self.resize();
        settings
    }
}

/// Reads the model at `path`: a folder, a weights file with `model.json` beside it, `imagenet`, or a
/// TorchScript file, of which `hints` and the JSON beside it tell the rest. A model that no flags are for has no hints.
///
/// # Errors
/// When there is no such model, it is damaged, or something about a TorchScript file is not known.
pub fn bring(path: &Path, hints: Option<&ScriptHints>) -> Result<Brought> {
    if is_script(path)? {
        return script(path, hints);
    }
    if hints.is_some_and(|hints| *hints != ScriptHints::default()) {
        return Err(Error::usage(format!(
            "--input-size, --mean, --std and --classes are for TorchScript files; {} describes itself",
            path.display()
        )));
    }
    let (spec, weights) = load_model(path)?;
    Ok(Brought { spec: Described::Network(spec), bytes: checkpoint::write(&weights)? })
}

/// Whether a file is TorchScript: a zip with the constants of a program, which weights alone lack.
fn is_script(path: &Path) -> Result<bool> {
    if !path.is_file() {
        return Ok(false);
    }
    let mut file = File::open(path).context(Kind::Storage, || format!("{} cannot be read", path.display()))?;
    let mut magic = [0; 2];
    if file.read_exact(&mut magic).is_err() || magic != *b"PK" {
        return Ok(false);
    }
    let archive =
        zip::ZipArchive::new(file).context(Kind::Model, || format!("{} is damaged or cut off", path.display()))?;
    Ok(archive.file_names().any(|name| name.ends_with("/constants.pkl")))
}

fn script(path: &Path, hints: Option<&ScriptHints>) -> Result<Brought> {
    let size = std::fs::metadata(path).map_or(0, |meta| meta.len());
    if size > MAX_FILE_BYTES {
        let shown = path.display();
        return Err(Error::model(format!("{shown} has {size} bytes, more than the {MAX_FILE_BYTES} allowed")));
    }
    let spec = described(path, hints)?;
    let sound = spec.std.iter().all(|s| s.is_finite() && *s > 0.0) && spec.mean.iter().all(|m| m.is_finite());
    if !sound || !INPUT_SIZES.contains(&spec.input_size) || spec.classes.len() < 2 {
        return Err(Error::model(format!(
            "{} needs an input size from {} to {}, at least two classes and a std above 0; it has {}, {} and {:?}",
            path.display(),
            INPUT_SIZES.start(),
            INPUT_SIZES.end(),
            spec.input_size,
            spec.classes.len(),
            spec.std
        )));
    }
    let bytes = std::fs::read(path).context(Kind::Storage, || format!("{} cannot be read", path.display()))?;
    Ok(Brought { spec: Described::Script(spec), bytes })
}

/// Hints first, then the JSON beside the file.
fn described(path: &Path, hints: Option<&ScriptHints>) -> Result<ScriptSpec> {
    let beside = path.with_extension("json");
    let written = match std::fs::read(&beside) {
        Ok(text) => Some(
            serde_json::from_slice::<ScriptSpec>(&text)
                .context(Kind::Model, || format!("{} does not describe a TorchScript file", beside.display()))?,
        ),
        Err(_) => None,
    };
    let missing = |flag: &str| {
        let (shown, beside) = (path.display(), beside.display());
        let flag_or = if hints.is_some() { format!("--{flag}, or ") } else { String::new() };
        Error::usage(format!(
            "{shown} is a TorchScript file, which does not say its {flag}: give {flag_or}{beside} with classes, \
             input_size, mean and std"
        ))
    };
    let hints = hints.cloned().unwrap_or_default();
    let classes = match (&hints.classes, &written) {
        (Some(file), _) => classes(file)?,
        (None, Some(spec)) => spec.classes.clone(),
        (None, None) => return Err(missing("classes")),
    };
    let from = |field: fn(&ScriptSpec) -> [f32; 3]| written.as_ref().map(field);
    Ok(ScriptSpec {
        file: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        classes,
        input_size: hints.input_size.or(written.as_ref().map(|s| s.input_size)).ok_or_else(|| missing("input-size"))?,
        resize: written.as_ref().map_or_else(squash, |s| s.resize),
        mean: hints.mean.or(from(|s| s.mean)).ok_or_else(|| missing("mean"))?,
        std: hints.std.or(from(|s| s.std)).ok_or_else(|| missing("std"))?,
    })
}

/// Class names from a file, one a line or a JSON list; `imagenet`: the 1000 that ship with the program.
fn classes(file: &Path) -> Result<Vec<String>> {
    if file.as_os_str() == "imagenet" && !file.exists() {
        return Ok(super::imagenet_classes());
    }
    let text = std::fs::read_to_string(file)
        .context(Kind::NotFound, || format!("the class names {} cannot be read", file.display()))?;
    if text.trim_start().starts_with('[') {
        return serde_json::from_str(&text)
            .context(Kind::Usage, || format!("{} is no JSON list of class names", file.display()));
    }
    Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_string).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
    }

    fn refused(path: &Path, hints: Option<&ScriptHints>) -> String {
        bring(path, hints).unwrap_err().chain()
    }

    #[test]
    fn a_script_is_described_by_the_json_beside_it_and_flags_go_first() {
        let path = fixture("script/traced.pt");
        let known = bring(&path, None).unwrap();
        assert_eq!((known.spec.input_size(), known.spec.classes().len()), (32, 3));
        assert_eq!(known.bytes, std::fs::read(&path).unwrap());
        let other = bring(&path, Some(&ScriptHints { input_size: Some(40), ..ScriptHints::default() })).unwrap();
        assert_eq!((other.spec.input_size(), other.spec.classes()), (40, known.spec.classes()));
        let text = serde_json::to_string(&known.spec).unwrap();
        assert_eq!(serde_json::from_str::<Described>(&text).unwrap(), known.spec);
    }

    #[test]
    fn what_a_script_does_not_say_is_asked_for_by_name() {
        let path = fixture("script/scripted.pt");
        let folder = tempfile::tempdir().unwrap();
        let names = folder.path().join("names.txt");
        std::fs::write(&names, "reddish\ngreenish\n\nbluish\n").unwrap();
        let mut hints = ScriptHints::default();
        assert!(refused(&path, Some(&hints)).contains("--classes"));
        // A model that none of the flags are for.
        assert!(!refused(&path, None).contains("--"));
        hints.classes = Some(names);
        assert!(refused(&path, Some(&hints)).contains("--input-size"));
        hints.input_size = Some(32);
        assert!(refused(&path, Some(&hints)).contains("--mean"));
        (hints.mean, hints.std) = (Some([0.5; 3]), Some([0.0, 1.0, 1.0]));
        assert!(refused(&path, Some(&hints)).contains("std above 0"));
        hints.std = Some([0.5; 3]);
        assert_eq!(bring(&path, Some(&hints)).unwrap().spec.classes(), ["reddish", "greenish", "bluish"]);
        hints.classes = Some("imagenet".into());
        assert_eq!(bring(&path, Some(&hints)).unwrap().spec.classes().len(), 1000);
    }

    #[test]
    fn weights_alone_are_no_script_and_describe_themselves() {
        assert!(!is_script(&fixture("model/zip.pth")).unwrap());
        let hints = ScriptHints { input_size: Some(32), ..ScriptHints::default() };
        assert!(refused(&fixture("model/zip.pth"), Some(&hints)).contains("for TorchScript files"));
    }
}
