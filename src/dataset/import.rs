//! From an archive, a list or a folder of photos to a folder of class folders.
//!
//! Everything is built beside its final place and moved there once it is complete: what bears the
//! final name is whole.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use flate2::read::MultiGzDecoder;

use super::staging::Staged;
use super::{Photo, Split, folder, scan};
use crate::error::{Context, Error, Kind, Result};

/// Imports `source` into the folder `out`, which must not exist or be empty, and lists what is there.
///
/// `source` is a folder, a `.tar`, `.tar.gz` or `.tgz` (see [`unpack`]), or a text file whose lines are
/// `path<TAB>class` or `path<TAB>class<TAB>split`: paths relative to the list's folder, split one
/// of `train`, `val`, `test`, on all lines or on none; empty lines and lines that begin with `#` are ignored.
/// `step` is told how many photos were taken.
///
/// # Errors
/// Of kind `NotFound`, `Data` (what the source holds is unsafe or no data set) or `Storage`.
pub fn import(source: &Path, out: &Path, step: impl FnMut(u64)) -> Result<Vec<Photo>> {
    let form = Form::of(source);
    if form == Form::Folder {
        return copy(source, out, step);
    }
    let file = File::open(source).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => Error::not_found(format!("{} does not exist", source.display())),
        _ => Error::storage(format!("cannot read {}", source.display())).because(e),
    })?;
    match form {
        Form::Zipped => unpack(MultiGzDecoder::new(BufReader::new(file)), out, step),
        Form::Tar => unpack(BufReader::new(file), out, step),
        Form::Folder | Form::List => copy_list(source, out, step),
    }
}

/// Whether [`import`] takes `source` for a list: then it says nothing of the photos, which may change beside it.
pub fn is_list(source: &Path) -> bool {
    Form::of(source) == Form::List
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Folder,
    Tar,
    Zipped,
    List,
}

impl Form {
    fn of(source: &Path) -> Self {
        let name = source.to_string_lossy().to_lowercase();
        match () {
            () if source.is_dir() => Self::Folder,
            () if name.ends_with(".tgz") || name.ends_with(".tar.gz") => Self::Zipped,
            () if name.ends_with(".tar") => Self::Tar,
            () => Self::List,
        }
    }
}

/// Unpacks a tar. One folder around all class folders, as most archives have it, is dropped.
///
/// # Errors
/// Of kind `Data`, naming the member: an absolute path, one with `..`, a link, a device or another
/// special file; also an archive that is damaged or holds no data set. Then nothing is left behind.
pub fn unpack(archive: impl Read, out: &Path, mut step: impl FnMut(u64)) -> Result<Vec<Photo>> {
    let mut done = 0;
    let staged = Staged::beside(out)?;
    let damaged = || "the archive is damaged or no tar".to_owned();
    let mut archive = tar::Archive::new(archive);
    for member in archive.entries().context(Kind::Data, damaged)? {
        let mut member = member.context(Kind::Data, damaged)?;
        let name = String::from_utf8(member.path_bytes().into_owned())
            .map_err(|e| Error::data("the archive has a member whose name is not UTF-8").because(e))?;
        let kind = member.header().entry_type();
        if kind == tar::EntryType::XGlobalHeader {
            continue;
        }
        let path = safe(&name).ok_or_else(|| refused(&name, "leads out of the folder"))?;
        if kind.is_dir() {
            continue;
        }
        if !kind.is_file() {
            let what = if kind.is_symlink() || kind.is_hard_link() { "is a link" } else { "is a special file" };
            return Err(refused(&name, what));
        }
        let age = member.header().mtime().ok().map(Duration::from_secs);
        let written = age.and_then(|age| SystemTime::UNIX_EPOCH.checked_add(age));
        staged.write(&path, &mut member, written).map_err(|e| match e.kind() {
            Kind::Storage | Kind::Interrupted => e,
            _ => Error::data(format!("the archive is damaged at member {name:?}")).because(e),
        })?;
        done += 1;
        step(done);
    }
    // The end mark is not the end: a gzip stream ends with its checksum.
    std::io::copy(&mut archive.into_inner(), &mut std::io::sink()).context(Kind::Data, damaged)?;
    publish(staged, out)
}

