"""`perank.prepare` on a small world: rows that train, texts that align, killed at any part and gone on with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, open_dict

from baselines.test_splade import save_masked_lm
from perank.errors import BadInput
from perank.files import CONF_DIR, sha256_of_text
from perank.preparation.resumable import Resumable
from perank.prepare import main, prepare
from perank.retrieval.bm25 import Bm25
from perank.sources.beir import BeirCollection
from perank.sources.views import text_view
from perank.training.rows import read_rows
from support import toy


def settings(world: Path, output: Path, *more: str) -> list[str]:
    return [
        "collection=beir",
        f"collection.folder={world}/collection",
        f"encoder.name={world}/encoder",
        "encoder.max_length=32",
        "encoder.dtype=float32",
        f"backbone.name={world}/llm",
        f"preparation.output={output}",
        "progress=false",
        *more,
    ]


def config(world: Path, output: Path, *more: str) -> DictConfig:
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        found = compose("prepare", overrides=settings(world, output, *more))
    with open_dict(found):
        found.paths.output = str(output.parent / "log")
    return found


def interrupted(settings: DictConfig, *, after: int) -> None:
    """`prepare`, stopped from the keyboard once so many parts are written."""
    write, written = Resumable.write, list[str]()

    def stops(parts: Resumable, name: str, content: object) -> None:
        if len(written) == after:
            raise KeyboardInterrupt
        written.append(name)
        write(parts, name, content)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Resumable, "write", stops)
        prepare(settings)


ROWS = ["preparation.candidates=5", "preparation.block=4"]


def test_rows_are_every_querys_nearest_passages_by_the_teacher(world: Path, tmp_path: Path) -> None:
    output = tmp_path / "rows.jsonl"
    manifest = prepare(config(world, output, *ROWS, "preparation.max_tokens=2000", "device=cpu"))
    rows, judged = read_rows(output), BeirCollection(world / "collection", "train").qrels
    assert [row.query.id for row in rows] == list(judged)
    assert {len(row.passage_ids) for row in rows} == {5}
    for row in rows:
        if (relevant := next(iter(judged[row.query.id]))) in row.passage_ids:
            assert row.passage_ids[row.order[0]] == relevant
    assert manifest["statistics"]["rows"] == 12
    assert manifest["statistics"]["tokens"]["max"] < 2000
    assert prepare(config(world, output, *ROWS, "preparation.max_tokens=2000", "device=cpu")) == manifest


def test_an_interrupted_set_goes_on_and_ends_with_the_same_bytes(world: Path, tmp_path: Path) -> None:
    prepare(config(world, tmp_path / "whole.jsonl", *ROWS))
    interrupted(config(world, tmp_path / "rows.jsonl", *ROWS), after=2)
    assert not (tmp_path / "rows.jsonl").exists()
    prepare(config(world, tmp_path / "rows.jsonl", *ROWS))
    assert (tmp_path / "rows.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_another_setting_does_not_overwrite_what_is_there(world: Path, tmp_path: Path) -> None:
    output = tmp_path / "rows.jsonl"
    prepare(config(world, output, *ROWS, "preparation.limit=3"))
    assert len(read_rows(output)) == 3
    with pytest.raises(BadInput, match="made with other settings"):
        prepare(config(world, output, *ROWS, "preparation.limit=4"))


def test_any_ranker_teaches_and_a_run_does(world: Path, tmp_path: Path) -> None:
    backwards_by = "{_target_:preparation.test_ranking_set.Backwards}"
    teacher = ["teacher=ranker", f"teacher.ranker={backwards_by}", "preparation.judged_first=false"]
    prepare(config(world, tmp_path / "a.jsonl", *ROWS, *teacher))
    backwards = read_rows(tmp_path / "a.jsonl")
    run = tmp_path / "teacher.trec"
    lines = [
        f"{row.query.id} Q0 {id} {rank} {-rank} run\n"
        for row in backwards
        for rank, id in enumerate(sorted(row.passage_ids), start=1)
    ]
    run.write_text("".join(lines))
    prepare(config(world, tmp_path / "b.jsonl", *ROWS, *teacher[2:], "teacher=run", f"teacher.path={run}"))
    for row, other in zip(read_rows(tmp_path / "b.jsonl"), backwards, strict=True):
        assert row.passage_ids == other.passage_ids
        assert [row.passage_ids[i] for i in row.order] == sorted(row.passage_ids)


@pytest.mark.parametrize(
    ("settings", "fingerprint", "digest"),
    [
        (["teacher=run", "teacher.path=teacher.trec"], "721445f7474df834", "224eb00eed5a1b45"),
        (
            [
                *("teacher=ranker", "teacher.ranker={_target_:preparation.test_ranking_set.Backwards}"),
                *("preparation.judged_first=false", "preparation.orders=[shuffled,retrieved]", "preparation.limit=7"),
            ],
            "b7fa26797ab3b29d",
            "3bce9e8120b3d18d",
        ),
    ],
    ids=["run", "ranker"],
)
def test_sets_are_but_for_ranks_to_the_byte_those_that_earlier_versions_prepared_and_known_by_their_version(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: list[str], fingerprint: str, digest: str
) -> None:
    """Fingerprint of version 2, and beginning of the SHA-256 as written before the teachers were one group."""
    monkeypatch.chdir(tmp_path)
    toy.make_collection(tmp_path / "collection")
    ranked = {q: sorted(range(40), key=lambda i: (7 * i + q) % 40) for q in range(12)}
    lines = [f"q{q} Q0 p{i} {rank} {-rank}.0 t\n" for q, ids in ranked.items() for rank, i in enumerate(ids, start=1)]
    Path("teacher.trec").write_text("".join(lines))
    first = ["collection.folder=collection", "first_stage=bm25", "backbone.name=llm", "device=cpu", *ROWS]
    manifest = prepare(config(world, Path("rows.jsonl"), *first, *settings))
    rows = [json.loads(line) for line in Path("rows.jsonl").read_text().splitlines()]
    assert all(sorted(row.pop("ranks")) == list(range(len(row["passages"]))) for row in rows)
    plain = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    assert (manifest["fingerprint"], sha256_of_text(plain)[:16]) == (fingerprint, digest)


def test_what_teaches_drawn_rows_teaches_prepared_ones(world: Path, tmp_path: Path) -> None:
    """With the first stage's own candidates and a weight that leaves nothing of the encoder, theirs is the order."""
    fused = ["teacher=fused", "teacher.weight=1e6", "first_stage=bm25", "preparation.orders=[retrieved]"]
    manifest = prepare(config(world, tmp_path / "a.jsonl", *ROWS, *fused))
    assert {row.order for row in read_rows(tmp_path / "a.jsonl")} == {(0, 1, 2, 3, 4)}
    assert manifest["preparation"]["judged_first"] is False
    prepare(config(world, tmp_path / "b.jsonl", *ROWS, *fused, "teacher.weight=0"))
    assert read_rows(tmp_path / "b.jsonl") != read_rows(tmp_path / "a.jsonl")


