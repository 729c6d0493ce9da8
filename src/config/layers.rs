//! Where each value comes from, and what is wrong with it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use config::{Config, File, FileFormat, ValueKind};
use serde_json::Value;

use super::Settings;
use super::ranges;
use crate::error::{Context, Error, Kind, Result};

/// `configs/default.toml`: every key with its default.
pub const DEFAULT: &str = include_str!("../../configs/default.toml");

const PREFIX: &str = "HARDY_";

/// What must not be repeated in a message.
const SECRETS: &[&str] = &["http.token"];

/// Layers of settings, later ones win.
#[derive(Clone)]
pub struct Layers {
    defaults: BTreeMap<String, Value>,
    values: BTreeMap<String, (Value, String)>,
}

/// Checked settings and the source of each value.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// The settings.
    pub settings: Settings,
    /// `section.key` to where its value was set.
    pub sources: BTreeMap<String, String>,
}

impl fmt::Debug for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = self.values.iter().filter(|(_, (_, source))| source != "default");
        f.debug_map().entries(set.map(|(key, (_, source))| (key, source))).finish()
    }
}

impl Layers {
    /// Only the defaults.
    pub fn new() -> Result<Self> {
        let config = Config::builder()
            .add_source(File::from_str(DEFAULT, FileFormat::Toml))
            .build()
            .context(Kind::Internal, || "the embedded default settings do not parse".into())?;
        let defaults = leaves(config)?;
        let values = defaults.iter().map(|(k, v)| (k.clone(), (v.clone(), "default".to_string()))).collect();
        Ok(Self { defaults, values })
    }

    /// Adds a TOML file.
    pub fn file(mut self, path: &Path) -> Result<Self> {
        let source = path.display().to_string();
        let config = Config::builder()
            .add_source(File::from(path).format(FileFormat::Toml))
            .build()
            .context(Kind::Usage, || format!("the settings file {source} cannot be read"))?;
        for (key, value) in leaves(config)? {
            self.add(key, value, &source)?;
        }
        Ok(self)
    }

    /// Adds variables such as `HARDY_TRAIN__ROUNDS=3`.
    pub fn environment(mut self, variables: impl Iterator<Item = (String, String)>) -> Result<Self> {
        for (name, text) in variables {
            let Some(path) = name.strip_prefix(PREFIX).filter(|p| p.contains("__")) else { continue };
            let key = path.to_lowercase().replace("__", ".");
            let value = self.parse(&key, &text);
            self.add(key, value, &format!("the variable {name}"))?;
        }
        Ok(self)
    }

    /// Adds `section.key=value` texts from the command line.
    pub fn set(mut self, assignments: &[String]) -> Result<Self> {
        for text in assignments {
            let (key, value) = text
                .split_once('=')
                .ok_or_else(|| Error::usage(format!("--set {text}: expected section.key=value")))?;
            let (key, value) = (key.trim(), self.parse(key.trim(), value.trim()));
            self.add(key.to_string(), value, "--set")?;
        }
        Ok(self)
    }

    /// Adds a value that a flag of its own gives.
    pub fn flag(mut self, key: &str, value: Value, flag: &str) -> Result<Self> {
        self.add(key.to_string(), value, flag)?;
        Ok(self)
    }

    /// Adds values by `section.key`, from whoever `source` names.
    pub fn values(mut self, values: impl IntoIterator<Item = (String, Value)>, source: &str) -> Result<Self> {
        for (key, value) in values {
            self.add(key, value, source)?;
        }
        Ok(self)
    }

    /// Reads a value as TOML would; where the key wants text, plain words need no quotes.
    fn parse(&self, key: &str, text: &str) -> Value {
        if matches!(self.defaults.get(key), Some(Value::String(_))) && !text.starts_with('"') {
            return Value::String(text.to_string());
        }
        let parsed = format!("v = {text}").parse::<toml::Table>().ok().and_then(|mut t| t.remove("v"));
        parsed.and_then(|v| serde_json::to_value(v).ok()).unwrap_or_else(|| Value::String(text.to_string()))
    }

