"""Every command in the documents is typed as it stands there, or it is said why not."""

import json
import re
import subprocess
from collections import Counter

import pytest
import scene as scenes
from commands import PAGES, commands, fences, mentions

# Beginnings of commands that cannot be run here, and why.
NOT_RUN = {
    "make test": "these tests are a part of it",
    r"\.deps/helm/bin/python -m pytest": "these tests are a part of it",
    "aws s3api": "needs a command line of its own, of which nothing else here has use",
    "make chaos": "compiles the tests; its short form is one of them, tests/cluster/chaos.rs",
    "make bench": "measures for half an hour, and fails for no reason that a test could name",
    "make images": "compiles everything anew; test_images.py runs its short form, as root",
    "docker": "needs a container engine; test_images.py checks Dockerfile and compose file, "
    "deploy/try_images.sh runs each line of the Dockerfile",
}
# Whoever begins a line in a document with one of these writes a command.
PROGRAMS = {"hardy", "make", "helm", "kubectl", "docker", "curl", "rabbitmqctl", "export", "cargo", "aws", "sudo"}
COMMANDS = [command for page in PAGES for command in commands(page)]


def said(command):
    """Whether code in a sentence is a whole command, and not the name of one such as `hardy run`."""
    is_name = re.fullmatch(r"(hardy|helm|kubectl|docker)( [a-z]+){1,2}", command.text)
    return not is_name and re.match(rf"({'|'.join(PROGRAMS)}|(\.deps|deploy|tests)/\S+) ", command.text)


# One that is said more than once is typed once.
SAID = {}
for mention in [mention for page in PAGES for mention in mentions(page) if said(mention)]:
    SAID.setdefault(mention.text, mention)


def why_not(command):
    return next((why for begin, why in NOT_RUN.items() if re.search(rf"^\s*{begin}\b", command.text, re.M)), None)


@pytest.fixture(scope="module")
def scene(hardy):
    yield from scenes.make(hardy)


def up_to(scene, command):
    """The page of `command`, on which it was typed after all that stand before it."""
    page = scene.page(command.page)
    page.run(command, skipped=[c for c in page.commands if why_not(c)])
    return page


@pytest.fixture(scope="module")
def played(scene):
    """The scene when every page was played through and every job has ended."""
    for page in PAGES:
        if commands(page):
            up_to(scene, commands(page)[-1])
    for job in json.loads(scene.hardy("jobs", "--json")):
        subprocess.run([scene.program, "watch", job["job"]], env=scene.environment, capture_output=True)
    scene.ended = {job["job"]: job["state"] for job in json.loads(scene.hardy("jobs", "--json"))}
    return scene


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_command(command, scene):
    if reason := why_not(command):
        pytest.skip(reason)
    up_to(scene, command)


@pytest.mark.parametrize("command", SAID.values(), ids=str)
def test_command_in_a_sentence(command, played):
    if reason := why_not(command):
        pytest.skip(reason)
    code, text = played.page(command.page).type(command.text)
    assert code == 0, text


def test_what_goes_on_in_the_background_is_still_there(played):
    begun = [c.page for c in COMMANDS if c.text.split("#")[0].rstrip().endswith("&")]
    assert set(begun) >= {"README.md", "docs/cluster.md"}
    assert {page: played.page(page).shell.still_running() for page in begun} == Counter(begun)


def test_every_job_comes_to_a_good_end(played):
    assert len(played.ended) == 6 and set(played.ended.values()) == {"done"}, played.ended


def test_keda_may_see_the_queues(played):
    """What the operating guide's command has recorded with the rights of the security guide's user."""
    [command] = [c for c in SAID.values() if "record_queues.py" in c.text]
    page = played.page(command.page)
    if not (page.shell.folder / "history.jsonl").exists():
        page.type(command.text)
    lines = [json.loads(line) for line in (page.shell.folder / "history.jsonl").read_text().splitlines()]
    queues = {f"hardy.tasks.{urgency}" for urgency in ("high", "normal", "low")}
    assert len(lines) >= 3 and set(lines[-1]["ready"]) == set(lines[-1]["unacked"]) == queues


def test_nothing_is_made_up_that_no_page_needs(played):
    everything = [*COMMANDS, *SAID.values()]
    assert {why_not(command) for command in everything} - {None} == set(NOT_RUN.values())
    for part in [*scenes.PRESUMED, *played.stand_ins]:
        assert any(part in command.text for command in everything), part
    assert played.used == set(scenes.GIVEN)


def test_commands_stand_in_blocks_of_their_own():
    for page in PAGES:
        for fence in fences(page):
            if fence.language != "sh":
                words = {line.split()[0] for line in fence.text.splitlines() if line.split()}
                assert not words & PROGRAMS, f"{page}:{fence.line}: call the block sh"


def test_hardys_commands_in_sentences_are_known(hardy):
    """Names of commands and flags, wherever a page mentions them."""
    helps = {}

    def helped(*words):
        if words not in helps:
            done = subprocess.run([hardy, *words, "--help"], capture_output=True, text=True)
            helps[words] = done.stdout if done.returncode == 0 else ""
        return helps[words]

    seen = set()
    for page in PAGES:
        for mention in mentions(page):
            words = re.match(r"hardy ([a-z][a-z-]*)(?: ([a-z][a-z-]*)\b(?![./=]))?", mention.text)
            if not words:
                continue
            name, second = words.groups()
            about = helped(name)
            assert about, f"{mention}: there is no command hardy {name}"
            if second and re.search(r"^Commands:", about, re.M):
                about = helped(name, second)
                assert about, f"{mention}: there is no command hardy {name} {second}"
            for flag in re.findall(r"(?<!\S)--[a-z-]+", mention.text):
                assert flag in about, str(mention)
            seen.add(name)
    assert seen >= {"run", "submit", "status", "retry", "fetch", "doctor", "nightly", "models"}
