//! `hardy config`.

use clap::Subcommand;
use serde_json::{Value, json};

use super::SettingsArgs;
use crate::config::{Settings, reference};
use crate::error::{Context, Kind, Result};

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Print every setting, its value and where the value comes from.
    #[command(after_help = "Example:\n  hardy config show --config configs/flowers.toml --set train.rounds=3")]
    Show(SettingsArgs),
    /// Print every setting with its default and meaning, as Markdown.
    #[command(after_help = "Example:\n  hardy config reference > docs/configuration.md")]
    Reference,
}

pub(super) fn run(command: ConfigCommand, as_json: bool) -> Result<()> {
    let ConfigCommand::Show(args) = command else {
        print!("{}", reference());
        return Ok(());
    };
    let resolved = args.resolve()?;
    let rows = rows(&resolved.settings)?;
    if as_json {
        let object =
            |(key, value): &(String, Value)| (key.clone(), json!({ "value": value, "source": resolved.sources[key] }));
        println!("{:#}", Value::Object(rows.iter().map(object).collect()));
        return Ok(());
    }
    for (key, value) in rows {
        println!("{:<28} {:<24} {}", key, value.to_string(), resolved.sources[&key]);
    }
    Ok(())
}

/// `section.key` and value, passwords hidden.
fn rows(settings: &Settings) -> Result<Vec<(String, Value)>> {
    let tree = serde_json::to_value(settings).context(Kind::Internal, || "settings have no JSON form".into())?;
    let mut rows = Vec::new();
    for (section, table) in tree.as_object().into_iter().flatten() {
        for (key, value) in table.as_object().into_iter().flatten() {
            let shown = match value {
                Value::String(text) if section == "webhook" && key == "url" => {
                    Value::String(crate::webhook::masked(text))
                }
                Value::String(text) if key == "url" => Value::String(without_password(text)),
                other => other.clone(),
            };
            rows.push((format!("{section}.{key}"), shown));
        }
    }
    Ok(rows)
}

/// `amqp://user:***@host` for `amqp://user:secret@host`.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_string() };
    match rest.rsplit_once('@') {
        Some((login, host)) => {
            let user = login.split(':').next().unwrap_or_default();
            format!("{scheme}://{user}:***@{host}")
        }
        None => url.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hides_passwords() {
        assert_eq!(without_password("amqp://u:p@ss@h:5672/v"), "amqp://u:***@h:5672/v");
        assert_eq!(without_password("memory:"), "memory:");
    }
}
