//! The listing of a local folder.

use std::path::Path;

use sha2::{Digest, Sha256};
use walkdir::WalkDir;

use super::manifest::hash;
use super::scan::is_hidden;
use crate::error::{Error, Kind, Result};

/// All files below `root` as `(path with slashes, size)`, sorted. Links are followed.
///
/// # Errors
/// Of kind `Data` for a link that leads back into a folder above it, a link to nothing or a name
/// that is not UTF-8; `Storage` where the folder cannot be read; `NotFound` where there is none.
pub fn list(root: &Path) -> Result<Vec<(String, u64)>> {
    if !root.is_dir() {
        return Err(Error::not_found(format!("folder {} does not exist", root.display())));
    }
    let mut files = Vec::new();
    for entry in WalkDir::new(root).follow_links(true).sort_by_file_name() {
        let entry = entry.map_err(|error| refusal(root, error))?;
        if !entry.file_type().is_file() {
            continue;
        }
        let size = entry.metadata().map_err(|error| refusal(root, error))?.len();
        let inside = entry.path().strip_prefix(root).unwrap_or(entry.path());
        let name = inside.to_str().ok_or_else(|| {
            Error::data(format!("file name {inside:?} in {} is not UTF-8: rename it", root.display()))
        })?;
        files.push((name.to_owned(), size));
    }
    Ok(files)
}

/// Those of [`list`] that people see. Hidden files are no photos; they come and go unnoticed.
///
/// # Errors
/// See [`list`].
pub fn visible(root: &Path) -> Result<Vec<(String, u64)>> {
    let mut files = list(root)?;
    files.retain(|(name, _)| !is_hidden(name));
    Ok(files)
}

/// What tells one set of photos from another: SHA-256 over names and contents, hexadecimal. `step` is told how many
/// files were read and how many there are.
///
/// # Errors
/// See [`list`].
pub fn digest(root: &Path, step: impl Fn(usize, usize)) -> Result<String> {
    let mut digest = Sha256::new();
    let files = visible(root)?;
    for (number, (name, _)) in files.iter().enumerate() {
        let (_, content) = hash(&root.join(name))?;
        digest.update(format!("{content} {name}\n"));
        step(number + 1, files.len());
    }
    Ok(hex::encode(digest.finalize()))
}

fn refusal(root: &Path, error: walkdir::Error) -> Error {
    let at = error.path().unwrap_or(root).display().to_string();
    if let Some(ancestor) = error.loop_ancestor() {
        return Error::data(format!("link {at} leads back to {}: remove it", ancestor.display()));
    }
    let dangling = error.path().is_some_and(Path::is_symlink);
    if dangling {
        return Error::data(format!("link {at} leads nowhere or cannot be followed: remove it")).because(error);
    }
    Error::new(Kind::Storage, format!("cannot read {at}")).because(error)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn lists_odd_names_and_follows_links() {
        let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir(folder.path().join("a b")).unwrap();
        std::fs::write(folder.path().join("a b/naïve\nname.jpg"), b"123").unwrap();
        std::fs::write(elsewhere.path().join("x"), b"").unwrap();
        symlink(elsewhere.path(), folder.path().join("linked")).unwrap();
        let expected = [("a b/naïve\nname.jpg".to_owned(), 3), ("linked/x".to_owned(), 0)];
        assert_eq!(list(folder.path()).unwrap(), expected);
    }

    #[test]
    fn photos_are_told_apart_by_names_and_contents_whatever_is_hidden() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let found = || digest(folder.path(), |_, _| {}).unwrap();
        std::fs::create_dir(folder.path().join(".cache")).unwrap();
        write("a.jpg", "1");
        let first = found();
        write(".DS_Store", "x");
        write(".cache/a.jpg", "x");
        assert_eq!(found(), first);
        write("a.jpg", "2");
        let second = found();
        write("b.jpg", "1");
        assert!(second != first && found() != second);
    }

    #[test]
    fn a_loop_and_a_dangling_link_are_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("class")).unwrap();
        symlink(folder.path(), folder.path().join("class/again")).unwrap();
        let error = list(folder.path()).unwrap_err();
        assert_eq!(error.kind(), Kind::Data);
        assert!(error.to_string().contains("class/again leads back to"), "{error}");

        std::fs::remove_file(folder.path().join("class/again")).unwrap();
        symlink("/nonexistent/photo", folder.path().join("class/gone.jpg")).unwrap();
        assert!(list(folder.path()).unwrap_err().to_string().contains("gone.jpg leads nowhere"));
    }
}
