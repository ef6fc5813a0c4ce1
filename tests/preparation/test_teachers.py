"""Teachers' orders: judged grades before any opinion, and total, so that ties don't depend on anything else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hypothesis import given
from hypothesis import strategies as st

from perank.app.training_data import teacher_of
from perank.baselines.fusion import Fusion
from perank.errors import BadInput
from perank.files import CONF_DIR
from perank.preparation.teachers import EncoderTeacher, FusedTeacher, RankerTeacher, RunTeacher, Teacher, teacher_orders
from perank.records import Bill, Candidates, Passage, Query, Ranking, Run
from perank.sources.trec import write_run
from support import tiny

QUERY = Query("q", "a query")


class Known:
    def __init__(self, vectors: dict[str, list[float]]) -> None:
        self.vectors = vectors

    def get(self, ids: Sequence[str]) -> np.ndarray:
        return np.array([self.vectors[id] for id in ids], dtype=np.float32)


@dataclass
class Sources:
    """What a teacher may look at."""

    store: Known = field(default_factory=lambda: Known({}))
    query_vectors: Known = field(default_factory=lambda: Known({"q": [1.0, 0.0]}))
    run: Run = field(default_factory=dict)


def candidates(ids: Sequence[str], scores: Sequence[float] = (), query: Query = QUERY) -> Candidates:
    return Candidates(query, tuple(Passage(id, f"text of {id}") for id in ids), tuple(scores))


def scores(teacher: Teacher, found: Candidates, sources: Sources | None = None) -> list[float]:
    (scored,) = teacher.scores([found], sources or Sources())
    return scored


def test_the_encoder_scores_by_inner_product() -> None:
    vectors = {"a": [1.0, 0.0], "b": [0.0, 1.0], "c": [-1.0, 1.0]}
    sources = Sources(store=Known(vectors), query_vectors=Known({"q": [1.0, 2.0]}))
    assert scores(EncoderTeacher(), candidates("abc"), sources) == [1.0, 2.0, 1.0]


def test_a_run_scores_what_it_holds_and_says_what_it_does_not(tmp_path: Path) -> None:
    write_run(tmp_path / "t.trec", {"q": {"a": 3.0, "b": 1.0}}, tag="x")
    teacher = RunTeacher(path=tmp_path / "t.trec")
    assert scores(teacher, candidates("ba")) == [1.0, 3.0]
    with pytest.raises(BadInput, match="doesn't score passage 'c'") as caught:
        scores(teacher, candidates("ac"))
    assert caught.value.id == "q"
    with pytest.raises(BadInput):
        scores(teacher, candidates("a", query=Query("other", "x")))


@given(
    known=st.dictionaries(st.sampled_from("abcdef"), st.sampled_from([0.0, 1.0, 2.0]), min_size=1),
    grades=st.dictionaries(st.sampled_from("abcdefxy"), st.integers(-1, 3)),
)
def test_grades_come_first_then_scores_then_ids_whatever_the_order_of_the_candidates(
    known: dict[str, float], grades: dict[str, int]
) -> None:
    sources = Sources(store=Known({id: [score, 0.0] for id, score in known.items()}))
    found = set()
    for ids in (sorted(known), sorted(known, reverse=True)):
        ((_, order),) = teacher_orders(EncoderTeacher(), [candidates(ids)], sources, {"q": grades})
        found.add(tuple(ids[i] for i in order))
    assert len(found) == 1
    ranked = found.pop()
    assert sorted(ranked) == sorted(known)
    for better, worse in pairwise(ranked):
        assert (grades.get(better, 0), known[better]) >= (grades.get(worse, 0), known[worse])


def test_a_fused_opinion_is_similarity_less_the_log_of_the_rank() -> None:
    sources = Sources(store=Known({"a": [0.9, 0.0], "b": [0.8, 0.0], "c": [0.7, 0.0]}), run={"q": {"c": 9.0, "a": 2.0}})
    found = scores(FusedTeacher(weight=0.1), candidates("abc"), sources)
    # c is first of the run, a second, and b, which the run lacks, third
    assert found == pytest.approx([0.9 - 0.1 * math.log(2), 0.8 - 0.1 * math.log(3), 0.7])
    assert scores(FusedTeacher(weight=0.0), candidates("ab"), sources) == pytest.approx([0.9, 0.8])
    with pytest.raises(BadInput, match="the weight is -1"):
        FusedTeacher(weight=-1)


def test_candidates_with_the_first_stages_own_scores_are_ranked_by_those() -> None:
    sources = Sources(store=Known({"a": [0.9, 0.0], "b": [0.8, 0.0]}))
    found = scores(FusedTeacher(weight=0.1), candidates("ab", [1.0, 2.0]), sources)
    assert found == pytest.approx([0.9 - 0.1 * math.log(2), 0.8])


class Lengths:
    """Scores by the length of a passage's text."""

    identity = {"name": "lengths"}  # noqa: RUF012

    def scored(self, batch: Sequence[Candidates]) -> list[tuple[np.ndarray, Bill]]:
        return [(np.array([len(passage.text) for passage in found.passages]), Bill()) for found in batch]


