//! Original, perturbation and adversarial picture side by side, with what the model sees in each.

use image::imageops::{FilterType, replace, resize};
use image::{Rgb, RgbImage};
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

use super::record::{Guess, Record, Saved};
use crate::report::picture;

const HEIGHT: RasterHeight = RasterHeight::Size16;
const WEIGHT: FontWeight = FontWeight::Regular;
/// Width of a letter in pixels.
const LETTER: u32 = get_raster_width(WEIGHT, HEIGHT) as u32;
/// From one line of text to the next.
const LINE: u32 = 20;
/// Letters in a column, at least.
const LETTERS: u32 = 38;
const MARGIN: u32 = 16;
/// Small pictures are enlarged to about this many pixels, each pixel to a square.
const SIDE: u32 = 224;

const PAPER: Rgb<u8> = Rgb([255, 255, 255]);
const INK: [u8; 3] = [24, 24, 27];

/// The picture of one finding.
pub(super) fn draw(
    record: &Record,
    saved: &Saved,
    epsilon: &str,
    original: &RgbImage,
    adversarial: &RgbImage,
) -> RgbImage {
    let amplification = picture::amplification(f64::from(saved.levels) / 255.0);
    let difference = picture::difference(original, adversarial, amplification);
    let scale = (SIDE / original.width()).max(1);
    let side = original.width() * scale;
    let width = side.max(LETTERS * LETTER);
    let columns = [
        ("original".to_string(), original, guesses(&record.clean)),
        (format!("perturbation \u{d7} {amplification}"), &difference, about(record, saved, epsilon)),
        ("adversarial".to_string(), adversarial, guesses(&saved.top)),
    ];
    let lines = columns.iter().map(|(_, _, text)| text.len()).max().unwrap_or(0) as u32 + 1;
    let mut canvas = RgbImage::from_pixel(
        MARGIN + columns.len() as u32 * (width + MARGIN),
        3 * MARGIN + 2 * LINE + side + lines * LINE,
        PAPER,
    );
    let all = canvas.width() - 2 * MARGIN;
    write(&mut canvas, MARGIN, MARGIN, all, &headline(record, saved));
    for (number, (title, picture, text)) in columns.into_iter().enumerate() {
        let left = MARGIN + number as u32 * (width + MARGIN);
        let top = MARGIN + 2 * LINE;
        write(&mut canvas, left, top, width, &title);
        let shown = resize(picture, side, picture.height() * scale, FilterType::Nearest);
        replace(&mut canvas, &shown, left.into(), (top + LINE + 4).into());
        for (line, text) in text.iter().enumerate() {
            write(&mut canvas, left, top + LINE + 4 + side + 8 + line as u32 * LINE, width, text);
        }
    }
    canvas
}

fn headline(record: &Record, saved: &Saved) -> String {
    let goal = match (&record.target, saved.broken) {
        (None, true) => "broken".to_string(),
        (None, false) => "not broken".to_string(),
        (Some(target), true) => format!("taken for '{}'", target.name),
        (Some(target), false) => format!("not taken for '{}'", target.name),
    };
    let file = record.image.rsplit('/').next().unwrap_or_default();
    format!("{} ({file}): {goal}", record.label.name)
}

fn about(record: &Record, saved: &Saved, epsilon: &str) -> Vec<String> {
    let mut lines = vec![
        format!("{}, {}, epsilon {epsilon}", record.attack, record.norm),
        format!("up to {} of 255 levels", saved.levels),
        format!("{} pixels, L2 {:.3}", saved.pixels, saved.l2),
    ];
    lines.extend(saved.psnr.map(|psnr| format!("PSNR {psnr:.1} dB")));
    lines.extend(saved.ssim.map(|ssim| format!("SSIM {ssim:.4}")));
    lines
}

fn guesses(top: &[Guess]) -> Vec<String> {
    top.iter().map(|guess| format!("{:5.1} % {}", 100.0 * guess.confidence, guess.name)).collect()
}

/// Writes one line of black text, cut off at `width` pixels.
fn write(canvas: &mut RgbImage, left: u32, top: u32, width: u32, text: &str) {
    let room = (width / LETTER) as usize;
    let letters: Vec<char> = text.chars().collect();
    let shown: Vec<char> = match letters.len() > room {
        true => letters[..room.saturating_sub(2)].iter().copied().chain("..".chars()).collect(),
        false => letters,
    };
    for (number, letter) in shown.into_iter().enumerate() {
        let Some(raster) = get_raster(letter, WEIGHT, HEIGHT).or(get_raster('?', WEIGHT, HEIGHT)) else { continue };
        for (y, row) in raster.rows().enumerate() {
            for (x, &ink) in row.iter().enumerate() {
                let place = (left + number as u32 * LETTER + x as u32, top + y as u32);
                if let Some(pixel) = canvas.get_pixel_mut_checked(place.0, place.1) {
                    let blend = |paper: u8, colour: u8| {
                        ((u32::from(paper) * (255 - u32::from(ink)) + u32::from(colour) * u32::from(ink)) / 255) as u8
                    };
                    *pixel = Rgb(std::array::from_fn(|c| blend(pixel.0[c], INK[c])));
                }
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::lab::record::{Class, Labelled, State};

    fn record(name: &str) -> (Record, Saved) {
        let top = vec![Guess { index: 0, name: name.into(), confidence: 0.5 }];
        let saved = Saved {
            broken: true,
            top: top.clone(),
            ball: 4,
            levels: 4,
            l2: 0.5,
            pixels: 64,
            psnr: Some(36.0),
            ssim: None,
            picture: String::new(),
            comparison: String::new(),
        };
        let record = Record {
            image: "a.png".into(),
            attack: "fgsm".into(),
            transferred: false,
            norm: "linf".into(),
            seed: 1,
            size: 8,
            enlarged: false,
            label: Class { index: 0, name: "rose".into() },
            labelled: Labelled::Given,
            target: None,
            clean: top,
            state: State::Attacked,
            findings: Vec::new(),
        };
        (record, saved)
    }

    fn drawn(name: &str) -> RgbImage {
        let (record, saved) = record(name);
        let original = RgbImage::from_pixel(8, 8, Rgb([10, 200, 30]));
        let adversarial = RgbImage::from_pixel(8, 8, Rgb([14, 196, 30]));
        draw(&record, &saved, "4/255", &original, &adversarial)
    }

    #[test]
    fn the_three_pictures_are_there_pixel_for_pixel() {
        let canvas = drawn("rose");
        for colour in [[10, 200, 30], [251, 3, 127], [14, 196, 30]] {
            let count = canvas.pixels().filter(|pixel| pixel.0 == colour).count();
            assert_eq!(count, 224 * 224, "{colour:?}");
        }
    }

    #[test]
    fn long_and_strange_names_stay_in_their_column() {
        let (short, long) = (drawn("r"), drawn(&"wide \u{1f339} name ".repeat(20)));
        assert_eq!(short.dimensions(), long.dimensions());
        let column = MARGIN + LETTERS * LETTER;
        for canvas in [&short, &long] {
            for y in 2 * MARGIN + 2 * LINE..canvas.height() {
                assert_eq!(canvas.get_pixel(column + MARGIN / 2, y), &PAPER);
                assert_eq!(canvas.get_pixel(canvas.width() - 1, y), &PAPER);
            }
        }
        assert!(short != long);
    }
}