fn refused(member: &str, why: &str) -> Error {
    Error::data(format!("archive refused: member {member:?} {why}"))
}

/// A relative path without `..`; `.` is dropped.
fn safe(name: &str) -> Option<PathBuf> {
    let mut path = PathBuf::new();
    for part in Path::new(name).components() {
        match part {
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            _ => return None,
        }
    }
    (!name.contains('\0')).then_some(path)
}

fn copy(source: &Path, out: &Path, mut step: impl FnMut(u64)) -> Result<Vec<Photo>> {
    let photos = scan::scan(folder::list(source)?)?;
    let staged = Staged::beside(out)?;
    for (photo, done) in photos.iter().zip(1..) {
        staged.copy(&source.join(&photo.path), Path::new(&photo.path))?;
        step(done);
    }
    publish(staged, out)
}

fn copy_list(list: &Path, out: &Path, mut step: impl FnMut(u64)) -> Result<Vec<Photo>> {
    let text = std::fs::read_to_string(list).map_err(|e| match e.kind() {
        std::io::ErrorKind::InvalidData => {
            Error::data(format!("{} is neither a .tar, a .tgz nor a list in UTF-8", list.display()))
        }
        _ => Error::storage(format!("cannot read {}", list.display())).because(e),
    })?;
    let staged = Staged::beside(out)?;
    let (mut taken, mut splits) = (HashSet::new(), HashSet::new());
    for (number, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty() && !l.starts_with('#')) {
        let wrong = |what: String| Error::data(format!("{}:{}: {what}", list.display(), number + 1));
        let fields: Vec<&str> = line.split('\t').collect();
        let (path, class, split) = match fields[..] {
            [path, class] => (path, class, None),
            [path, class, split] => (path, class, Some(split)),
            _ => return Err(wrong("expected path<TAB>class or path<TAB>class<TAB>split".into())),
        };
        if class.is_empty() || class.starts_with('.') || class.contains('/') {
            return Err(wrong(format!("class {class:?} cannot be a folder's name")));
        }
        let sides = [Split::Train, Split::Val, Split::Test].map(Split::name);
        if let Some(split) = split.filter(|split| !sides.contains(split)) {
            return Err(wrong(format!("split {split:?} is unknown: allowed are train, val and test")));
        }
        splits.insert(split.is_some());
        if splits.len() > 1 {
            return Err(wrong("some lines have a split and some have none".into()));
        }
        let source = list.parent().unwrap_or(Path::new(".")).join(path);
        if !source.is_file() {
            return Err(wrong(format!("photo {path:?} does not exist")));
        }
        let target = free_name(&Path::new(split.unwrap_or("")).join(class), &source, &mut taken);
        staged.copy(&source, &target)?;
        step(taken.len() as u64);
    }
    publish(staged, out)
}

/// `folder/name`, or `folder/n-name` where photos of other folders have the same name.
fn free_name(folder: &Path, source: &Path, taken: &mut HashSet<PathBuf>) -> PathBuf {
    let name = source.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut target = folder.join(&name);
    let mut n = 2;
    while !taken.insert(target.clone()) {
        target = folder.join(format!("{n}-{name}"));
        n += 1;
    }
    target
}

