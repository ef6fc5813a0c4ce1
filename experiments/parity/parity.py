"""Parity with the authors' code: quantity, their value, ours, difference. Running it prints and writes the table.

Their values were made by running their code on random weights; ours come from perank reading the same folder. A row
about ids or rankings counts the positions that differ; a row about an array shows the entry that differs most.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from reference import Reference
from table import EXACT, Line, array, norm, same, value, write
from torch import Tensor

from perank.files import shared_dir
from perank.model.losses import RankLoss, log_probabilities, reconstruction, remaining
from perank.model.prompts import Prompt
from perank.ranking.windows import Windows

PRESETS = {
    "reference": RankLoss(reduction="mean", kl_reduction="sum", direction="content_embeddings"),
    "paper": RankLoss(reduction="sum", kl_reduction="sum", direction="embeddings_content"),
}


def gradient_norms(parameters: Iterable[tuple[str, torch.nn.Parameter]]) -> dict[str, float]:
    return {name: float(p.grad.norm()) for name, p in parameters if p.grad is not None}


def stage_one(ref: Reference) -> Iterator[Line]:
    """Ids, loss and gradients of every alignment row, and the loss of a batch."""
    rows, expected = ref.alignment, ref.expected["stage1"]
    for number, (row, theirs) in enumerate(zip(rows, expected["rows"], strict=True)):
        case = f"stage 1 row {number}"
        prompt, answer = ref.align_sequence(row)
        yield same(case, "token ids", theirs["input_ids"], [*ref.with_placeholders(prompt), *answer])
        labels = [*([-100] * len(prompt)), *answer]
        yield same(case, "labels", theirs["labels"], labels)
        loss = align_loss(ref, [number])
        yield value(case, "", "reconstruction loss", theirs["loss"], float(loss.detach()))
        ref.model.zero_grad()
        loss.backward()
        ours = gradient_norms(ref.model.projector.named_parameters())
        for name, theirs_norm in theirs["projector_grad_norms"].items():
            yield norm(case, "", f"gradient norm projector.{name}", theirs_norm, ours[name])
    yield value(
        "stage 1 rows 0 and 1",
        "",
        "reconstruction loss",
        expected["batch_rows_0_1_loss"],
        float(align_loss(ref, [0, 1]).detach()),
    )


def align_loss(ref: Reference, numbers: Sequence[int]) -> Tensor:
    batch = ref.align_batch([ref.alignment[number] for number in numbers])
    logits_BLV = ref.model.token_logits(batch)
    return reconstruction(logits_BLV[:, :-1], batch.targets_BL[:, 1:])


def rank_terms(ref: Reference, number: int, preset: str) -> dict[str, Tensor]:
    """The loss terms of one ranking row, with their graph."""
    batch = ref.rank_batch([ref.ranking[number]])
    return PRESETS[preset](
        ref.model.step_scores(batch),
        ref.model.step_scores(batch, with_content=True),
        batch.order_BK,
        batch.candidates_BN,
    )


def stage_two(ref: Reference) -> Iterator[Line]:
    """Ids, step scores and probabilities, losses in both presets, gradients of the reference preset."""
    for number, theirs in enumerate(ref.expected["stage2"]["rows"]):
        case = f"stage 2 row {number}"
        yield from step_lines(ref, number, theirs, case)
        yield from loss_lines(ref, number, theirs, case)
        yield from gradient_lines(ref, number, theirs, case)


def step_lines(ref: Reference, number: int, theirs: dict, case: str) -> Iterator[Line]:
    batch = ref.rank_batch([ref.ranking[number]])
    n = theirs["n"]
    for kind, ids, prompt, with_content in (
        ("without texts", "wo_content", batch.prompt, False),
        ("with texts", "w_content", batch.content, True),
    ):
        ours = ref.with_placeholders(Prompt(tuple(prompt.ids_BL[0].tolist()), tuple(prompt.slots_BN[0].tolist())))
        expected = theirs[f"{ids}_input_ids"]
        yield same(case, f"prompt ids {kind}", expected[: -n - 1], ours)  # then come n <RANK> and </s>
        with torch.inference_mode():
            scores_BKN = ref.model.step_scores(batch, with_content=with_content)
        if not with_content and "raw_logits_wo_content" in theirs:
            yield array(case, "step scores", theirs["raw_logits_wo_content"], scores_BKN[0])
        logp_BKN = log_probabilities(scores_BKN, remaining(batch.order_BK, batch.candidates_BN))
        steps = theirs.get(f"per_step_{ids}", [])
        if not steps:
            continue
        ours_flat = torch.cat([logp_BKN[0, i, step["remaining"]] for i, step in enumerate(steps)])
        flat = [value for step in steps for value in step["log_probs"]]
        yield array(case, f"log probabilities {kind}", flat, ours_flat)


def loss_lines(ref: Reference, number: int, theirs: dict, case: str) -> Iterator[Line]:
    reference, sums = theirs["reference"], theirs["plain_sums"]
    sum_kl = next(v for k, v in sums.items() if k.startswith("KL_rank_to_content"))
    expected = {
        "reference": (reference["L_rank"], reference["L_content"], reference["KL"], reference["total"]),
        "paper": (
            sums["L_rank"],
            sums["L_content"],
            sum_kl,
            sums["L_rank"] + sums["L_content"] + 0.2 * sum_kl,
        ),
    }
    for preset, values in expected.items():
        with torch.inference_mode():
            ours = rank_terms(ref, number, preset)
        for quantity, name, authors in zip(
            ("L_rank", "L_content", "KL", "total"), ("rank", "content", "kl", "loss"), values, strict=True
        ):
            yield value(case, preset, quantity, authors, float(ours[name]))


def gradient_lines(ref: Reference, number: int, theirs: dict, case: str) -> Iterator[Line]:
    reference = theirs["reference"]
    ref.model.zero_grad()
    rank_terms(ref, number, "reference")["loss"].backward()
    ours = gradient_norms(ref.model.projector.named_parameters())
    for name, authors in reference["projector_grad_norms"].items():
        yield norm(case, "reference", f"gradient norm projector.{name}", authors, ours[name])
    total = sum(v**2 for v in ours.values()) ** 0.5
    yield norm(case, "reference", "gradient norm projector", reference["projector_grad_norm_total"], total)
    tokens = float(ref.model.llm.get_input_embeddings().weight.grad.norm())
    yield norm(case, "reference", "gradient norm embed_tokens", reference["lm_grad_norm_embed_tokens"], tokens)


def batches_of_two(ref: Reference) -> Iterator[Line]:
    """How a batch is reduced: the same row twice, the second time with another ranking."""
    for number, row in enumerate(ref.expected["stage2"]["rows"]):
        if (theirs := row.get("batch_of_two")) is None:
            continue
        first = ref.ranking[number]
        second = type(first)(first.user, first.user_with_texts, first.passages, tuple(theirs["second_row_ranking"]))
        ours = {}
        for name, rows in (("batch", [first, second]), ("second_row", [second])):
            batch = ref.rank_batch(rows)
            with torch.inference_mode():
                scores = [ref.model.step_scores(batch, with_content=texts) for texts in (False, True)]
            ours[name] = PRESETS["reference"](*scores, batch.order_BK, batch.candidates_BN)
        for name, terms in ours.items():
            case = f"stage 2 row {number}, {name.replace('_', ' ')} of two"
            yield value(case, "reference", "KL", theirs[f"{name}_KL"], float(terms["kl"]))
            yield value(case, "reference", "total", theirs[f"{name}_total"], float(terms["loss"]))


def decoding(ref: Reference) -> Iterator[Line]:
    """Prompt ids, projected embeddings, teacher-forced scores and greedy rankings, encoder texts cut at 512 tokens."""
    for number, theirs in enumerate(ref.decoded["cases"]):
        case = f"decoding case {number} (n = {theirs['n']})"
        if "prompt_ids" not in theirs:
            continue
        prompt = ref.prompts.rank(theirs["query"], theirs["n"])
        vectors_NE = ref.encode(theirs["passages"], 512)
        yield same(case, "prompt ids", theirs["prompt_ids"], ref.with_placeholders(prompt))
        if "projected_embeddings" in theirs:
            with torch.inference_mode():
                yield array(case, "projected embeddings", theirs["projected_embeddings"], ref.model.project(vectors_NE))
            scores_KN = ref.scores_after(prompt, vectors_NE, theirs["permutation"][:-1])
            yield array(case, "step scores", theirs["step_logits_teacher_forced"], scores_KN)
        yield same(case, "ranking", theirs["permutation"], ref.greedy(prompt, vectors_NE))
    variant = ref.decoded["with_content_variant"]
    theirs = ref.decoded["cases"][variant["case"]]
    prompt = ref.prompts.rank_with_text(theirs["query"], theirs["passages"])
    case = f"decoding case {variant['case']} with texts"
    yield same(case, "prompt ids", variant["prompt_ids"], ref.with_placeholders(prompt))
    yield same(case, "ranking", variant["permutation"], ref.greedy(prompt, ref.encode(theirs["passages"], 512)))


def sliding_windows(ref: Reference, window: int = 20, step: int = 10, largest: int = 100) -> Iterator[Line]:
    """Windows of 20 in steps of 10, from the back, over every case of at most `largest` passages."""
    for number, case in enumerate(ref.decoded["cases"]):
        if (theirs := case.get("sliding_window_20_10")) is None or case["n"] > largest:
            continue
        name = f"decoding case {number} (n = {case['n']}), windows {window}/{step}"
        vectors_NE = ref.encode(case["passages"], 512)
        order, n_windows, end = list(range(case["n"])), 0, case["n"]
        while True:
            start = max(0, end - window)
            inside = order[start:end]
            found = ref.greedy(ref.prompts.rank(case["query"], len(inside)), vectors_NE[inside])
            yield same(name, f"window {n_windows} input", theirs["windows"][n_windows]["input_order"], inside)
            yield same(name, f"window {n_windows} ranking", theirs["windows"][n_windows]["permutation"], found)
            order[start:end] = [inside[i] for i in found]
            n_windows += 1
            if start == 0:
                break
            end -= step
        yield value(name, "", "windows", len(theirs["windows"]), n_windows, EXACT)
        yield same(name, "ranking", theirs["final_order"], order)


def reranker(ref: Reference) -> Iterator[Line]:
    """The same rankings from what users import, with both exact decoders."""
    for number, case in enumerate(ref.decoded["cases"]):
        for decoder in ("constrained", "speculative"):
            for windows, authors in (
                (Windows(case["n"], case["n"]), case.get("permutation")),
                (Windows(20, 10), case.get("sliding_window_20_10", {}).get("final_order")),
            ):
                if authors is not None:
                    name = f"decoding case {number} (n = {case['n']}), windows {windows.window}/{windows.step}"
                    found = ref.reranker(windows, decoder).rank(case["query"], case["passages"]).order
                    yield same(name, f"ranking, Reranker ({decoder})", authors, found)


def parity(ref: Reference) -> Iterator[Line]:
    """The whole table."""
    for part in (stage_one, stage_two, batches_of_two, decoding, sliding_windows, reranker):
        yield from part(ref)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fixtures", type=Path, default=shared_dir() / "fixtures" / "pe_rank")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "parity.csv")
    arguments = parser.parse_args()
    lines = list(parity(Reference(arguments.fixtures)))
    for line in lines:
        print(
            f"{line.case:38} {line.preset:10} {line.quantity:34} {line.authors:>12.7g} {line.ours:>12.7g} "
            f"{line.difference:>9.2g} {'' if line.holds else 'DIFFERS'}"
        )
    write(arguments.output, lines)
    print(f"{sum(line.holds for line in lines)} of {len(lines)} quantities agree; table in {arguments.output}")


if __name__ == "__main__":
    main()
