//! Public photo sets, downloaded: resumable and repeatable.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::read::MultiGzDecoder;
use ureq::Agent;
use ureq::http::StatusCode;

use super::{Photo, import};
use crate::error::{Context, Error, Kind, Result};

/// The photos of the TensorFlow tutorials: 3,670 flowers in five classes (Creative Commons).
pub const TF_FLOWERS: &str = "https://storage.googleapis.com/download.tensorflow.org/example_images/flower_photos.tgz";

/// Tries in a row that bring nothing new before giving up.
const TRIES: u32 = 5;

/// Downloads the `.tgz` at `url` and unpacks it into the folder `out`; lists the photos.
///
/// The archive is kept beside `out` as `<its name>.partial` while it comes, and a later call goes on
/// from there. `pause` is the wait before the second try and doubles with each further one;
/// `progress` gets bytes so far and, where the server tells, in all.
///
/// # Errors
/// Of kind `Storage` when the download fails for good, `Data` when it is no archive of photos; then
/// the archive is removed, so that the next call starts afresh.
pub fn fetch(url: &str, out: &Path, pause: Duration, progress: impl FnMut(u64, Option<u64>)) -> Result<Vec<Photo>> {
    if out.exists() && std::fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Error::storage(format!("folder {} is not empty", out.display())));
    }
    let name = url.split(['?', '#']).next().and_then(|u| u.rsplit('/').next()).filter(|n| !n.is_empty());
    let parent = out.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).context(Kind::Storage, || format!("cannot write {}", parent.display()))?;
    let partial = parent.join(format!("{}.partial", name.unwrap_or("photos.tgz")));
    download(url, &partial, pause, progress)?;

    let file = File::open(&partial).context(Kind::Storage, || format!("cannot read {}", partial.display()))?;
    let photos = import::unpack(MultiGzDecoder::new(std::io::BufReader::new(file)), out, |_| {});
    match &photos {
        Err(e) if e.kind() != Kind::Data => {}
        _ => {
            std::fs::remove_file(&partial).context(Kind::Storage, || format!("cannot remove {}", partial.display()))?
        }
    }
    photos
}

fn download(url: &str, partial: &PathBuf, pause: Duration, mut progress: impl FnMut(u64, Option<u64>)) -> Result<()> {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .timeout_connect(Some(Duration::from_secs(30)))
        .timeout_recv_response(Some(Duration::from_secs(60)))
        // A server that stalls is asked anew for the rest; a slow one as well, which loses nothing.
        .timeout_recv_body(Some(Duration::from_secs(300)));
    let agent = Agent::new_with_config(config.build());
    let size = || std::fs::metadata(partial).map_or(0, |m| m.len());
    let (mut failures, mut before) = (0, size());
    loop {
        match attempt(&agent, url, partial, &mut progress) {
            Ok(true) => return Ok(()),
            Err(failure) if !failure.passing => return Err(failure.error),
            Err(failure) if failures + 1 >= TRIES => {
                let kept = format!("{} bytes are kept in {}", size(), partial.display());
                let message = format!("cannot download {url} after {TRIES} tries ({kept})");
                return Err(Error::storage(message).because(failure.error));
            }
            Ok(false) | Err(_) => {}
        }
        failures = if size() > before { 0 } else { failures + 1 };
        before = size();
        std::thread::sleep(pause * 2_u32.saturating_pow(failures.min(6)));
    }
}

/// Why a try failed.
struct Failure {
    error: Error,
    /// It may pass: another try is worth it.
    passing: bool,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, passing: false }
    }
}

