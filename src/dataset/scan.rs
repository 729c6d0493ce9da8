//! From a listing of files to photos with their classes and sides.

use std::collections::{BTreeMap, BTreeSet};

use super::{Photo, Split};
use crate::error::{Error, Result};

/// The photos of a source to train on: [`find`] and a check of its classes.
///
/// # Errors
/// Those of `find`, and of kind `Data`: fewer than two classes, nothing to train on, or a class that
/// the training side lacks.
pub fn scan(entries: impl IntoIterator<Item = (String, u64)>) -> Result<Vec<Photo>> {
    let photos = find(entries)?;
    check_classes(&photos)?;
    Ok(photos)
}

/// Recognises `class/name` and `split/class/name` in a listing of `(path, size)`.
///
/// The source counts as split when something lies two folders deep below `train`, `val`,
/// `validation`, `valid` or `test`; otherwise every top folder is a class, whatever its name.
/// Hidden files and files beside the top folders that are no photos (`LICENSE`, `README.md`) are
/// ignored; everything inside a class folder is a photo until its inspection says otherwise. A file
/// in a subfolder of a class belongs to that class.
///
/// The photos come back sorted by path.
///
/// # Errors
/// Of kind `Data`: nothing found, a photo outside the class folders, or split folders beside others.
pub fn find(entries: impl IntoIterator<Item = (String, u64)>) -> Result<Vec<Photo>> {
    let files: Vec<(String, u64)> = entries.into_iter().filter(|(path, _)| !is_hidden(path)).collect();
    let is_split = files.iter().any(|(path, _)| {
        let parts: Vec<&str> = path.splitn(3, '/').collect();
        parts.len() == 3 && split_of(parts[0]).is_some()
    });
    let mut photos = Vec::with_capacity(files.len());
    for (path, size) in files {
        let parts: Vec<&str> = path.splitn(3, '/').collect();
        let (split, class) = match parts[..] {
            [name] if looks_like_a_photo(name) => {
                return Err(Error::data(format!(
                    "photo {path:?} lies in no class folder: expected CLASS/NAME or SPLIT/CLASS/NAME"
                )));
            }
            [_] => continue,
            [top, class, _] if is_split => match split_of(top) {
                Some(split) => (Some(split), class),
                None => return Err(mixed(top)),
            },
            [top, name] if is_split => match split_of(top) {
                Some(_) if !looks_like_a_photo(name) => continue,
                Some(_) => {
                    return Err(Error::data(format!(
                        "photo {path:?} lies in split folder {top:?} but in no class folder: expected {top}/CLASS/NAME"
                    )));
                }
                None => return Err(mixed(top)),
            },
            [class, ..] => (None, class),
            [] => continue,
        };
        let class = class.to_owned();
        photos.push(Photo { path, class, split, size, stamp: None });
    }
    if photos.is_empty() {
        return Err(Error::data(
            "no photos found: expected CLASS/NAME or SPLIT/CLASS/NAME with SPLIT train, val or test",
        ));
    }
    photos.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(photos)
}

/// The photos of a source to attack: as [`find`] has them where they lie in class folders, else all of
/// them, each of no known class (an empty one). With `classless` no folder counts as a class.
///
/// # Errors
/// Those of `find`; of kind `Data` where there is no photo at all.
pub fn find_any(entries: impl IntoIterator<Item = (String, u64)>, classless: bool) -> Result<Vec<Photo>> {
    let files: Vec<(String, u64)> = entries.into_iter().filter(|(path, _)| !is_hidden(path)).collect();
    let photos: Vec<&(String, u64)> = files.iter().filter(|(path, _)| looks_like_a_photo(path)).collect();
    if !classless && photos.iter().any(|(path, _)| path.contains('/')) {
        return find(files);
    }
    if photos.is_empty() {
        return Err(Error::data("no photos found: expected JPEG, PNG, WebP, GIF or BMP files"));
    }
    let photo = |(path, size): &(String, u64)| {
        let (path, class) = (path.clone(), String::new());
        Photo { path, class, split: None, size: *size, stamp: None }
    };
    let mut photos: Vec<Photo> = photos.into_iter().map(photo).collect();
    photos.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(photos)
}

fn check_classes(photos: &[Photo]) -> Result<()> {
    let mut sides: BTreeMap<Option<Split>, BTreeSet<&str>> = BTreeMap::new();
    for photo in photos {
        sides.entry(photo.split).or_default().insert(&photo.class);
    }
    let Some(training) = sides.get(&None).or_else(|| sides.get(&Some(Split::Train))) else {
        return Err(Error::data("the source has no photos in train/: there is nothing to train on"));
    };
    for (split, classes) in &sides {
        let missing: Vec<&str> = classes.difference(training).copied().collect();
        if let (Some(split), false) = (split, missing.is_empty()) {
            let name = split.name();
            return Err(Error::data(format!("classes {missing:?} are in {name}/ but not in train/")));
        }
    }
    match training.iter().next() {
        Some(class) if training.len() == 1 => {
            let nested = photos.iter().filter(|p| p.split.is_none() && p.path.matches('/').count() > 1).count();
            let hint =
                if nested == photos.len() { format!(": did you mean the folder {class:?}?") } else { String::new() };
            Err(Error::data(format!("only one class found, {class:?}, and at least two are needed{hint}")))
        }
        _ => Ok(()),
    }
}