def test_a_fused_opinion_can_weigh_what_a_text_ranker_says() -> None:
    vectors = {"a": [0.9, 0.0], "bb": [0.8, 0.0], "c": [0.7, 0.0]}
    sources = Sources(store=Known(vectors), run={"q": {"c": 9.0, "a": 2.0}})
    teacher = FusedTeacher(fusion=Fusion(cosine=10.0, log_rank=0.5, text=2.0, scorer=Lengths()))
    length = len("text of a")
    # c is first of the run, a second, and bb, which the run lacks, third
    expected = [9 - 0.5 * math.log(2) + 2 * length, 8 - 0.5 * math.log(3) + 2 * length + 2, 7 + 2 * length]
    assert scores(teacher, candidates(["a", "bb", "c"]), sources) == pytest.approx(expected, abs=1e-5)
    file, settings = teacher.identity
    assert (file, settings["text"], settings["scorer"]) == ("", 2.0, {"name": "lengths"})
    assert FusedTeacher(weight=0.1).identity == FusedTeacher(fusion=Fusion(log_rank=0.1)).identity


class Backwards:
    def rank_batch(self, batch: Sequence[Candidates]) -> list[Ranking]:
        return [Ranking(found, tuple(reversed(range(len(found))))) for found in batch]


def test_a_rankers_order_stays_among_passages_of_one_grade() -> None:
    teacher = RankerTeacher(ranker=Backwards)
    batch, judged = [candidates("abcd"), candidates("ba"), candidates("bc")], {"q": {"b": 1, "c": 1}}
    found = list(teacher_orders(teacher, batch, Sources(), judged, batch_size=2))
    assert found == list(zip(batch, [(2, 1, 3, 0), (0, 1), (1, 0)], strict=True))
    assert list(teacher_orders(teacher, batch[:1], Sources(), {})) == [(batch[0], (3, 2, 1, 0))]


def test_a_teacher_that_ranks_nothing_is_refused_when_it_is_loaded() -> None:
    with pytest.raises(BadInput, match="the teacher is not a ranker"):
        scores(RankerTeacher(ranker=dict), candidates("ab"))


def test_the_cross_encoder_tells_near_candidates_apart_where_bf16_would_tie_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logits of 4 to 8 are 0.03 apart in bf16, which `auto` chooses on a GPU; those of near candidates are closer."""
    from transformers import BertConfig, BertForSequenceClassification

    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    tokenizer = tiny.tiny_tokenizer(bert=True)
    torch.manual_seed(0)
    config = BertConfig(vocab_size=len(tokenizer), num_labels=1, initializer_range=0.5, **sizes)
    model = BertForSequenceClassification(config)
    torch.nn.init.normal_(model.classifier.weight, std=1e-3)
    torch.nn.init.constant_(model.classifier.bias, 6.0)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    monkeypatch.setattr("perank.model.precision.multiplies_bf16", lambda device: True)
    named = ["teacher=cross_encoder", f"teacher.ranker.name={tmp_path}", "+teacher.ranker.device=cpu"]
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        teacher: Any = teacher_of(compose("prepare", overrides=named))
    pointwise = teacher.loaded.ranker
    pairs = [pointwise.scorer.pair(tiny.QUERY.text, passage.contents) for passage in tiny.PASSAGES]
    scores = pointwise.scorer.scores(pairs)
    assert max(scores) - min(scores) < 0.03 < min(scores)
    assert len(set(scores)) == len(pairs)