    /// Sets one value after checking that the key exists and that the value fits.
    fn add(&mut self, key: String, value: Value, source: &str) -> Result<()> {
        if !self.defaults.contains_key(&key) {
            let near =
                self.defaults.keys().map(|k| (strsim::jaro_winkler(k, &key), k)).max_by(|a, b| a.0.total_cmp(&b.0));
            let hint = near.filter(|n| n.0 > 0.8).map(|n| format!("; did you mean '{}'?", n.1)).unwrap_or_default();
            return Err(Error::usage(format!("unknown key '{key}' in {source}{hint}")));
        }
        let mut alone = self.defaults.clone();
        alone.insert(key.clone(), value.clone());
        let refuse = |why: String| {
            let allowed = ranges::describe(&key).map(|r| format!("; allowed is {r}")).unwrap_or_default();
            match SECRETS.contains(&key.as_str()) {
                true => Error::usage(format!("{key} in {source}: it does not fit{allowed}")),
                false => Error::usage(format!("{key} = {value} in {source}: {why}{allowed}")),
            }
        };
        serde_json::from_value::<Settings>(tree(&alone)).map_err(|e| refuse(e.to_string()))?;
        ranges::check(&key, &value).map_err(refuse)?;
        self.values.insert(key, (value, source.to_string()));
        Ok(())
    }

    /// Joins the layers and checks what only holds for several keys together.
    pub fn resolve(self) -> Result<Resolved> {
        let sources = self.values.iter().map(|(k, (_, s))| (k.clone(), s.clone())).collect();
        let values = self.values.into_iter().map(|(k, (v, _))| (k, v)).collect();
        let settings: Settings = serde_json::from_value(tree(&values))
            .context(Kind::Internal, || "the default settings do not fit the program".into())?;
        ranges::check_together(&settings, &sources)?;
        Ok(Resolved { settings, sources })
    }
}

/// `section.key` to value.
fn leaves(config: Config) -> Result<BTreeMap<String, Value>> {
    let mut found = BTreeMap::new();
    let mut open = vec![(String::new(), config.cache)];
    while let Some((path, value)) = open.pop() {
        match value.kind {
            ValueKind::Table(table) => {
                let join = |k: String| if path.is_empty() { k } else { format!("{path}.{k}") };
                open.extend(table.into_iter().map(|(k, v)| (join(k), v)));
            }
            _ => {
                let json = value
                    .try_deserialize::<Value>()
                    .context(Kind::Usage, || format!("the value of '{path}' is no TOML value Hardy knows"))?;
                found.insert(path, json);
            }
        }
    }
    Ok(found)
}