fn mixed(top: &str) -> Error {
    Error::data(format!("folder {top:?} lies beside split folders: expected only train, val and test there"))
}

fn split_of(folder: &str) -> Option<Split> {
    match folder {
        "train" => Some(Split::Train),
        "val" | "validation" | "valid" => Some(Split::Val),
        "test" => Some(Split::Test),
        _ => None,
    }
}

/// Whether the file at `path` is one that people do not see: no photo.
pub fn is_hidden(path: &str) -> bool {
    path.split('/').any(|part| part.starts_with('.') || part == "__MACOSX")
}

fn looks_like_a_photo(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, extension)| {
        ["jpg", "jpeg", "png", "webp", "gif", "bmp"].iter().any(|e| extension.eq_ignore_ascii_case(e))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn listing(paths: &[&str]) -> Result<Vec<Photo>> {
        scan(paths.iter().map(|p| (p.to_string(), 1)))
    }

    fn refusal(paths: &[&str]) -> String {
        listing(paths).unwrap_err().to_string()
    }

    #[test]
    fn class_folders_are_sorted_and_unsplit() {
        let photos =
            listing(&["b/2.jpg", "LICENSE.txt", "b/1 ü\n.jpg", ".git/x/y", "a/.hidden", "a/notes.txt"]).unwrap();
        let found: Vec<(&str, &str)> = photos.iter().map(|p| (p.path.as_str(), p.class.as_str())).collect();
        assert_eq!(found, [("a/notes.txt", "a"), ("b/1 ü\n.jpg", "b"), ("b/2.jpg", "b")]);
        assert!(photos.iter().all(|p| p.split.is_none()));
    }

    #[test]
    fn an_existing_split_is_kept_under_all_its_names() {
        let photos = listing(&["train/a/1", "train/b/1", "validation/a/1", "test/b/sub/1", "train/README"]).unwrap();
        let found: Vec<(&str, Option<Split>)> = photos.iter().map(|p| (p.class.as_str(), p.split)).collect();
        let (train, val, test) = (Some(Split::Train), Some(Split::Val), Some(Split::Test));
        assert_eq!(found, [("b", test), ("a", train), ("b", train), ("a", val)]);
    }

    #[test]
    fn photos_beside_each_other_are_of_no_class_where_nothing_needs_one() {
        let find = |paths: &[&str], classless| find_any(paths.iter().map(|p| (p.to_string(), 1)), classless);
        let flat = find(&["b.JPG", "a.png", "notes.txt", ".x/c.png"], false).unwrap();
        let found: Vec<(&str, &str)> = flat.iter().map(|p| (p.path.as_str(), p.class.as_str())).collect();
        assert_eq!(found, [("a.png", ""), ("b.JPG", "")]);
        assert_eq!(find(&["rose/a.png"], false).unwrap()[0].class, "rose");
        assert_eq!(find(&["rose/a.png", "b.png"], true).unwrap().len(), 2);
        assert!(find(&["rose/a.png", "b.png"], false).unwrap_err().to_string().contains("in no class folder"));
        assert!(find(&["notes.txt"], false).unwrap_err().to_string().contains("no photos found"));
    }

    #[test]
    fn a_class_may_be_called_test() {
        let photos = listing(&["test/1.jpg", "other/1.jpg"]).unwrap();
        assert_eq!(photos[1].class, "test");
        assert_eq!(photos[1].split, None);
    }

    #[test]
    fn what_cannot_be_a_data_set_is_refused_with_its_reason() {
        for (paths, reason) in [
            (&[][..], "no photos found"),
            (&["README.md", ".x/y/z"], "no photos found"),
            (&["a/1.jpg", "a/2.jpg"], "only one class found, \"a\""),
            (&["set/a/1.jpg", "set/b/2.jpg"], "did you mean the folder \"set\"?"),
            (&["1.jpg", "a/1.jpg", "b/1.jpg"], "\"1.jpg\" lies in no class folder"),
            (&["train/a/1.jpg", "train/b/1.jpg", "val/1.jpg"], "expected val/CLASS/NAME"),
            (&["train/a/1", "train/b/1", "val/c/1"], "classes [\"c\"] are in val/ but not in train/"),
            (&["train/a/1", "train/b/1", "extra/1.jpg"], "\"extra\" lies beside split folders"),
            (&["val/a/1", "val/b/1"], "nothing to train on"),
        ] {
            let message = refusal(paths);
            assert!(message.contains(reason), "{paths:?}: {message}");
        }
    }
}
