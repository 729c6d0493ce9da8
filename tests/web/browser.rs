//! The page in headless Chromium, at the width of a phone and of a desktop.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;

use serde_json::Value;

use crate::chromium::{chromium, complaints};

/// Tells the frame around it what the page looks like, again and again while it changes.
const PROBE: &str = r##"setInterval(() => {
  const images = [...document.images];
  if (document.documentElement.dataset.shown !== "yes" || images.some(i => !i.complete)) return;
  parent.postMessage({
    width: innerWidth, scroll: document.documentElement.scrollWidth, height: document.documentElement.scrollHeight,
    images: images.length, broken: images.filter(i => i.naturalWidth === 0).length,
    unnamed: images.filter(i => !i.alt).length,
    charts: document.querySelectorAll("svg.chart").length,
    small: [...document.querySelectorAll("svg text")].filter(t => t.getBoundingClientRect().height < 9).length,
    headless: [...document.querySelectorAll("table")].filter(t => !t.querySelector("th[scope]")).length,
    jobs: document.querySelectorAll("#jobs tr").length, text: document.body.innerText,
  }, "*");
}, 200);"##;

/// A phone is narrower than a browser's window may be, so the page is shown in a frame.
const FRAME: &str = r#"<!doctype html><meta charset="utf-8"><title>waiting</title><body style="margin:0">
<script>addEventListener("message", e => { document.title = encodeURIComponent(JSON.stringify(e.data)); });</script>
<iframe src="/" style="border:0;display:block;width:WIDTHpx;height:HEIGHTpx"></iframe>"#;

/// Passes requests on to `to`, and allows its page to stand in a frame with a probe in it: all other rules
/// that the page comes with hold.
pub struct Window {
    address: SocketAddr,
}

impl Window {
    pub fn open(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                std::thread::spawn(move || {
                    // A browser that closes early has seen enough.
                    let _ = pass(client, to);
                });
            }
        });
        Self { address }
    }

    /// What the probe found at `width`; a picture of it all goes to `shot`.
    pub fn look(&self, width: u32, height: u32, shot: &Path) -> Value {
        let url = format!("http://{}/frame/{width}/{height}", self.address);
        let output = chromium(&["--window-size=1400,1000", "--dump-dom", &url]);
        assert_eq!(complaints(&output), [] as [String; 0]);
        let dom = String::from_utf8(output.stdout).unwrap();
        let title = dom.split("<title>").nth(1).unwrap().split("</title>").next().unwrap();
        let found = percent_encoding::percent_decode_str(title).decode_utf8().unwrap();
        let found = serde_json::from_str(&found).unwrap_or_else(|_| panic!("the page did not show itself: {title}"));
        let size = format!("--window-size={},{height}", width.max(500));
        let output = chromium(&[&size, &format!("--screenshot={}", shot.display()), &url]);
        assert_eq!(complaints(&output), [] as [String; 0]);
        found
    }
}

fn pass(client: TcpStream, to: SocketAddr) -> std::io::Result<()> {
    let mut request = BufReader::new(client.try_clone()?);
    let mut head = String::new();
    while request.read_line(&mut head)? > 2 {}
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut client = client;
    if let Some(size) = path.strip_prefix("/frame/") {
        let (width, height) = size.split_once('/').unwrap();
        return answer(&mut client, "text/html", &FRAME.replace("WIDTH", width).replace("HEIGHT", height));
    }
    if path == "/probe.js" {
        return answer(&mut client, "text/javascript", PROBE);
    }
    let mut server = TcpStream::connect(to)?;
    write!(server, "GET {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n\r\n")?;
    let mut response = Vec::new();
    server.read_to_end(&mut response)?;
    if path == "/" {
        let text = String::from_utf8_lossy(&response);
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("frame-ancestors 'none'"), "{head}");
        let lines = head.lines().filter(|l| !l.to_lowercase().starts_with("content-length"));
        let head = lines.collect::<Vec<_>>().join("\r\n").replace("frame-ancestors 'none'", "frame-ancestors 'self'");
        let body = body.replacen("</head>", "<script src=\"/probe.js\" defer></script></head>", 1);
        return write!(client, "{head}\r\n\r\n{body}");
    }
    client.write_all(&response)
}

fn answer(client: &mut TcpStream, media: &str, body: &str) -> std::io::Result<()> {
    write!(client, "HTTP/1.1 200 OK\r\nContent-Type: {media}\r\nConnection: close\r\n\r\n{body}")
}
