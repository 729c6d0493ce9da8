//! Bad input: one clear message, the documented exit code, nothing written.

use crate::scene::{Scene, fixture, program, refused};

#[test]
fn flags_that_make_no_sense_are_refused_with_a_way_out() {
    let scene = Scene::new();
    let photo = scene.picture("a.png", 0, 1);
    for (more, expected) in [
        (&["--label", "reddsh"][..], "did you mean 'reddish' (0)?"),
        (&["--label", "3"], "the label 3 is out of range: the model knows classes 0 to 2"),
        (&["--label", "-1"], "the label -1 is out of range"),
        (&["--target", "purple"], "the target 'purple' is no class of the model"),
        (&["--label", "0", "--target", "reddish"], "the target is the label"),
        (&["--target", "reddish"], "is what the model sees already"),
        (&["--epsilon", "4"], "did you mean 4/255?"),
        (&["--epsilon", "0.01,-0.1"], "allowed is 0 to 1"),
        (&["--epsilon", "1.5/1"], "allowed is 0 to 1"),
        (&["--epsilon", "four"], "epsilon 'four' is not a number"),
        (&["--method", "fsgm"], "there is no attack 'fsgm'"),
        (&["--method", "n-fgsm"], "it is for training"),
        (&["--norm", "l2", "--method", "fgsm"], "an attack in linf"),
        (&["--norm", "l2", "--epsilon", "2000"], "in l2 up to 1000"),
        (&["--norm", "l0", "--epsilon", "3"], "as in one-pixel3"),
        (&["--min-epsilon", "--epsilon", "0.1"], "cannot be used with"),
        (&["--min-epsilon", "--norm", "l2"], "is sought in whole levels, in the norm linf; cw is an attack in l2"),
        (&["--min-epsilon", "--norm", "l0"], "one-pixel is an attack in l0"),
        (&["--min-epsilon", "--method", "deepfool"], "deepfool is an attack in l2"),
        (&["--set", "attack.epsilon=0.1"], "did you mean 'attack.epsilons'?"),
        (&["--mean", "0.5"], "three numbers"),
    ] {
        let (code, said) = refused(scene.attack(&photo, "out", more));
        assert_eq!(code, 2, "{more:?}: {said}");
        assert!(said.contains(expected), "{more:?}: {said}");
        assert!(!scene.path("out").exists(), "{more:?}");
    }
}

#[test]
fn photos_that_cannot_be_used_are_refused() {
    let scene = Scene::new();
    let broken = scene.path("broken.jpg");
    std::fs::write(&broken, "no photo").unwrap();
    let (code, said) = refused(scene.attack(&broken, "out", &[]));
    assert_eq!((code, said.contains("broken.jpg")), (3, true), "{said}");

    let (code, said) = refused(scene.attack(&scene.path("nowhere.jpg"), "out", &[]));
    assert_eq!((code, said.contains("nowhere.jpg")), (9, true), "{said}");

    let empty = scene.path("empty");
    std::fs::create_dir(&empty).unwrap();
    std::fs::write(empty.join("notes.txt"), "none here").unwrap();
    let (code, said) = refused(scene.attack(&empty, "out", &[]));
    assert_eq!((code, said.contains("no photos found")), (3, true), "{said}");

    scene.picture("strange/roses/a.png", 0, 1);
    let (code, said) = refused(scene.attack(&scene.path("strange"), "out", &[]));
    assert_eq!((code, said.contains("\"roses\" that the model does not know")), (3, true), "{said}");

    let mut no_out = program();
    no_out.arg("attack").arg(scene.path("strange")).arg("--model").arg(fixture("traced.pt"));
    let (code, said) = refused(no_out);
    assert_eq!((code, said.contains("needs --out")), (2, true), "{said}");
}

#[test]
fn models_that_cannot_be_used_are_refused() {
    let scene = Scene::new();
    let photo = scene.picture("a.png", 0, 1);
    let with = |model: &std::path::Path, more: &[&str]| {
        let mut command = program();
        command.arg("attack").arg(&photo).arg("--model").arg(model).arg("--out").arg(scene.path("out")).args(more);
        refused(command)
    };
    let (code, said) = with(&scene.path("absent.pt"), &[]);
    assert_eq!((code, said.contains("absent.pt")), (9, true), "{said}");
    let (code, said) = with(&fixture("scripted.pt"), &[]);
    assert_eq!((code, said.contains("give --classes")), (2, true), "{said}");
    let known = ["--input-size", "32", "--mean", "0,0,0", "--std", "1,1,1", "--classes", "imagenet"];
    let (code, said) = with(&fixture("scripted.pt"), &known);
    assert_eq!((code, said.contains("needed is [1, 1000]")), (4, true), "{said}");

    let cut = scene.path("cut.pt");
    let whole = std::fs::read(fixture("traced.pt")).unwrap();
    std::fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    let (code, said) = with(&cut, &known);
    assert_eq!((code, said.contains("cut.pt is damaged")), (4, true), "{said}");
}

#[test]
fn an_out_folder_that_cannot_be_written_is_named() {
    let scene = Scene::new();
    let photo = scene.picture("a.png", 0, 1);
    let (code, said) = refused(scene.attack(&photo, "a.png/out", &[]));
    assert_eq!((code, said.contains("a.png/out")), (5, true), "{said}");
}
