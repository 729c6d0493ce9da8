//! `hardy report`: what a finished run found, or how a model fared over the nights.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::cluster;
use super::models::StoreArgs;
use crate::error::{Context, Error, Kind, Result};
use crate::model::write_whole;
use crate::registry::Registry;
use crate::report::{Report, headline, history_page};
use crate::task::ModelName;

/// Prints the headline figures of a finished run and where its page lies, or draws the history of a model.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  hardy report demo-run
  hardy report demo-run --json | jq '.results[0].accuracy'
  hardy report --history flowers --store models --out flowers.html")]
pub(super) struct Args {
    /// The `--out` folder of a run.
    #[arg(value_name = "FOLDER", required_unless_present = "history", conflicts_with = "history")]
    folder: Option<PathBuf>,
    /// Draw the history of this model of the registry; the name may be left out where there is only one.
    #[arg(long, value_name = "MODEL", num_args = 0..=1)]
    history: Option<Option<ModelName>>,
    /// The page of the history. Default: MODEL.html.
    #[arg(long, value_name = "FILE", requires = "history")]
    out: Option<PathBuf>,
    #[command(flatten)]
    at: StoreArgs,
}

/// Prints the table or, with `json`, headline, results, worst cases and checks. Errors: of kind `NotFound` when the
/// folder does not exist or holds no report, `Data` when the report is of another version or damaged.
pub(super) fn run(args: Args, json: bool) -> Result<()> {
    let text = match (&args.folder, &args.history) {
        (_, Some(model)) => history(model.as_ref(), &args, json)?,
        (Some(folder), None) => describe(folder, json)?,
        (None, None) => return Err(Error::usage("name the folder of a run, or --history")),
    };
    match std::io::stdout().write_all(text.as_bytes()) {
        // Whoever reads the pipe has seen enough.
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.context(Kind::Storage, || "the output cannot be written".to_owned()),
    }
}

/// Writes the page, or prints what it is made from.
fn history(model: Option<&ModelName>, args: &Args, json: bool) -> Result<String> {
    let settings = args.at.resolve()?;
    let trend = cluster::block_on(async {
        let store = cluster::store(&settings).await?;
        let mut all = Registry::models(&*store).await?;
        let model = match model {
            Some(model) if all.contains(model) => model.clone(),
            Some(model) => {
                return Err(Error::not_found(format!("there is no model {model}; `hardy models list` lists them")));
            }
            None if all.len() == 1 => all.remove(0),
            None => {
                let names: Vec<&str> = all.iter().map(|m| m.0.as_str()).collect();
                return Err(Error::usage(format!(
                    "--history needs the name of a model; there are {}: {}",
                    names.len(),
                    names.join(", ")
                )));
            }
        };
        Registry::new(store, &model).trend(settings.gate.epsilon.value()).await
    })?;
    if json {
        let text =
            serde_json::to_string_pretty(&trend).context(Kind::Internal, || "the history is no JSON".to_owned())?;
        return Ok(text + "\n");
    }
    let path = args.out.clone().unwrap_or_else(|| PathBuf::from(format!("{}.html", trend.model)));
    write_whole(&path, history_page(&trend)?.as_bytes())?;
    let whole = fs::canonicalize(&path).unwrap_or(path);
    Ok(format!("{}: {} entries\n  page: {}\n", trend.model, trend.nights.len(), whole.display()))
}

fn describe(folder: &Path, json: bool) -> Result<String> {
    let path = folder.join("report.json");
    let bytes = fs::read(&path).map_err(|e| {
        if !folder.is_dir() {
            return Error::not_found(format!("there is no folder '{}'", folder.display()));
        }
        match e.kind() {
            ErrorKind::NotFound => Error::not_found(format!(
                "'{0}' holds no report.json: it is not the --out folder of a run, or its run is not finished (`hardy run \
                 --out {0}` with the same settings goes on with it)",
                folder.display()
            )),
            _ => Error::storage(format!("'{}' cannot be read", path.display())).because(e),
        }
    })?;
    let report = Report::from_json(&bytes).context(Kind::Data, || format!("'{}' is unusable", path.display()))?;
    if json {
        return Ok(format!("{:#}\n", report.brief()));
    }
    let page = folder.join("report.html");
    let whole = fs::canonicalize(&page).unwrap_or(page);
    Ok(format!("{}\n  page: {}\n", headline(&report), whole.display()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn error(content: Option<&str>) -> Error {
        let folder = tempfile::tempdir().unwrap();
        if let Some(content) = content {
            fs::write(folder.path().join("report.json"), content).unwrap();
        }
        describe(folder.path(), false).unwrap_err()
    }

    #[test]
    fn says_why_a_folder_cannot_be_reported_on() {
        let missing = describe("/no/such/folder".as_ref(), false).unwrap_err();
        assert_eq!(missing.kind(), Kind::NotFound);
        assert!(missing.to_string().contains("/no/such/folder"));

        let unfinished = error(None);
        assert_eq!(unfinished.kind(), Kind::NotFound);
        assert!(unfinished.to_string().contains("not finished"), "{unfinished}");

        for (content, expected) in [
            ("{", "no JSON"),
            ("{}", "not written by hardy"),
            (r#"{"version": 99}"#, "version 99, of a newer hardy; this one reads version 1"),
            (r#"{"version": 0}"#, "version 0, of an older hardy"),
            (r#"{"version": 1, "job": "x"}"#, "damaged"),
        ] {
            let error = error(Some(content));
            assert_eq!(error.kind(), Kind::Data, "{content}");
            assert!(error.chain().contains(expected), "{content}: {}", error.chain());
        }
    }
}