def test_a_sparse_ranker_teaches_alone_and_fused_and_judgements_go_first_where_wanted(
    world: Path, tmp_path: Path
) -> None:
    folder, judged = save_masked_lm(tmp_path / "splade"), BeirCollection(world / "collection", "train").qrels
    common = [*ROWS, "first_stage=bm25", "preparation.orders=[retrieved]"]
    at = {"splade": "teacher.ranker", "fused_splade": "teacher.fusion.scorer"}
    alone = [f"+{at['splade']}.{key}" for key in (f"name={folder}", "max_length=32")]
    fused = [override.replace(at["splade"], at["fused_splade"]) for override in alone]
    # with all weight on the texts, the fused teacher's order is the sparse ranker's
    texts = [f"teacher.fusion.{name}=0.0" for name in ("cosine", "log_rank", "feedback")]
    prepare(config(world, tmp_path / "a.jsonl", *common, "teacher=splade", *alone, "teacher.judged_first=false"))
    prepare(config(world, tmp_path / "b.jsonl", *common, "teacher=fused_splade", *fused, *texts))
    assert read_rows(tmp_path / "a.jsonl") == read_rows(tmp_path / "b.jsonl")
    prepare(config(world, tmp_path / "c.jsonl", *common, "teacher=fused_splade", *fused, "teacher.judged_first=true"))
    for row in read_rows(tmp_path / "c.jsonl"):
        relevant = [id for id in row.passage_ids if judged[row.query.id].get(id)]
        assert [row.passage_ids[i] for i in row.order[: len(relevant)]] == relevant
    assert any(row.order != (0, 1, 2, 3, 4) for row in read_rows(tmp_path / "c.jsonl"))