/// Checks that what was staged is a data set and gives it its final name.
fn publish(staged: Staged, out: &Path) -> Result<Vec<Photo>> {
    let mut root = staged.path().to_owned();
    let mut files = folder::list(&root)?;
    // A folder around the classes; what lies beside it, a licence or `._photos`, is no class.
    let tops = files.iter().filter_map(|(path, _)| path.split_once('/')).map(|(top, _)| top);
    let tops: HashSet<_> = tops.filter(|top| !top.starts_with('.')).collect();
    let nested = files.iter().any(|(path, _)| path.matches('/').count() > 1);
    if let (1, true, Some(only)) = (tops.len(), nested, tops.iter().next()) {
        root.push(only);
        files = folder::list(&root)?;
    }
    let photos = scan::scan(files)?;
    staged.publish(&root, out)?;
    Ok(photos)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A tar of members given as (name, type, link target).
    fn tar_of(members: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, kind, target) in members {
            let mut header = tar::Header::new_gnu();
            // `set_path` would refuse the names that this is about.
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
            header.set_entry_type(*kind);
            header.set_size(if kind.is_file() { 5 } else { 0 });
            header.set_mode(0o644);
            header.set_mtime(1_700_000_000);
            header.set_cksum();
            tar.append(&header, if kind.is_file() { &b"photo"[..] } else { &[] }).unwrap();
        }
        tar.into_inner().unwrap()
    }

    const FILE: tar::EntryType = tar::EntryType::Regular;

    #[test]
    fn a_tar_with_one_folder_around_becomes_class_folders() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("new/out");
        let tar = tar_of(&[
            ("./set/", tar::EntryType::Directory, ""),
            ("./set/LICENSE.txt", FILE, ""),
            ("set/a/ü 1.jpg", FILE, ""),
            ("set/b/2.jpg", FILE, ""),
        ]);
        let photos = unpack(&tar[..], &out, |_| {}).unwrap();
        assert_eq!(photos.iter().map(|p| p.path.as_str()).collect::<Vec<_>>(), ["a/ü 1.jpg", "b/2.jpg"]);
        assert_eq!(std::fs::read(out.join("a/ü 1.jpg")).unwrap(), b"photo");
        let written = std::fs::metadata(out.join("b/2.jpg")).unwrap().modified().unwrap();
        assert_eq!(written, SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
        assert_eq!(std::fs::read_dir(folder.path().join("new")).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn what_lies_beside_the_folder_of_an_archive_is_no_class() {
        let folder = tempfile::tempdir().unwrap();
        let tar = tar_of(&[
            ("._set", FILE, ""),
            (".cache/x", FILE, ""),
            ("LICENSE", FILE, ""),
            ("set/a/1.jpg", FILE, ""),
            ("set/b/2.jpg", FILE, ""),
        ]);
        let photos = unpack(&tar[..], &folder.path().join("out"), |_| {}).unwrap();
        assert_eq!(photos.iter().map(|p| p.path.as_str()).collect::<Vec<_>>(), ["a/1.jpg", "b/2.jpg"]);
    }

    #[test]
    fn unsafe_archives_are_refused_by_member_and_leave_nothing() {
        use tar::EntryType as E;
        for (member, kind, target, reason) in [
            ("a/../../evil.jpg", FILE, "", "leads out of the folder"),
            ("/etc/evil.jpg", FILE, "", "leads out of the folder"),
            ("a/../../evil", E::Directory, "", "leads out of the folder"),
            ("a/link.jpg", E::Symlink, "/etc/passwd", "is a link"),
            ("a/hard.jpg", E::Link, "a/1.jpg", "is a link"),
            ("a/device", E::Char, "", "is a special file"),
            ("a/disk", E::Block, "", "is a special file"),
            ("a/pipe", E::Fifo, "", "is a special file"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let tar = tar_of(&[("a/1.jpg", FILE, ""), ("b/1.jpg", FILE, ""), (member, kind, target)]);
            let error = unpack(&tar[..], &folder.path().join("in/out"), |_| {}).unwrap_err();
            assert_eq!(error.kind(), Kind::Data);
            assert!(error.to_string().contains(reason) && error.to_string().contains(member), "{member}: {error}");
            assert_eq!(std::fs::read_dir(folder.path().join("in")).unwrap().count(), 0);
        }
    }

    #[test]
    fn damaged_archives_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let tar = tar_of(&[("a/1.jpg", FILE, ""), ("b/1.jpg", FILE, "")]);
        assert_eq!(unpack(&tar[..515], &out, |_| {}).unwrap_err().kind(), Kind::Data);
        assert_eq!(unpack(&[7; 2000][..], &out, |_| {}).unwrap_err().kind(), Kind::Data);

        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut gz, &tar).unwrap();
        let mut gz = gz.finish().unwrap();
        std::fs::write(folder.path().join("good.tgz"), &gz).unwrap();
        assert_eq!(import(&folder.path().join("good.tgz"), &folder.path().join("good"), |_| {}).unwrap().len(), 2);
        let end = gz.len() - 6;
        gz[end] ^= 1;
        std::fs::write(folder.path().join("bad.tgz"), &gz).unwrap();
        assert_eq!(import(&folder.path().join("bad.tgz"), &out, |_| {}).unwrap_err().kind(), Kind::Data);
        assert!(!out.exists());
    }

    #[test]
    fn a_list_names_photos_anywhere() {
        let folder = tempfile::tempdir().unwrap();
        for file in ["x/1.jpg", "y/1.jpg", "2 ü.jpg"] {
            std::fs::create_dir_all(folder.path().join(file).parent().unwrap()).unwrap();
            std::fs::write(folder.path().join(file), file).unwrap();
        }
        let list = folder.path().join("list.tsv");
        let read = |text: &str, out: &str| {
            std::fs::write(&list, text).unwrap();
            import(&list, &folder.path().join(out), |_| {})
        };
        let photos = read("# mine\nx/1.jpg\ta\ny/1.jpg\ta\n\n2 ü.jpg\tb c\n", "plain").unwrap();
        assert_eq!(photos.iter().map(|p| p.path.as_str()).collect::<Vec<_>>(), ["a/1.jpg", "a/2-1.jpg", "b c/2 ü.jpg"]);
        let photos = read("x/1.jpg\ta\ttrain\ny/1.jpg\tb\ttrain\n2 ü.jpg\tb\tval\n", "split").unwrap();
        assert_eq!(photos[2].split, Some(Split::Val));

        for (text, reason) in [
            ("x/1.jpg", "list.tsv:1: expected path<TAB>class"),
            ("\nx/1.jpg\ta\ndaisy.jpg\tb", "list.tsv:3: photo \"daisy.jpg\" does not exist"),
            ("x/1.jpg\t../a", "class \"../a\" cannot be a folder's name"),
            ("x/1.jpg\ta\tdev", "split \"dev\" is unknown"),
            ("x/1.jpg\ta\ttrain\ny/1.jpg\tb", "some lines have a split and some have none"),
            ("", "no photos found"),
        ] {
            let error = read(text, "refused").unwrap_err();
            assert!(error.to_string().contains(reason), "{text:?}: {error}");
            assert!(!folder.path().join("refused").exists());
        }
    }

    #[test]
    fn a_folder_is_copied_with_what_its_links_lead_to() {
        let folder = tempfile::tempdir().unwrap();
        for class in ["source/a", "elsewhere"] {
            std::fs::create_dir_all(folder.path().join(class)).unwrap();
            std::fs::write(folder.path().join(class).join("1.jpg"), class).unwrap();
        }
        let source = folder.path().join("source");
        symlink(folder.path().join("elsewhere"), source.join("b")).unwrap();
        let out = folder.path().join("out");
        assert_eq!(import(&source, &out, |_| {}).unwrap().len(), 2);
        assert_eq!(std::fs::read_to_string(out.join("b/1.jpg")).unwrap(), "elsewhere");
        assert!(!out.join("b").is_symlink());
        assert!(import(&source, &out, |_| {}).unwrap_err().to_string().contains("is not empty"));
        assert_eq!(import(&folder.path().join("gone"), &out, |_| {}).unwrap_err().kind(), Kind::NotFound);

        symlink(&source, source.join("a/loop")).unwrap();
        let error = import(&source, &folder.path().join("looped"), |_| {}).unwrap_err();
        assert!(error.to_string().contains("leads back to"), "{error}");
    }
}
