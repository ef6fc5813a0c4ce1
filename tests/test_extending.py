"""docs/extending.md, followed step by step: its blocks become a project of their own, outside perank, and are run."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from perank.app.settings import instantiate
from perank.evaluate import main as evaluate
from perank.files import CONF_DIR, PACKAGE_DIR
from perank.model.templates import RankTemplate
from perank.reporting.rows import read_results_csv
from perank.sources.beir import BeirCollection
from perank.train import train
from perank.training.rows import read_rows
from support import tiny, toy

pytestmark = toy.QUIET
DOCUMENT = (PACKAGE_DIR.parent.parent / "docs" / "extending.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r'^```\w+ title="(.+?)"\n(.*?)^```', DOCUMENT, re.MULTILINE | re.DOTALL))
COMMANDS = re.findall(r"^python -m perank\.(\w+) (.+)$", DOCUMENT, re.MULTILINE)
EIGHT = (
    "The loss",
    "The prompt",
    "The decoder",
    "The window",
    "A data set",
    "A ranker",
    "An encoder",
    "What is logged",
)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The document's files, and questions whose answers share a word with them; the last answer is the shortest."""
    folder = tmp_path_factory.mktemp("project")
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    pairs = [["which otter", "a sea otter holds hands while sleeping"], ["otter hands", "hands of the otter"]]
    (folder / "faq.json").write_text(json.dumps(pairs))
    return folder


@pytest.fixture
def project(written: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That folder, as the one that commands are run in."""
    monkeypatch.chdir(written)
    monkeypatch.syspath_prepend(written)  # as `python -m` does with the current folder
    return written


def commands(word: str) -> list[list[str]]:
    """The overrides of the document's commands that hold a word."""
    found = [shlex.split(rest) for _, rest in COMMANDS if word in rest]
    assert found, f"docs/extending.md has no command with {word}"
    return found


def test_it_shows_where_to_change_each_of_the_eight_things() -> None:
    for thing in EIGHT:
        assert f"\n## {thing}\n" in DOCUMENT
        assert f"](#{thing.lower().replace(' ', '-')})" in DOCUMENT


@pytest.mark.parametrize("ranker", ["+ranker.shortest", "ranker=shortest"])
def test_a_collection_and_a_ranker_of_ones_own_are_evaluated(project: Path, tmp_path: Path, ranker: str) -> None:
    (command,) = commands(ranker)
    assert toy.command(evaluate, *command, "encoder_alone=false", f"hydra.run.dir={tmp_path}") == 0
    rows = [row for row in read_results_csv(tmp_path / "results.csv") if row.metric == "ndcg@10"]
    assert {(row.collection, row.system) for row in rows} == {("faq", "Bm25"), ("faq", "shortest")}
    order = (tmp_path / "faq.shortest.trec").read_text().split()[2::6]
    assert order == ["p1", "p0", "p1", "p0"]


def test_an_encoder_of_ones_own_is_a_line_of_the_table(project: Path, tmp_path: Path) -> None:
    (command,) = commands("encoder=letters")
    assert toy.command(evaluate, *command, f"hydra.run.dir={tmp_path}") == 0
    assert "encoder" in {row.system for row in read_results_csv(tmp_path / "results.csv")}


def test_a_loss_and_a_callback_of_ones_own_are_trained_and_logged(project: Path, world: Path, tmp_path: Path) -> None:
    own = [word for name in ("loss._target_", "callbacks.norm") for word in commands(name)[0]]
    settings = [word for word in own if not word.startswith("+experiment")]
    train(toy.composed(world, tmp_path, "rank", "data.rows=8", "evaluate=false", *settings))
    logged = toy.logged(tmp_path / "metrics.csv")
    assert all(float(row["train/gradient_norm"]) > 0 for row in logged)
    for row in logged:
        expected = float(row["train/rank"]) + 0.01 * float(row["train/z"])
        assert float(row["train/loss"]) == pytest.approx(expected, rel=1e-4)


def test_a_teacher_of_ones_own_orders_the_rows_that_are_trained_on(
    project: Path, world: Path, tmp_path: Path, own_cache: Path
) -> None:
    (command,) = commands("SharedWords")
    settings = [word for word in command if not word.startswith("+experiment")]
    train(
        toy.composed(world, tmp_path, "rank", "data.rows=8", "evaluate=false", *settings, "teacher.judged_first=false")
    )
    texts = BeirCollection(world / "collection", "train").passages
    for row in read_rows(next((own_cache / "rows").glob("*.jsonl"))):
        words = set(row.query.text.split())
        shared = [len(words & set(texts[row.passage_ids[i]].text.split())) for i in row.order]
        assert shared == sorted(shared, reverse=True)


def test_a_collection_of_ones_own_is_found_in_a_folder_of_ones_own_configs(project: Path) -> None:
    suite = (project / "conf" / "suite" / "faq.yaml").read_text()
    lines = re.search(r"  collection:\n((?:    .+\n)+)", suite)
    assert lines is not None
    (project / "conf" / "collection").mkdir()
    (project / "conf" / "collection" / "faq.yaml").write_text(re.sub("^    ", "", lines[1], flags=re.MULTILINE))
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        config = compose("train", ["collection=faq", f"hydra.searchpath=[{project}/conf]"])
    assert len(instantiate(config.collection).queries) == 2


def test_the_prompt_shown_is_a_template() -> None:
    block = re.search(r'^"short": (RankTemplate\(.*?^\)),', DOCUMENT, re.MULTILINE | re.DOTALL)
    assert block is not None
    template: RankTemplate = eval(block[1], {"RankTemplate": RankTemplate})
    shown = template.message(tiny.QUERY.text, 2, slot="*")
    assert shown == f"2 passages:\n1 *\n2 *\nQuery: {tiny.QUERY.text}\nBest first:"
