//! `hardy patch`: what it refuses, and what it leaves.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::scene::{Scene, files, fixture, program, refused, text};

fn patch(scene: &Scene, photos: &Path, more: &[&str]) -> Command {
    let mut command = program();
    command.arg("patch").arg(photos).arg("--model").arg(fixture("traced.pt")).arg("--out").arg(scene.path("out"));
    command.args(["--steps", "2", "--side", "16"]).args(more);
    command
}

#[test]
fn what_makes_no_sense_is_refused() {
    let scene = Scene::new();
    let photos = scene.photos(2);
    for (more, code, expected) in [
        (&["--target", "purple"][..], 2, "--target 'purple' is no class of the model"),
        (&["--target", "3"], 2, "--target 3 is out of range: the model knows classes 0 to 2"),
        (&["--target", "bluish", "--scale", "0,0.5"], 2, "two shares from 0 to 1"),
        (&["--target", "bluish", "--scale", "0.5,0.3"], 2, "the smaller first"),
        (&["--target", "bluish", "--scale", "0.5,1.5"], 2, "two shares from 0 to 1"),
        (&["--target", "bluish", "--rotation", "200"], 2, "degrees from 0 to 180"),
        (&["--target", "bluish", "--limit", "1"], 2, "--limit"),
        (&[], 2, "--target"),
    ] {
        let (found, said) = refused(patch(&scene, &photos, more));
        assert_eq!((found, said.contains(expected)), (code, true), "{more:?}: {said}");
    }
    for (flag, value) in [("--side", "4"), ("--side", "2000"), ("--steps", "0")] {
        let mut command = program();
        command.arg("patch").arg(&photos).args(["--model", "imagenet", "--target", "0", flag, value, "--out"]);
        command.arg(scene.path("out"));
        let (code, said) = refused(command);
        assert_eq!((code, said.contains(flag)), (2, true), "{said}");
    }
    std::fs::create_dir(scene.path("empty")).unwrap();
    let target = ["--target", "bluish"];
    let (code, said) = refused(patch(&scene, &scene.path("empty"), &target));
    assert_eq!((code, said.contains("no photos found")), (3, true), "{said}");
    let (code, said) = refused(patch(&scene, &scene.path("nowhere"), &target));
    assert_eq!((code, said.contains("nowhere")), (9, true), "{said}");
    let (code, said) = refused(patch(&scene, &photos.join("bluish"), &target));
    assert_eq!((code, said.contains("too few photos that the model does not take for 'bluish'")), (3, true), "{said}");
    assert!(!scene.path("out").exists());
}

#[test]
fn a_patch_its_examples_and_its_figures_take_the_place_of_older_ones() {
    let scene = Scene::new();
    let photos = scene.photos(4);
    image::RgbImage::from_pixel(20, 50, image::Rgb([140, 120, 120])).save(photos.join("reddish/small.png")).unwrap();
    let made = |more: &[&str]| -> Value {
        let output = patch(&scene, &photos, &[&["--target", "bluish", "--json"], more].concat()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let said = text(&output.stderr);
        assert_eq!(said.contains("1 photos are smaller than the network's input"), more.is_empty(), "{said}");
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let report = made(&[]);
    assert_eq!(files(&scene.path("out")), ["example-1.png", "example-2.png", "patch.json", "patch.png"]);
    assert_eq!((&report["success"]["photos"], &report["trained_on"]), (&2.into(), &7.into()), "{report}");
    assert_eq!((&report["enlarged"], &report["success"]["target"]["name"]), (&1.into(), &"bluish".into()));
    let on_disk: Value = serde_json::from_slice(&std::fs::read(scene.path("out/patch.json")).unwrap()).unwrap();
    assert_eq!(on_disk, report);
    let picture = image::open(scene.path("out/patch.png")).unwrap().into_rgba8();
    assert_eq!((picture.dimensions(), picture.get_pixel(0, 0).0[3]), ((16, 16), 0));

    // The four of the target come first; two others are left, one of them for the measurement.
    std::fs::write(scene.path("out/example-of-mine.png"), "").unwrap();
    assert_eq!(made(&["--limit", "6"])["success"]["photos"], 1);
    let left = ["example-1.png", "example-of-mine.png", "patch.json", "patch.png"];
    assert_eq!(files(&scene.path("out")), left);
}