def test_wikipedia_becomes_texts_to_align_on(world: Path, tmp_path: Path) -> None:
    lines = [json.dumps({"id": str(i), "title": "T", "section": "", "text": f"rain {i}"}) for i in range(30)]
    (tmp_path / "wiki.jsonl").write_text("\n".join(lines))
    output = tmp_path / "wikipedia" / "corpus.jsonl"
    sampled = config(
        world,
        output,
        "preparation=wikipedia",
        f"preparation.source={tmp_path}/wiki.jsonl",
        "preparation.rows=12",
        "preparation.chunk=7",
    )
    assert prepare(sampled)["statistics"]["passages"] == 12
    assert len(output.read_text().splitlines()) == 12


def test_the_command_writes_the_authors_form_and_reads_it_back(
    world: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    prepare(config(world, tmp_path / "rows.jsonl", *ROWS))
    folders = [f"hydra.run.dir={tmp_path}/log"]
    there = settings(world, tmp_path / "theirs.jsonl", "preparation=to_authors", *folders)
    assert toy.command(main, *there, f"preparation.rows_path={tmp_path}/rows.jsonl") == 0
    back = settings(world, tmp_path / "ours", "preparation=from_authors", *folders)
    assert toy.command(main, *back, f"preparation.source={tmp_path}/theirs.jsonl") == 0
    ours, rows = read_rows(tmp_path / "ours" / "rows.jsonl"), read_rows(tmp_path / "rows.jsonl")
    assert [(row.query.text, row.order) for row in ours] == [(row.query.text, row.order) for row in rows]
    assert toy.command(main, *there) == 2
    assert "preparation.rows_path" in capfd.readouterr().err


SUMMARIES = [
    "preparation=summaries",
    "preparation.tokens=5",
    "preparation.block=7",
    "preparation.batch_size=3",
    "device=cpu",
]


def test_every_passage_gets_a_summary_that_text_listwise_can_read(world: Path, tmp_path: Path) -> None:
    output = tmp_path / "summaries.jsonl"
    manifest = prepare(config(world, output, *SUMMARIES))
    passages = BeirCollection(world / "collection", "train").passages
    records = [json.loads(line) for line in output.read_text().splitlines()]
    assert [record["_id"] for record in records] == list(passages)
    assert manifest["statistics"]["passages"] == len(passages)
    assert manifest["statistics"]["empty"] == sum(not record["text"] for record in records)
    view = text_view(str(output))
    assert [view(passage) for passage in passages.values()] == [record["text"] for record in records]
    assert prepare(config(world, output, *SUMMARIES)) == manifest


def test_interrupted_summaries_go_on_and_end_with_the_bytes_of_other_batches(world: Path, tmp_path: Path) -> None:
    prepare(config(world, tmp_path / "whole.jsonl", *SUMMARIES, "preparation.batch_size=1"))
    interrupted(config(world, tmp_path / "some.jsonl", *SUMMARIES), after=1)
    assert not (tmp_path / "some.jsonl").exists()
    prepare(config(world, tmp_path / "some.jsonl", *SUMMARIES))
    assert (tmp_path / "some.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_summaries_of_what_the_first_stage_finds_leave_the_rest_alone(world: Path, tmp_path: Path) -> None:
    prepare(config(world, tmp_path / "some.jsonl", *SUMMARIES, "preparation.candidates=2", "first_stage=bm25"))
    collection = BeirCollection(world / "collection", "train")
    found = {id for scores in Bm25().search(collection, depth=2).values() for id in scores}
    kept = [json.loads(line)["_id"] for line in (tmp_path / "some.jsonl").read_text().splitlines()]
    assert kept == [id for id in collection.passages if id in found]
    assert len(kept) < len(collection.passages)


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ("preparation.instruction=Summarize", "no field for the passage"),
        ("preparation.tokens=0", "tokens is 0"),
        ("preparation.block=0", "block is 0"),
        ("preparation.candidates=0", "candidates is 0"),
    ],
)
def test_summaries_that_can_not_be_made_are_refused(world: Path, tmp_path: Path, setting: str, problem: str) -> None:
    with pytest.raises(BadInput, match=problem):
        prepare(config(world, tmp_path / "some.jsonl", *SUMMARIES, setting))


def test_a_wikipedia_file_is_sampled_once(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"'preparation.source': 'a.jsonl' occurs twice"):
        prepare(
            config(tmp_path, tmp_path / "corpus.jsonl", "preparation=wikipedia", "preparation.source=[a.jsonl,a.jsonl]")
        )
