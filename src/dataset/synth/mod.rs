//! Synthetic flowers: five classes drawn from a random stream, for a first run without any photos
//! and for data sets of any size.
//!
//! Each picture has its own ground, light, pose, colours and things in the way. Colours are no help
//! on their own: roses and tulips share theirs, yellow heads come from four of the classes.

mod arrivals;
mod canvas;
mod flower;
mod scene;
mod write;

use std::f32::consts::TAU;

use image::RgbImage;

use crate::seed::Stream;
pub use arrivals::Arrivals;
use canvas::{Canvas, between, chance, count};
use flower::Pose;
pub use write::{Request, write};

/// The classes, sorted; the index is what [`draw`] takes.
pub const CLASSES: [&str; 5] = ["daisy", "dandelion", "roses", "sunflowers", "tulips"];

/// A picture of `size` x `size` pixels of class number `class` (modulo five). The same state of the
/// stream gives the same pixels; the same state with another size shows the same scene but for its grain.
pub fn draw(class: usize, size: u32, stream: &mut Stream) -> RgbImage {
    let mut canvas = Canvas::new(size);
    scene::background(&mut canvas, stream);
    let flower = [flower::daisy, flower::dandelion, flower::rose, flower::sunflower, flower::tulip][class % 5];
    let companions = if chance(stream, 0.45) { count(stream, 1, 3) } else { 0 };
    for _ in 0..companions {
        let centre = [between(stream, 0.0, 1.0), between(stream, 0.05, 0.95)];
        let pose = pose(stream, centre, [0.10, 0.22]);
        flower(&mut canvas, stream, &pose);
    }
    let centre = [between(stream, 0.3, 0.7), between(stream, 0.3, 0.66)];
    let pose = pose(stream, centre, [0.20, 0.44]);
    flower(&mut canvas, stream, &pose);
    scene::foreground(&mut canvas, stream);
    scene::light(&mut canvas, stream);
    canvas.finish()
}

fn pose(stream: &mut Stream, centre: [f32; 2], [least, most]: [f32; 2]) -> Pose {
    Pose {
        centre,
        radius: between(stream, least, most),
        turn: between(stream, 0.0, TAU),
        tilt: between(stream, 0.55, 1.0),
        lean: between(stream, 0.0, TAU),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::dataset::fixtures;
    use crate::dataset::shard::Extension;
    use crate::seed::{Purpose, stream};

    fn picture(class: usize, size: u32, seed: u64) -> RgbImage {
        draw(class, size, &mut stream(seed, Purpose::Synthetic, 0, "one"))
    }

    #[test]
    fn every_class_draws_the_same_picture_for_the_same_seed_and_another_for_another() {
        for class in 0..CLASSES.len() {
            assert_eq!(picture(class, 48, 1), picture(class, 48, 1));
            assert_ne!(picture(class, 48, 1), picture(class, 48, 2));
            assert_ne!(picture(class, 48, 1), picture((class + 1) % 5, 48, 1));
        }
    }

    #[test]
    fn any_size_shows_the_same_scene() {
        assert_eq!(picture(0, 1, 1).dimensions(), (1, 1));
        let (small, large) = (picture(4, 32, 3), picture(4, 96, 3));
        let mean = |image: &RgbImage| image.as_raw().iter().map(|v| f64::from(*v)).sum::<f64>() / image.len() as f64;
        assert!((mean(&small) - mean(&large)).abs() < 3.0, "{} {}", mean(&small), mean(&large));
    }

    #[test]
    fn pictures_are_not_taken_for_duplicates_of_each_other() {
        let settings = fixtures::settings();
        let hashes: Vec<u64> = (0..300)
            .map(|i| {
                let bytes = crate::dataset::pack::encode(&picture(i % 5, 48, i as u64), Extension::Png).unwrap();
                let (path, class) = (String::new(), String::new());
                let photo = crate::dataset::Photo { path, class, split: None, size: 0, stamp: None };
                match crate::dataset::decode::inspect(photo, &bytes, &settings).finding {
                    crate::dataset::Finding::Usable { phash, .. } => phash,
                    other => panic!("{other:?}"),
                }
            })
            .collect();
        let groups = crate::dataset::duplicates::groups(&hashes, settings.near_duplicate_bits);
        assert_eq!(groups.iter().max(), Some(&299));
    }

    #[test]
    fn folders_have_the_pictures_asked_for_and_the_same_bytes_again() {
        let folder = tempfile::tempdir().unwrap();
        let request = Request { train: 2, val: 1, size: 16, seed: 5, extension: Extension::Jpg };
        let mut drawn = 0;
        for out in ["a", "b"] {
            write(&request, &folder.path().join(out), || drawn += 1).unwrap();
        }
        assert_eq!(drawn, 30);
        let files = crate::dataset::folder::list(&folder.path().join("a")).unwrap();
        let photos = crate::dataset::scan::scan(files.clone()).unwrap();
        assert_eq!(photos.iter().filter(|p| p.split == Some(crate::dataset::Split::Val)).count(), 5);
        for (file, _) in files {
            let read = |out: &str| std::fs::read(folder.path().join(out).join(&file)).unwrap();
            assert_eq!(read("a"), read("b"), "{file}");
        }
        let error = write(&request, &folder.path().join("a"), || ()).unwrap_err();
        assert!(error.to_string().contains("is not empty"));
        let unsplit = Request { val: 0, ..request };
        write(&unsplit, &folder.path().join("c"), || ()).unwrap();
        assert!(folder.path().join("c/tulips/tulips-00001.jpg").exists());
    }
}
