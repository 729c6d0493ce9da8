"""Compares the trained models of two finished runs on the same photos, image by image.

    python3 tests/python/paired.py RUN_A RUN_B

For every condition that both measured: both accuracies, the difference B - A in points, its 95 % interval (Wald's,
for pairs), how many photos only A and only B has right, and McNemar's exact p."""
import json
import pathlib
import sys

from mcnemar_reference import p_value


def outcomes(run):
    """`(attack, epsilon)` to the key of every photo to whether the trained model has it right."""
    store = pathlib.Path(run, ".hardy")
    (log,) = store.glob("jobs/*/log")
    # Readers follow the highest epoch.
    pages = sorted(max(log.iterdir()).iterdir())
    done = {entry["task"]: entry["success"] for page in pages for entry in json.loads(page.read_text())["done"]}
    found = {}
    for task, success in sorted(done.items()):
        if not task.startswith("evaluate-trained-"):
            continue
        shard = json.loads((store / success["outputs"]["outcomes"]["key"]).read_text())
        for number, condition in enumerate(shard["conditions"]):
            right = found.setdefault((condition["attack"], round(condition["epsilon"], 9)), {})
            right.update({image["key"]: image["predicted"][number] == image["label"] for image in shard["images"]})
    return found


def shown(attack, epsilon):
    levels = epsilon * 255
    budget = f"{levels:.0f}/255" if abs(levels - round(levels)) < 1e-6 else f"{epsilon:g}"
    return f"{attack} at {budget}" if epsilon else attack


def main(*runs):
    first, second = (outcomes(run) for run in runs)
    print(f"{'':18}{'n':>6}{'A':>9}{'B':>9}{'B - A':>9}{'95 % interval':>18}{'only A':>8}{'only B':>8}{'p':>10}")
    for condition in first:
        if condition not in second:
            continue
        a, b = first[condition], second[condition]
        if a.keys() != b.keys():
            sys.exit(f"{shown(*condition)}: the runs measured different photos")
        n = len(a)
        lost, gained = (sum(x[key] and not y[key] for key in a) for x, y in ((a, b), (b, a)))
        difference = (gained - lost) / n
        spread = 1.96 * (gained + lost - (gained - lost) ** 2 / n) ** 0.5 / n
        low, high = 100 * (difference - spread), 100 * (difference + spread)
        shares = "".join(f"{100 * sum(right.values()) / n:7.1f} %" for right in (a, b))
        print(
            f"{shown(*condition):18}{n:6}{shares}{100 * difference:+9.1f}{f'{low:+.1f} to {high:+.1f}':>18}"
            f"{lost:8}{gained:8}{float(p_value(gained, lost)):10.2g}"
        )


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
