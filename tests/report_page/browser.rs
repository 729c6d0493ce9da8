//! The page in headless Chromium: nothing overflows, every picture loads, nothing is complained about.

use std::fs;
use std::path::{Path, PathBuf};

use hardy::report::{Report, history_page, page};

use super::chromium::{chromium, complaints};
use super::demo;

/// Reports on itself once everything has loaded.
const PROBE: &str = r#"<script>
addEventListener("load", () => {
  const images = [...document.images];
  const root = document.documentElement;
  const small = [...document.querySelectorAll("svg text")].filter(t => t.getBoundingClientRect().height < 9);
  const probe = {
    width: innerWidth, scroll: root.scrollWidth, images: images.length,
    broken: images.filter(i => !i.complete || i.naturalWidth === 0).length,
    unnamed: images.filter(i => !i.alt).length, small: small.length, charts: document.querySelectorAll("svg").length,
    headless: [...document.querySelectorAll("table")].filter(t => !t.querySelector("th[scope]")).length,
  };
  parent.postMessage(probe, "*");
});
</script>"#;

/// A phone is narrower than a browser's window may be, so the page is shown in a frame.
const FRAME: &str = r#"<!doctype html><title>waiting</title><body style="margin:0">
<script>addEventListener("message", e => { document.title = JSON.stringify(e.data); });</script>
<iframe src="FILE" style="border:0;width:WIDTHpx;height:900px"></iframe>"#;

/// Shows `html` in a frame of `width` pixels and returns what the probe found.
fn probe(html: &str, width: u32) -> serde_json::Value {
    let folder = tempfile::tempdir().unwrap();
    let probed = html.replacen("</title>", &format!("</title>{PROBE}"), 1);
    fs::write(folder.path().join("page.html"), probed).unwrap();
    let frame = folder.path().join("frame.html");
    fs::write(&frame, FRAME.replace("FILE", "page.html").replace("WIDTH", &width.to_string())).unwrap();
    let output = chromium(&["--window-size=1400,1000", "--dump-dom", &address(&frame)]);
    assert_eq!(complaints(&output), [] as [String; 0]);
    let dom = String::from_utf8(output.stdout).unwrap();
    let title = dom.split("<title>").nth(1).unwrap().split("</title>").next().unwrap();
    serde_json::from_str(title).unwrap_or_else(|_| panic!("the page did not load: {title}"))
}

fn address(path: &Path) -> String {
    format!("file://{}", path.display())
}

fn demo_page() -> String {
    let record = demo::record();
    page(&Report::new(&record).unwrap(), &record.examples).unwrap()
}

#[test]
fn the_page_fits_a_phone_and_a_desktop() {
    let html = demo_page();
    // Left behind for whoever wants to look at it.
    fs::write(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("report.html"), &html).unwrap();
    for width in [390, 1280] {
        let found = probe(&html, width);
        assert_eq!(found["width"], width);
        assert_eq!(found["scroll"], width, "the page is wider than its window");
        assert_eq!((&found["images"], &found["broken"], &found["unnamed"]), (&36.into(), &0.into(), &0.into()));
        assert_eq!((&found["charts"], &found["small"]), (&4.into(), &0.into()), "text in a chart is too small to read");
        assert_eq!(found["headless"], 0, "a table without headers");
    }
}

#[test]
fn a_night_and_the_history_fit_a_phone_and_a_desktop() {
    let mut record = demo::record();
    record.night = Some(demo::night());
    let night = page(&Report::new(&record).unwrap(), &record.examples).unwrap();
    let history = history_page(&demo::trend()).unwrap();
    for (name, html, charts) in [("night.html", night, 4), ("history.html", history, 2)] {
        fs::write(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name), &html).unwrap();
        for width in [390, 1280] {
            let found = probe(&html, width);
            assert_eq!((&found["width"], &found["scroll"]), (&width.into(), &width.into()), "{name}");
            assert_eq!((&found["charts"], &found["small"]), (&charts.into(), &0.into()), "{name}");
            assert_eq!((&found["broken"], &found["headless"]), (&0.into(), &0.into()), "{name}");
        }
    }
}

#[test]
fn long_names_do_not_widen_the_page() {
    let mut record = demo::record();
    let long = "a_very_long_class_name_without_any_space_".repeat(4);
    record.job = long.clone();
    record.classes[1] = long.clone();
    record.quarantined[0].path = long.clone();
    record.examples[0].key = long.clone();
    record.provenance.device = long;
    let html = page(&Report::new(&record).unwrap(), &record.examples).unwrap();
    assert_eq!(probe(&html, 390)["scroll"], 390);
}

#[test]
fn the_probe_notices_a_page_that_is_wrong() {
    let html = demo_page();
    let wide =
        html.replace("<main>", r#"<main><div style="width:2000px">wide</div><img src="data:image/png;base64,AAAA">"#);
    let found = probe(&wide, 390);
    assert!(found["scroll"].as_u64() >= Some(2000), "{found}");
    assert_eq!((&found["broken"], &found["unnamed"]), (&1.into(), &1.into()));

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("page.html");
    fs::write(&file, "<!doctype html><title>x</title><script>missing()</script>").unwrap();
    let output = chromium(&["--dump-dom", &address(&file)]);
    assert_eq!(complaints(&output).len(), 1);
}

#[test]
fn the_page_prints() {
    let folder = tempfile::tempdir().unwrap();
    let (file, pdf) = (folder.path().join("page.html"), folder.path().join("page.pdf"));
    fs::write(&file, demo_page()).unwrap();
    chromium(&["--no-pdf-header-footer", &format!("--print-to-pdf={}", pdf.display()), &address(&file)]);
    let bytes = fs::read(&pdf).unwrap();
    assert!(bytes.starts_with(b"%PDF") && bytes.len() > 100_000, "{} bytes", bytes.len());
}
