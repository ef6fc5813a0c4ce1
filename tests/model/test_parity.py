"""Parity with the authors' code on shared random weights, and where theirs is a defect, what perank does instead.

The quantities come from experiments/parity, which prints the same lines as a table.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from perank.model.encoders.encoder import Encoder
from perank.model.losses import reconstruction
from perank.preparation.authors_jsonl import slotted
from perank.ranking.windows import Windows
from support.sliding import slide

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments" / "parity"))
from parity import (
    batches_of_two,
    decoding,
    rank_terms,
    reranker,
    sliding_windows,
    stage_one,
    stage_two,
)
from reference import Reference
from table import Line


@pytest.fixture(scope="module")
def ref(shared: Path) -> Reference:
    return Reference(shared / "fixtures" / "pe_rank")


@pytest.fixture(scope="module")
def ranked(ref: Reference) -> list[Line]:
    return list(stage_two(ref))


def agree(lines: Iterable[Line], *quantities: str) -> int:
    """How many of the lines are about these quantities; every one of them must hold."""
    chosen = [line for line in lines if line.quantity.startswith(quantities)]
    assert [line for line in chosen if not line.holds] == []
    return len(chosen)


def test_alignment_rows_have_the_authors_ids_labels_losses_and_gradients(ref: Reference) -> None:
    assert agree(stage_one(ref), "token ids", "labels", "reconstruction loss", "gradient norm") > 0


def test_ranking_prompts_have_the_authors_ids(ranked: list[Line]) -> None:
    assert agree(ranked, "prompt ids") > 0


def test_step_scores_and_probabilities_are_the_authors(ranked: list[Line]) -> None:
    assert agree(ranked, "step scores", "log probabilities") > 0


@pytest.mark.parametrize("preset", ["reference", "paper"])
def test_losses_are_the_authors_as_coded_and_the_papers_as_printed(ranked: list[Line], preset: str) -> None:
    chosen = [line for line in ranked if line.preset == preset]
    assert agree(chosen, "L_rank", "L_content", "KL", "total") > 0


def test_gradient_norms_of_the_whole_loss_are_the_authors(ranked: list[Line]) -> None:
    assert agree(ranked, "gradient norm") > 0


def test_the_vocabulary_head_gets_no_gradient_from_ranking(ref: Reference) -> None:
    ref.model.zero_grad()
    rank_terms(ref, 0, "reference")["loss"].backward()
    assert ref.expected["stage2"]["rows"][0]["reference"]["lm_head_grad_is_none"]
    assert ref.model.llm.get_output_embeddings().weight.grad is None


def test_a_batch_is_reduced_as_the_authors_reduce_it(ref: Reference) -> None:
    assert agree(batches_of_two(ref), "KL", "total") > 0


def test_decoding_gives_the_authors_ids_vectors_scores_and_rankings(ref: Reference) -> None:
    assert agree(decoding(ref), "prompt ids", "projected embeddings", "step scores", "ranking") > 0


def test_windows_of_20_in_steps_of_10_give_the_authors_windows_and_rankings(ref: Reference) -> None:
    assert agree(sliding_windows(ref, largest=50), "window", "ranking") > 0


def test_the_reranker_gives_the_authors_rankings_with_both_exact_decoders(ref: Reference) -> None:
    assert agree(reranker(ref), "ranking") > 0


def test_identical_passages_are_ranked_as_theirs_up_to_swaps_within_the_pairs(ref: Reference) -> None:
    case = ref.decoded["tie_case"]
    twin = {b: a for a, b in case["identical_pairs"]}
    expected = [twin.get(i, i) for i in case["permutation"]]
    for decoder in ("constrained", "speculative"):
        found = ref.reranker(Windows(), decoder).rank(case["query"], case["passages"]).order
        assert [twin.get(i, i) for i in found] == expected


# Where theirs is a defect


def test_rows_with_different_numbers_of_placeholders_share_a_batch_here(ref: Reference) -> None:
    assert "batch_rows_0_2_error_in_reference" in ref.expected["stage1"]
    batch = ref.align_batch([ref.alignment[0], ref.alignment[2]])
    with torch.inference_mode():
        loss = float(reconstruction(ref.model.token_logits(batch)[:, :-1], batch.targets_BL[:, 1:]))
    rows = [ref.expected["stage1"]["rows"][i] for i in (0, 2)]
    tokens = [row["n_target_tokens"] for row in rows]
    expected = sum(row["loss"] * n for row, n in zip(rows, tokens, strict=True)) / sum(tokens)
    assert loss == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("n", [9, 10, 11, 20, 21])
def test_every_number_of_candidates_is_ranked_where_theirs_leaves_n_equal_to_window_minus_step(
    ref: Reference, n: int
) -> None:
    theirs = ref.decoded["sliding_window_edge_cases_window20_step10"][str(n)]["order_with_a_reversing_ranker"]

    def reverse(positions: Any, depth: int) -> list[int]:
        return list(reversed(range(len(positions))))

    ours = slide(Windows(20, 10).plan(n), n, reverse)
    assert sorted(ours) == list(range(n))
    if n == 10:
        assert theirs == list(range(10))  # left as it came
        assert ours == list(reversed(range(10)))
    else:
        assert ours == theirs


def test_windows_above_127_keep_every_passage_where_theirs_stops_after_128_tokens(ref: Reference) -> None:
    case = ref.decoded["cases"][-1]
    passages = [*case["passages"], *(f"{number} {text}" for number, text in enumerate(case["passages"][:30]))]
    ranking = ref.reranker(Windows(130, 130), "constrained").rank(case["query"], passages)
    assert len(passages) == 130
    assert sorted(ranking.order) == list(range(130))
    assert ranking.bill.tokens_generated == 130


def test_one_text_length_serves_training_and_use_where_theirs_trains_on_other_vectors_than_it_uses(
    ref: Reference,
) -> None:
    differ = []
    for row in ref.ranking:
        trained, used = (ref.encode(row.passages, length) for length in (128, 512))
        if torch.allclose(trained, used, atol=1e-4):
            continue  # no passage of more than 128 tokens
        prompt = ref.prompts.chat(slotted(row.user))
        differ.append(ref.greedy(prompt, trained) != ref.greedy(prompt, used))
    assert any(differ)  # the same passages are ranked differently by the length alone
    # Here one number serves both, and a store of vectors made with another is another store.
    folder = str(ref.folder / "encoder")
    identities = [Encoder(folder, max_length=length).identity for length in (128, 512)]
    assert identities[0] != identities[1]
