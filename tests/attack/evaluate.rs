//! `hardy evaluate` on a TorchScript file: bad input, and photos that are too small.

use std::path::Path;
use std::process::Command;

use crate::scene::{Scene, fixture, program, refused, text};

fn evaluate(photos: &Path, more: &[&str]) -> Command {
    let mut command = program();
    command.arg("evaluate").arg("--model").arg(fixture("traced.pt")).arg("--data").arg(photos);
    command.args(["--set", "evaluate.attacks=[\"fgsm\"]", "--set", "evaluate.epsilons=[0.01]"]).args(more);
    command
}

#[test]
fn settings_that_make_no_sense_are_refused_with_a_way_out() {
    let scene = Scene::new();
    let photos = scene.photos(1);
    for (setting, expected) in [
        ("evaluate.epsilons=[0.01, 4]", "did you mean 4/255?"),
        ("evaluate.epsilons=[-0.1]", "allowed is 0 to 1"),
        ("evaluate.epsilons=[\"1.5/1\"]", "allowed is 0 to 1"),
        ("evaluate.static_epsilon=8", "did you mean 8/255?"),
        ("evaluate.attacks=[\"fsgm\"]", "there is no attack 'fsgm'"),
        ("evaluate.attacks=[\"n-fgsm\"]", "it is for training"),
    ] {
        let out = scene.path("out");
        let (code, said) = refused(evaluate(&photos, &["--out", out.to_str().unwrap(), "--set", setting]));
        assert_eq!((code, said.contains(expected), out.exists()), (2, true, false), "{setting}: {said}");
    }
}

#[test]
fn photos_that_cannot_be_measured_are_refused() {
    let scene = Scene::new();
    scene.picture("strange/roses/a.png", 0, 1);
    let (code, said) = refused(evaluate(&scene.path("strange"), &[]));
    assert_eq!((code, said.contains("\"roses\" that the model does not know")), (3, true), "{said}");

    std::fs::create_dir(scene.path("empty")).unwrap();
    let (code, said) = refused(evaluate(&scene.path("empty"), &[]));
    assert_eq!((code, said.contains("no photos found")), (3, true), "{said}");

    let (code, said) = refused(evaluate(&scene.path("nowhere"), &[]));
    assert_eq!((code, said.contains("nowhere")), (9, true), "{said}");

    let (photos, out) = (scene.photos(2), scene.path("out"));
    let to = ["--out", out.to_str().unwrap()];
    assert!(evaluate(&photos, &to).output().unwrap().status.success());
    scene.picture("photos/bluish/another.png", 2, 9);
    let (code, said) = refused(evaluate(&photos, &to));
    assert_eq!((code, said.contains("holds another run")), (2, true), "{said}");
}

#[test]
fn photos_smaller_than_the_networks_input_are_counted_in_a_warning() {
    let scene = Scene::new();
    let photos = scene.photos(1);
    let said = || {
        let output = evaluate(&photos, &[]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        text(&output.stderr)
    };
    assert!(!said().contains("smaller than"), "{}", said());
    image::RgbImage::from_pixel(20, 50, image::Rgb([140, 120, 120])).save(photos.join("reddish/small.png")).unwrap();
    assert!(said().contains("1 photos are smaller than the network's input"), "{}", said());
}
