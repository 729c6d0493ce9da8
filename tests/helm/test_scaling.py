"""Would the workers of a real job have been scaled well?

KEDA's and the HorizontalPodAutoscaler's rules, as their documents have them, replay the queues of a job that was
recorded by record_queues.py with four workers of one thread. The replay changes how many workers there are, not what
the recorded ones did: unacknowledged messages are the tasks that workers were busy with.
"""

import json
import math
import pathlib
from dataclasses import dataclass

import pytest
from conftest import of, render

# record_queues.py --hardy target/release/hardy > history.jsonl
RECORDED = pathlib.Path(__file__).parent / "history.jsonl"
HISTORY = [json.loads(line) for line in RECORDED.read_text().splitlines()]
SYNC = 15  # seconds between two looks of the autoscaler
TOLERANCE = 0.1  # a ratio this near to one changes nothing


@dataclass
class Queues:
    """The recorded job, slower by a factor: tasks of a real data set take minutes."""

    slower: float = 1.0

    def at(self, t):
        """Ready and unacknowledged messages."""
        line = next((h for h in reversed(HISTORY) if h["t"] * self.slower <= t), None)
        return (sum(line["ready"].values()), sum(line["unacked"].values())) if line and t <= self.end else (0, 0)

    @property
    def end(self):
        return HISTORY[-1]["t"] * self.slower

    def needed(self):
        return [(h["t"] * self.slower, sum(h["ready"].values()) + sum(h["unacked"].values())) for h in HISTORY]

    def longest_dip(self, most):
        """For how long fewer workers than before were needed, until as many were needed again."""
        longest, needed = 0.0, [(t, min(n, most)) for t, n in self.needed()]
        for i, (t, n) in enumerate(needed):
            later = next((u for u, m in needed[i + 1 :] if m >= n), None)
            longest = max(longest, (later or t) - t)
        return longest


def replay(scaled, queues, window=None, count=lambda ready, unacked: ready + unacked):
    """Workers over time: [(seconds, workers, tasks in work)]."""
    spec = scaled["spec"]
    down = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
    window = down["stabilizationWindowSeconds"] if window is None else window
    least, most = spec["minReplicaCount"], spec["maxReplicaCount"]
    each = float(spec["triggers"][0]["metadata"]["value"])
    workers, last_active, recommended, seen = least, -math.inf, [], []
    step = math.gcd(SYNC, spec["pollingInterval"])
    for t in range(0, math.ceil(queues.end + spec["cooldownPeriod"] + window + 120), step):
        ready, unacked = queues.at(t)
        messages = count(ready, unacked)
        if t % spec["pollingInterval"] == 0:
            # KEDA: from nothing to one at once, to nothing when all has been quiet for long.
            last_active = t if messages > 0 else last_active
            if workers == 0 and messages > 0:
                workers = max(1, least)
            elif messages == 0 and t - last_active > spec["cooldownPeriod"]:
                workers = least
        if workers and t % SYNC == 0:
            ratio = messages / (each * workers)
            wanted = workers if abs(ratio - 1) <= TOLERANCE else math.ceil(messages / each)
            wanted = min(max(wanted, least, 1), most)
            recommended = [(u, r) for u, r in recommended if t - u < window] + [(t, wanted)]
            highest = max(r for _, r in recommended)
            if wanted > workers:
                workers = min(wanted, max(workers * 10, workers + 10))
            elif highest < workers:
                workers = highest
        seen.append((t, workers, unacked))
    return seen


def scale_ins(seen):
    return [(t, after, busy) for (_, before, _), (t, after, busy) in zip(seen, seen[1:]) if after < before]


def ups_after_a_scale_in(seen):
    first = next((i for i, (a, b) in enumerate(zip(seen, seen[1:])) if b[1] < a[1]), len(seen))
    return sum(b[1] > a[1] for a, b in zip(seen[first:], seen[first + 1 :]))


@pytest.fixture(params=[2, 4, 10], ids="at most {}".format)
def scaled(request):
    return of(render({"autoscaling": {"maxReplicas": request.param}}), "ScaledObject")[0]


def slowness(scaled):
    """As recorded, and slowed down as far as the chart's window promises to bear."""
    window = scaled["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"]
    dip = Queues().longest_dip(scaled["spec"]["maxReplicaCount"])
    return [1.0, 5.0, (window - 2 * SYNC) / dip] if dip else [1.0, 5.0]


def test_the_history_is_of_a_job_with_rounds():
    needed = [n for _, n in Queues().needed()]
    assert needed[-1] == 0 and max(needed) >= 8
    peaks = [n for before, n, after in zip(needed, needed[1:], needed[2:]) if before <= n > after and n >= 4]
    assert len(peaks) >= 3, "several stages, with less to do between them"


def test_no_scale_in_below_the_busy_workers(scaled):
    most = scaled["spec"]["maxReplicaCount"]
    for slower in slowness(scaled):
        seen = replay(scaled, Queues(slower))
        for t, workers, busy in scale_ins(seen):
            assert workers >= min(busy, most), f"at {t} s: {workers} workers, {busy} busy"


def test_no_flapping_at_the_ends_of_rounds(scaled):
    for slower in slowness(scaled):
        seen = replay(scaled, Queues(slower))
        assert ups_after_a_scale_in(seen) == 0, f"{slower:.0f} times slower"
        assert max(workers for _, workers, _ in seen) == scaled["spec"]["maxReplicaCount"]
        assert seen[-1][1] == 0, "all workers go in the end"


def test_without_the_window_they_would_flap():
    scaled = of(render({}), "ScaledObject")[0]
    assert ups_after_a_scale_in(replay(scaled, Queues(5.0), window=0)) > 0


def test_ready_messages_alone_would_take_busy_workers():
    scaled = of(render({}), "ScaledObject")[0]
    seen = replay(scaled, Queues(5.0), window=0, count=lambda ready, unacked: ready)
    assert any(workers < min(busy, 10) for _, workers, busy in scale_ins(seen))
    assert scaled["spec"]["triggers"][0]["metadata"]["excludeUnacknowledged"] == "false"


def test_every_way_of_scaling_has_the_window():
    for mode, kind in (("keda", "ScaledObject"), ("hpa", "HorizontalPodAutoscaler")):
        text = str(of(render({"autoscaling": {"mode": mode}}), kind)[0])
        assert "'stabilizationWindowSeconds': 900" in text
