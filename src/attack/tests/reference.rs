//! Figures from other implementations: tests/python/attack_reference.py prints them.

use super::super::carlini_wagner;
use super::*;

fn summary(images: &Tensor) -> Vec<f64> {
    let moved = ((images - photos(3)) * wave(&[3, 3, 4, 4], 0.11, 0.2)).flatten(1, -1).sum_dim_intlist(1, false, None);
    (0..3).map(|i| moved.double_value(&[i])).collect()
}

fn slope(images: &Tensor, labels: &Tensor) -> f64 {
    gradient(&smooth, images, &Objective::CrossEntropy(labels)).0.abs().sum(Kind::Double).double_value(&[])
}

fn close(ours: &[f64], reference: &[f64], tolerance: f64) {
    assert_eq!(ours.len(), reference.len());
    for (a, b) in ours.iter().zip(reference) {
        assert!((a - b).abs() < tolerance, "{ours:?} {reference:?}");
    }
}

#[test]
fn steps_along_the_sign_agree_with_pytorch_and_torchattacks() {
    let (images, labels) = (photos(3), Tensor::from_slice(&[0i64, 2, 1]));
    let objective = Objective::CrossEntropy(&labels);
    let fgsm = fgsm::craft(&smooth, &images, &objective, 0.03, 1.0);
    let walk = walk::Walk { steps: 7, length: 2.5 * 0.03 / 7.0, decay: 0.0, epsilon: 0.03 };
    let pgd = walk.craft(&smooth, &images, images.copy(), &objective);
    let bim = bim::craft(&smooth, &images, &objective, 0.03, 7);
    let mi_fgsm = mi_fgsm::craft(&smooth, &images, &objective, 0.03, 7, 1.0);
    let targets = (&labels + 1i64).remainder(4);
    let targeted = fgsm::craft(&smooth, &images, &Objective::Target(&targets), 0.03, 1.0);
    for (ours, moved, gradient) in [
        (images, [0.0, 0.0, 0.0], 116.99231811),
        (fgsm, [-0.069875333, -0.009648913, -0.092796683], 126.190516774),
        (pgd, [0.01796957, 0.084912884, -0.061539696], 127.069003712),
        (bim, [-0.020902732, 0.03121272, -0.074935548], 126.568223291),
        (mi_fgsm, [-0.069875333, 0.007235144, -0.083866115], 126.354637772),
        (targeted, [-0.053113049, -0.072097043, -0.098933032], 107.967632382),
    ] {
        close(&summary(&ours), &moved, 1e-8);
        close(&[slope(&ours, &labels)], &[gradient], 1e-8);
    }
}

/// Always of class 0, and so far from linear that the step of APGD is halved again and again.
fn bumpy(images: &Tensor) -> Tensor {
    let hidden = images.flatten(1, -1).to_kind(Kind::Double).matmul(&wave(&[48, 6], 0.9, 0.3)) * 2.0;
    hidden.sin().matmul(&wave(&[6, 4], 1.7, 0.5)) + Tensor::from_slice(&[8.0f64, 0.0, 0.0, 0.0])
}

#[test]
fn apgd_agrees_with_its_authors() {
    let images = photos(3);
    let all = [ApgdLoss::CrossEntropy, ApgdLoss::Dlr, ApgdLoss::TargetedDlr];
    let smooth_ends = [
        ([-0.001440467, 0.008210201, 0.012261029], [1.085984023, 1.301352262, 0.848860236]),
        ([-0.013830158, 0.001610047, -0.011352907], [-0.186143225, -0.188152141, -0.523384878]),
        ([-0.013830158, 0.001610047, -0.011352907], [-0.165404645, -0.148426151, -0.364660909]),
    ];
    let bumpy_ends = [
        ([-0.189667178, -0.079314259, -0.154019182], [0.033396785, 0.033396935, 0.033392544]),
        ([-0.247539927, 0.277681113, 0.104277719], [-0.507329295, -0.507326734, -0.612259392]),
        ([0.109378134, -0.167670129, -0.247479326], [-0.512458158, -0.512461343, -0.51245476]),
    ];
    let models: [(&Model, f64, _); 2] = [(&smooth, 0.004, smooth_ends), (&bumpy, 0.05, bumpy_ends)];
    for (model, epsilon, ends) in models {
        let logits = model(&images);
        let labels = logits.argmax(1, false);
        let goal = Goal::Away(&labels);
        for (loss, (moved, value)) in all.into_iter().zip(ends) {
            let keys = noise(&KEYS[..3]);
            let mut standing = Standing::all(&images, &goal, &keys);
            let targets = scores::runners_up(&logits, &labels, 1).squeeze_dim(1);
            apgd::run(model, &mut standing, images.copy(), targets.copy(), epsilon, loss, 40);
            let found = standing.end();
            assert!(found.predicted.equal(&labels));
            let ours = apgd::value(loss, &model(&found.adversarial), &goal, &targets);
            close(&(0..3).map(|i| ours.double_value(&[i])).collect::<Vec<_>>(), &value, 1e-8);
            close(&summary(&found.adversarial), &moved, 1e-8);
        }
    }
}

#[test]
fn carlini_and_wagner_agree_with_torchattacks() {
    let images = photos(3);
    let labels = smooth(&images).argmax(1, false);
    let keys = noise(&KEYS[..3]);
    let standing = Standing::all(&images, &Goal::Away(&labels), &keys);
    let weight = Tensor::full([3], 5.0, (Kind::Double, Device::Cpu));
    let found = carlini_wagner::search(&smooth, &standing, &weight, 60, 0.0).distance;
    // torchattacks stops all images together; ours each by itself, a little earlier or later.
    let ours: Vec<f64> = (0..3).map(|i| found.double_value(&[i])).collect();
    close(&ours, &[0.0630728, 0.0436407, 0.1442736], 2e-4);
}

#[test]
fn fab_agrees_with_its_authors() {
    let images = photos(3);
    let labels = smooth(&images).argmax(1, false);
    let attack = Attack::Fab { steps: 50, restarts: 1 };
    let found = attack.attempt(&smooth, &images, &Goal::Away(&labels), f64::INFINITY, &noise(&KEYS[..3]));
    let distance = Norm::LInf.distance(&found.adversarial, &images);
    let ours: Vec<f64> = (0..3).map(|i| distance.double_value(&[i])).collect();
    close(&ours, &[0.0063954, 0.0047838, 0.0163297], 2e-6);
}
