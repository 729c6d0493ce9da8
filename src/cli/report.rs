//! `hardy report`: what a finished run found.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;

use crate::error::{Context, Error, Kind, Result};
use crate::report::{Report, headline};

/// Prints the headline figures of a finished run and where its page lies.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  hardy report demo-run\n  hardy report demo-run --json | jq '.[0].accuracy'")]
pub struct Args {
    /// The `--out` folder of a run.
    #[arg(value_name = "FOLDER")]
    pub folder: PathBuf,
}

/// Prints the table or, with `json`, the `results` of `report.json`. Errors: of kind `NotFound` when the
/// folder does not exist or holds no report, `Data` when the report is of another version or damaged.
pub fn run(args: &Args, json: bool) -> Result<()> {
    let text = describe(args, json)?;
    match std::io::stdout().write_all(text.as_bytes()) {
        // Whoever reads the pipe has seen enough.
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.context(Kind::Storage, || "the output cannot be written".to_owned()),
    }
}

fn describe(args: &Args, json: bool) -> Result<String> {
    let folder = &args.folder;
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
        let results = serde_json::to_string_pretty(&report.results)
            .context(Kind::Internal, || "the results are no JSON".to_owned())?;
        return Ok(results + "\n");
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
        describe(&Args { folder: folder.path().into() }, false).unwrap_err()
    }

    #[test]
    fn says_why_a_folder_cannot_be_reported_on() {
        let missing = describe(&Args { folder: "/no/such/folder".into() }, false).unwrap_err();
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
