"""RankMistral's rows: the same shuffles as PE-Rank's, answers in the teacher's order, prompts as in use."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from perank.baselines.permutation import permutation
from perank.errors import BadInput
from perank.model.batches import IGNORE
from perank.model.pe_rank import TextRanker
from perank.records import Query
from perank.training.listwise_data import ListwiseData, ListwiseSettings
from perank.training.rows import RankRow, shuffled
from perank.training.stream import row_at
from support import small_llms

FOUND = small_llms.candidates(20)
PASSAGES = {passage.id: passage for passage in FOUND.passages}
ROWS = [
    RankRow(Query(f"q{i}", "which otter holds hands"), tuple(f"p{i + j}" for j in range(4)), (2, 0, 3, 1))
    for i in range(6)
]


def data(rows: list[RankRow] = ROWS, max_length: int = 512) -> ListwiseData:
    settings = ListwiseSettings(text="text", batch_size=2)
    return ListwiseData(rows, PASSAGES, small_llms.prompts(max_length=max_length), settings)


def test_an_example_is_the_prompt_of_inference_and_the_teachers_order() -> None:
    made = data()
    for position in range(6):
        row, example = ROWS[row_at(position, 6, 0)], made.example(position)
        shown = [row.passage_ids[i] for i in shuffled(4, 0, position)]
        prompt = small_llms.prompts().rank(row.query.text, [PASSAGES[id].text for id in shown]).ids
        assert example.ids[: len(prompt)] == prompt
        answer = small_llms.tokenizer().decode(example.ids[len(prompt) :], skip_special_tokens=True)
        assert [shown[i] for i in permutation(answer, 4).order] == [row.passage_ids[i] for i in row.order]
        assert example.ids[-1] == small_llms.tokenizer().eos_token_id
        assert example.targets == (IGNORE,) * len(prompt) + example.ids[len(prompt) :]


def test_the_loss_of_a_batch_is_the_mean_over_its_answers_tokens() -> None:
    made, llm = data(), small_llms.llm(2, sure=False)
    examples = [
        made.example(0),
        made.example(1),
        replace(made.example(2), ids=(1, 5, 6, 7), targets=(-100, -100, 6, 7)),
    ]
    loss = TextRanker(llm.requires_grad_(False)).answer_loss(made.collate(examples))
    terms = []
    for example in examples:
        logits = llm(input_ids=torch.tensor([example.ids])).logits[0].float()
        for i, target in enumerate(example.targets):
            if target != IGNORE:
                terms.append(-logits[i - 1].log_softmax(0)[target])
    assert float(loss) == pytest.approx(float(torch.stack(terms).mean()), rel=1e-5)


def test_texts_give_way_to_the_answer() -> None:
    least = len(small_llms.prompts().rank(ROWS[0].query.text, [""] * 4).ids) + small_llms.prompts().answer_tokens(4) + 1
    made = data(max_length=least + 6)
    for position in range(6):
        assert len(made.example(position).ids) <= least + 6


def test_rows_that_cannot_be_shown_are_left_out_and_counted() -> None:
    odd = [RankRow(Query("one", "otter"), ("p1",), (0,)), RankRow(Query("long", "otter " * 600), ("p1", "p2"), (0, 1))]
    made = data([*ROWS, *odd])
    assert (made.rows, made.dropped) == (6, 2)
    with pytest.raises(BadInput, match="none of the 2 rows fits"):
        data(odd)


def test_a_passage_without_a_text_is_refused_by_id() -> None:
    with pytest.raises(BadInput, match="id 'lost': the collection has no text"):
        data([RankRow(Query("q", "otter"), ("p1", "lost"), (0, 1))]).example(0)