/// Goes on with the download once. True when it is complete.
fn attempt(
    agent: &Agent,
    url: &str,
    partial: &Path,
    progress: &mut impl FnMut(u64, Option<u64>),
) -> Result<bool, Failure> {
    let start = std::fs::metadata(partial).map_or(0, |m| m.len());
    let again = |message: String| Failure { error: Error::storage(message), passing: true };
    let because = |failure: Failure, cause: Box<dyn std::error::Error + Send + Sync>| Failure {
        error: failure.error.because(cause),
        ..failure
    };
    let mut request = agent.get(url).header("Accept-Encoding", "identity");
    if start > 0 {
        request = request.header("Range", format!("bytes={start}-"));
    }
    let mut response = request.call().map_err(|e| because(again(format!("{url} is out of reach")), e.into()))?;
    let header = |name: &str| response.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let range = header("content-range");
    let total = range.as_deref().and_then(|r| r.rsplit('/').next()).and_then(|n| n.parse::<u64>().ok());
    let length = header("content-length").and_then(|n| n.parse::<u64>().ok());
    let (goes_on, total) = match response.status() {
        StatusCode::PARTIAL_CONTENT if range.is_some_and(|r| r.starts_with(&format!("bytes {start}-"))) => {
            (true, total)
        }
        StatusCode::OK => (false, length),
        // Nothing lies behind what is here: it is complete, or not what the server has.
        StatusCode::RANGE_NOT_SATISFIABLE if total == Some(start) => return Ok(true),
        StatusCode::RANGE_NOT_SATISFIABLE | StatusCode::PARTIAL_CONTENT => {
            std::fs::remove_file(partial).context(Kind::Storage, || cannot_write(partial))?;
            return Ok(false);
        }
        status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            return Err(again(format!("{url} answers {status}")));
        }
        status => return Err(Error::not_found(format!("{url} answers {status}")).into()),
    };
    let mut file = OpenOptions::new()
        .create(true)
        .write(true)
        .append(goes_on)
        .truncate(!goes_on)
        .open(partial)
        .context(Kind::Storage, || cannot_write(partial))?;
    let mut done = if goes_on { start } else { 0 };
    let mut body = response.body_mut().as_reader();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = body.read(&mut buffer).map_err(|e| because(again(format!("{url} broke off")), e.into()))?;
        if read == 0 {
            break;
        }
        file.write_all(&buffer[..read]).context(Kind::Storage, || cannot_write(partial))?;
        done += read as u64;
        progress(done, total);
    }
    match total {
        Some(total) if done < total => Err(again(format!("{url} broke off after {done} of {total} bytes"))),
        _ => Ok(true),
    }
}