fn tree(values: &BTreeMap<String, Value>) -> Value {
    let mut root = serde_json::Map::new();
    for (path, value) in values {
        let (section, key) = path.split_once('.').unwrap_or(("", path));
        if let Value::Object(table) = root.entry(section).or_insert_with(|| Value::Object(Default::default())) {
            table.insert(key.to_string(), value.clone());
        }
    }
    Value::Object(root)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn set(assignments: &[&str]) -> Result<Resolved> {
        let texts: Vec<String> = assignments.iter().map(|s| s.to_string()).collect();
        Layers::new()?.set(&texts)?.resolve()
    }

    fn refused(assignment: &str) -> String {
        let error = set(&[assignment]).unwrap_err();
        assert_eq!(error.kind(), Kind::Usage);
        error.chain()
    }

    #[test]
    fn defaults_are_sound_and_every_key_has_a_source() {
        let resolved = set(&[]).unwrap();
        assert_eq!(resolved.settings.job.threads_per_task, 1);
        assert!(resolved.sources.values().all(|s| s == "default"));
    }

    #[test]
    fn later_layers_win() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.toml");
        std::fs::write(&path, "[train]\nrounds = 3\nbatch = 8\nrate = 1\n[adversary]\nepsilon = \"8/255\"\n").unwrap();
        let variables = [("HARDY_TRAIN__BATCH", "16"), ("HARDY_QUEUE__URL", "amqp://h"), ("HARDY_OTHER", "x")];
        let resolved = Layers::new()
            .unwrap()
            .file(&path)
            .unwrap()
            .environment(variables.iter().map(|(k, v)| (k.to_string(), v.to_string())))
            .unwrap()
            .set(&["train.batch=32".into(), "train.loss=mix".into(), "evaluate.attacks=[\"fgsm\"]".into()])
            .unwrap()
            .resolve()
            .unwrap();
        let settings = &resolved.settings;
        assert_eq!((settings.train.rounds, settings.train.batch), (3, 32));
        assert_eq!(settings.adversary.epsilon.to_string(), "8/255");
        assert_eq!(settings.train.loss, crate::config::Loss::Mix);
        assert_eq!(settings.evaluate.attacks, ["fgsm"]);
        assert_eq!(resolved.sources["train.batch"], "--set");
        assert_eq!(resolved.sources["train.rounds"], path.display().to_string());
        assert_eq!(resolved.sources["queue.url"], "the variable HARDY_QUEUE__URL");
    }

    #[test]
    fn errors_name_key_value_range_and_source() {
        assert!(refused("train.round=3").contains("unknown key 'train.round' in --set; did you mean 'train.rounds'?"));
        assert!(refused("train.rounds=three").contains("train.rounds = \"three\" in --set"));
        assert!(refused("train.batch=0").contains("allowed is 1 to 4096"));
        assert!(refused("adversary.epsilon=4").contains("did you mean 4/255?"));
        assert!(refused("adversary.epsilon=-0.1").contains("allowed is 0 to 1"));
        assert!(refused("train.loss=hinge").contains("`trades`"), "{}", refused("train.loss=hinge"));
        assert!(refused("job.name=../x").contains("job.name"));
        assert!(refused("train.rounds").contains("expected section.key=value"));
        assert!(refused("adversary.ramp_start=0.9").contains("ramp_end"));
    }

    #[test]
    fn errors_name_the_file_or_the_variable() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.toml");
        let from_file = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Layers::new().unwrap().file(&path).unwrap_err().chain()
        };
        let from_variable = |name: &str, value: &str| {
            let variables = [(name.to_string(), value.to_string())];
            Layers::new().unwrap().environment(variables.into_iter()).unwrap_err().chain()
        };
        let file = path.display();
        let cases = [
            (from_file("[train]\nrounds = \"three\""), format!("train.rounds = \"three\" in {file}"), "1 to 100000"),
            (from_file("[train]\nround = 3"), format!("unknown key 'train.round' in {file}"), "'train.rounds'"),
            (
                from_variable("HARDY_TRAIN__BATCH", "0"),
                "train.batch = 0 in the variable HARDY_TRAIN__BATCH".to_string(),
                "1 to 4096",
            ),
            (
                from_variable("HARDY_TRAIN__BATHC", "8"),
                "unknown key 'train.bathc' in the variable HARDY_TRAIN__BATHC".to_string(),
                "'train.batch'",
            ),
        ];
        for (said, what, allowed) in cases {
            assert!(said.contains(&what) && said.contains(allowed), "{said}");
        }
    }

    #[test]
    fn http_settings_are_checked_and_the_token_is_not_repeated() {
        assert!(refused("http.listen=8080").contains("host:port"));
        assert!(refused("http.listen=host:http").contains("host:port"));
        assert!(refused("http.listen=:80").contains("host:port"));
        assert!(set(&["http.listen=[::1]:0"]).is_ok());
        let said = refused("http.token=open sesame");
        assert!(said.contains("http.token in --set") && !said.contains("sesame"), "{said}");
        let resolved = set(&["http.token=sesame"]).unwrap();
        assert!(!format!("{resolved:?}").contains("sesame"));
        assert_eq!(resolved.settings.of_job().http.token, Default::default());
    }

    #[test]
    fn a_missing_or_broken_file_is_a_usage_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.toml");
        let error = Layers::new().unwrap().file(&path).unwrap_err();
        assert!(error.chain().contains("x.toml"), "{}", error.chain());
        std::fs::write(&path, "[train\nrounds = 3").unwrap();
        assert_eq!(Layers::new().unwrap().file(&path).unwrap_err().kind(), Kind::Usage);
    }
}
