//! One photo: what is written is what was measured.

use crate::scene::{Scene, distance, files, fixture, pixels, program, text};

#[test]
fn what_is_saved_is_what_was_measured() {
    let scene = Scene::new();
    let photo = scene.picture("a.png", 0, 1);
    let record = scene.attacked(&photo, "out", &["--epsilon", "0.01,20/255"]);
    assert_eq!((&record["state"], &record["labelled"]), (&"attacked".into(), &"model".into()));
    assert_eq!((&record["label"]["name"], record["findings"].as_array().unwrap().len()), (&"reddish".into(), 2));
    let expected = [
        "a.0.01.adversarial.png",
        "a.0.01.comparison.png",
        "a.20-255.adversarial.png",
        "a.20-255.comparison.png",
        "a.json",
    ];
    assert_eq!(files(&scene.path("out")), expected);

    for (finding, levels) in record["findings"].as_array().unwrap().iter().zip([2, 20]) {
        let saved = &finding["saved"];
        assert_eq!((&saved["ball"], &saved["levels"]), (&levels.into(), &levels.into()));
        let picture = scene.path("out").join(saved["picture"].as_str().unwrap());
        assert_eq!(u64::from(distance(&pixels(&picture), &pixels(&photo))), levels);
        // Another command, which knows nothing of the attack, sees the same in the file.
        let seen = program().args(["predict", "--json", "--model"]).arg(fixture("traced.pt")).arg(&picture).output();
        let seen: serde_json::Value = serde_json::from_slice(&seen.unwrap().stdout).unwrap();
        let (seen, top) = (&seen["photos"][0]["predictions"][0], &saved["top"][0]);
        assert_eq!(seen["class"], top["name"]);
        assert!((seen["confidence"].as_f64().unwrap() - top["confidence"].as_f64().unwrap()).abs() < 1e-5);
        assert_eq!(saved["broken"], seen["class"] != "reddish");
        assert_eq!(finding["survival"].as_array().unwrap().len(), 4);
    }
    assert_eq!(record["findings"][1]["saved"]["broken"], true, "{record}");
    // 2.55 levels as a float, 2 in the file.
    let linf = record["findings"][0]["float"]["linf"].as_f64().unwrap();
    assert!((linf - 0.01).abs() < 1e-6, "{linf}");
    let on_disk: serde_json::Value = serde_json::from_slice(&std::fs::read(scene.path("out/a.json")).unwrap()).unwrap();
    assert_eq!(on_disk, record);
}

#[test]
fn the_smallest_epsilon_works_and_no_smaller_one_does() {
    let scene = Scene::new();
    let photo = scene.picture("a.png", 1, 2);
    for method in ["fgsm", "pgd10"] {
        let found = scene.attacked(&photo, "smallest", &["--min-epsilon", "--method", method]);
        let [finding] = &found["findings"].as_array().unwrap()[..] else { panic!("{found}") };
        let level = (finding["epsilon"].as_f64().unwrap() * 255.0).round() as u64;
        assert!(level >= 1 && finding["saved"]["broken"] == true, "{finding}");
        let each: Vec<String> = (1..=level).map(|level| format!("{level}/255")).collect();
        let all = scene.attacked(&photo, "each", &["--epsilon", &each.join(","), "--method", method]);
        let broken: Vec<bool> =
            all["findings"].as_array().unwrap().iter().map(|f| f["saved"]["broken"] == true).collect();
        let (last, smaller) = broken.split_last().unwrap();
        assert!(*last && !smaller.contains(&true), "{method} {broken:?}");
        assert_eq!(all["findings"][level as usize - 1]["saved"]["top"], finding["saved"]["top"], "{method}");
    }
}

#[test]
fn an_epsilon_in_l2_is_the_length_of_the_whole_change() {
    let scene = Scene::new();
    let photo = scene.picture("a.png", 0, 7);
    let record = scene.attacked(&photo, "out", &["--norm", "l2", "--method", "deepfool", "--epsilon", "3"]);
    let [finding] = &record["findings"].as_array().unwrap()[..] else { panic!("{record}") };
    assert_eq!((&record["norm"], &finding["epsilon"]), (&"l2".into(), &3.0.into()));
    assert_eq!(finding["float"]["broken"], true, "{finding}");
    for side in ["float", "saved"] {
        let length = finding[side]["l2"].as_f64().unwrap();
        assert!(length > 0.0 && length <= 3.0, "{finding}");
    }
}

#[test]
fn a_target_is_reached_or_said_not_to_be() {
    let scene = Scene::new();
    let photo = scene.picture("a.png", 0, 3);
    let with = ["--target", "Bluish", "--label", "0", "--method", "pgd20", "--epsilon", "1/255,40/255"];
    let record = scene.attacked(&photo, "out", &with);
    assert_eq!((&record["target"]["index"], &record["labelled"]), (&2.into(), &"given".into()));
    let [small, large] = &record["findings"].as_array().unwrap()[..] else { panic!("{record}") };
    assert_eq!((&small["saved"]["broken"], &large["saved"]["broken"]), (&false.into(), &true.into()));
    assert_eq!(large["saved"]["top"][0]["name"], "bluish");
}

#[test]
fn a_photo_that_is_misclassified_already_is_not_attacked_and_not_broken() {
    let scene = Scene::new();
    let photo = scene.picture("a.png", 0, 4);
    let output = scene.attack(&photo, "out", &["--label", "bluish"]).output().unwrap();
    assert!(output.status.success() && text(&output.stdout).contains("wrong about it already"), "{output:?}");
    let record: serde_json::Value = serde_json::from_slice(&std::fs::read(scene.path("out/a.json")).unwrap()).unwrap();
    assert_eq!((&record["state"], &record["findings"]), (&"misclassified".into(), &serde_json::json!([])));
    assert_eq!(files(&scene.path("out")), ["a.json"]);
}

#[test]
fn older_results_are_replaced_as_a_whole_and_said_so() {
    let scene = Scene::new();
    let photo = scene.picture("a.png", 0, 5);
    scene.attacked(&photo, "out", &["--epsilon", "0.01,0.02,0.05"]);
    assert_eq!(files(&scene.path("out")).len(), 7);
    std::fs::write(scene.path("out/other.adversarial.png"), "").unwrap();
    let again = scene.attack(&photo, "out", &[]).output().unwrap();
    assert!(text(&again.stderr).contains("older results of a in"), "{again:?}");
    let expected = ["a.adversarial.png", "a.comparison.png", "a.json", "other.adversarial.png"];
    assert_eq!(files(&scene.path("out")), expected);

    std::fs::write(scene.path("out/a.json"), "{\"mine\": 1}").unwrap();
    let refused = scene.attack(&photo, "out", &[]).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert_eq!(std::fs::read(scene.path("out/a.json")).unwrap(), b"{\"mine\": 1}");
}

#[test]
fn a_small_photo_is_enlarged_with_a_word_about_it() {
    let scene = Scene::new();
    let photo = scene.path("small.png");
    image::RgbImage::from_pixel(20, 50, image::Rgb([140, 120, 120])).save(&photo).unwrap();
    let output = scene.attack(&photo, "out", &["--json"]).output().unwrap();
    assert!(text(&output.stderr).contains("20x50 pixels, less than the 32x32"), "{output:?}");
    let record: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&record["enlarged"], &record["size"]), (&true.into(), &32.into()));
}