fn cannot_write(path: &Path) -> String {
    format!("cannot write {}", path.display())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::net::{TcpListener, TcpStream};
    use std::sync::mpsc;
    use std::thread::JoinHandle;

    /// An archive as the public one is laid out, large enough to be cut in two.
    fn archive() -> Vec<u8> {
        let gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
        let mut tar = tar::Builder::new(gz);
        for name in ["LICENSE.txt", "daisy/1.jpg", "daisy/2.jpg", "tulips/1.jpg"] {
            let mut header = tar::Header::new_gnu();
            header.set_size(100_000);
            header.set_mode(0o644);
            tar.append_data(&mut header, format!("flower_photos/{name}"), &[7; 100_000][..]).unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap()
    }

    /// How the server deals with one request.
    #[derive(Clone, Copy)]
    enum Manner {
        /// As asked.
        Whole,
        /// Announces all and hangs up half-way.
        HalfWay,
        /// Sends all from the start, whatever range is asked for.
        IgnoresRange,
        /// Only a status.
        Status(&'static str),
    }

    /// Serves `content` to as many requests as there are manners; gives the `Range` of each.
    struct Server {
        url: String,
        ranges: mpsc::Receiver<Option<String>>,
        thread: JoinHandle<()>,
    }

    impl Server {
        fn start(content: Vec<u8>, manners: Vec<Manner>) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let url = format!("http://{}/set/flower_photos.tgz?x=1", listener.local_addr().unwrap());
            let (sender, ranges) = mpsc::channel();
            let thread = std::thread::spawn(move || {
                for manner in manners {
                    let (stream, _) = listener.accept().unwrap();
                    sender.send(answer(stream, &content, manner)).unwrap();
                }
            });
            Self { url, ranges, thread }
        }

        fn ranges(self) -> Vec<Option<String>> {
            self.thread.join().unwrap();
            self.ranges.iter().collect()
        }
    }

    fn answer(mut stream: TcpStream, content: &[u8], manner: Manner) -> Option<String> {
        let mut range = None;
        for line in BufReader::new(stream.try_clone().unwrap()).lines() {
            let line = line.unwrap().to_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("range: ") {
                range = Some(value.to_owned());
            }
        }
        let start = range.as_deref().and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
        let total = content.len();
        let (status, extra, body) = match (manner, start) {
            (Manner::Status(status), _) => (status, String::new(), &[][..]),
            (Manner::IgnoresRange, _) | (_, None) => ("200 OK", String::new(), content),
            (_, Some(start)) if start >= total => {
                ("416 Range Not Satisfiable", format!("Content-Range: bytes */{total}\r\n"), &[][..])
            }
            (_, Some(start)) => {
                let range = format!("Content-Range: bytes {start}-{}/{total}\r\n", total - 1);
                ("206 Partial Content", range, &content[start..])
            }
        };
        let length = body.len();
        write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{extra}Connection: close\r\n\r\n").unwrap();
        let sent = if matches!(manner, Manner::HalfWay) { length / 2 } else { length };
        stream.write_all(&body[..sent]).unwrap();
        range
    }

    fn fetched(server: &Server, folder: &Path) -> Result<Vec<Photo>> {
        fetch(&server.url, &folder.join("in/flowers"), Duration::ZERO, |_, _| ())
    }

    #[test]
    fn a_broken_download_goes_on_where_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let content = archive();
        let half = content.len() / 2;
        let server = Server::start(content, vec![Manner::HalfWay, Manner::Status("503 Busy"), Manner::Whole]);
        let photos = fetched(&server, folder.path()).unwrap();
        let paths: Vec<&str> = photos.iter().map(|p| p.path.as_str()).collect();
        assert_eq!(paths, ["daisy/1.jpg", "daisy/2.jpg", "tulips/1.jpg"]);
        assert!(folder.path().join("in/flowers/LICENSE.txt").exists());
        assert_eq!(std::fs::read_dir(folder.path().join("in")).unwrap().count(), 1, "the archive is gone");
        let range = Some(format!("bytes={half}-"));
        assert_eq!(server.ranges(), [None, range.clone(), range]);
    }

    #[test]
    fn a_later_call_goes_on_with_what_an_earlier_one_left() {
        let folder = tempfile::tempdir().unwrap();
        let content = archive();
        let partial = folder.path().join("in/flower_photos.tgz.partial");
        std::fs::create_dir(folder.path().join("in")).unwrap();
        // Something, all, more than the server has, and something from a server that knows no ranges.
        let longer = [content.as_slice(), &[0; 9]].concat();
        for (left, manners, ranges) in [
            (&content[..1000], vec![Manner::Whole], 1),
            (&content[..], vec![Manner::Whole], 1),
            (&longer[..], vec![Manner::Whole, Manner::Whole], 2),
            (&[9; 50][..], vec![Manner::IgnoresRange], 1),
        ] {
            std::fs::write(&partial, left).unwrap();
            let server = Server::start(content.clone(), manners);
            assert_eq!(fetched(&server, folder.path()).unwrap().len(), 3);
            let asked = server.ranges();
            assert_eq!((asked.len(), &asked[0]), (ranges, &Some(format!("bytes={}-", left.len()))));
            std::fs::remove_dir_all(folder.path().join("in/flowers")).unwrap();
        }
    }

    #[test]
    fn failures_for_good_say_why_and_keep_what_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start(Vec::new(), vec![Manner::Status("404 Not Found")]);
        let error = fetched(&server, folder.path()).unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound);
        assert!(error.to_string().contains("404"), "{error}");

        let busy = vec![Manner::Status("503 Busy"); TRIES as usize];
        let mut manners = vec![Manner::HalfWay];
        manners.extend(busy);
        let server = Server::start(archive(), manners);
        let error = fetched(&server, folder.path()).unwrap_err();
        assert_eq!(error.kind(), Kind::Storage);
        assert!(error.to_string().contains("after 5 tries"), "{error}");
        let partial = folder.path().join("in/flower_photos.tgz.partial");
        assert_eq!(std::fs::metadata(&partial).unwrap().len(), archive().len() as u64 / 2);

        std::fs::remove_file(&partial).unwrap();
        let server = Server::start(b"<html>sign in</html>".to_vec(), vec![Manner::Whole]);
        assert_eq!(fetched(&server, folder.path()).unwrap_err().kind(), Kind::Data);
        assert!(!partial.exists(), "the next call starts afresh");
    }
}
