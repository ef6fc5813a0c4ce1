"""The beginning of a query's prompts is read once, and nothing but the number of tokens shows it."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import pytest
import torch

from perank.model.pe_rank import PERank
from perank.model.prompts import Prompt, PromptBuilder
from perank.ranking.constrained import Constrained, SinglePass
from perank.ranking.decoder import Decoder
from perank.ranking.reranker import Reranker
from perank.ranking.shared_prefix import SharedPrefix
from perank.ranking.speculative import Speculative
from perank.ranking.static.decoder import Static
from perank.ranking.windows import Windows
from perank.records import Candidates, Passage, Query, Ranking
from support import tiny

BOTH = (False, True)
VERSIONS = ("paper", "reference", "compact")
DECODERS: dict[str, Callable[[], Decoder]] = {
    "constrained": Constrained,
    "speculative": Speculative,
    "single_pass": SinglePass,
    "static": lambda: Static(lean=False),
    "static, fused layers": lambda: Static(lean=True),
}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"attn_implementation": "eager"},
    "mistral": {"sliding_window": 2048},
    "qwen3": {"head_dim": 8},
    "gpt2": {"n_embd": 32, "n_head": 4, "n_layer": 2, "n_positions": 2048, "num_key_value_heads": 4},
    "gpt_neox": {"num_key_value_heads": 4},
    "gemma2": {"head_dim": 8, "sliding_window": 2048},
}


@lru_cache
def tokenizer() -> Any:
    """It knows numbers, so `{n}` ends what windows of other sizes share."""
    made = tiny.tiny_tokenizer()
    made.add_tokens([str(n) for n in range(1, 101)])
    return made


def prompts(version: str) -> PromptBuilder:
    return PromptBuilder(tokenizer(), version)


def model_of(family: str = "llama", **options: Any) -> PERank:
    llm = tiny.llm_of(family, len(tokenizer()), **{"initializer_range": 0.3} | options)
    return PERank(llm, tiny.tiny_model().projector).double().requires_grad_(False)


class Store:
    """A vector for each id."""

    def get(self, ids: Any) -> Any:
        return torch.stack([tiny.unit_vectors(8, seed=int(id)) for id in ids]).numpy()


def asked(sizes: list[int], seed: int = 0) -> list[Candidates]:
    draw = random.Random(seed)
    queries = [" ".join(draw.choices(tiny.WORDS, k=draw.randint(1, 12))) for _ in sizes]
    ids = [[str(1000 * number + i + seed) for i in range(n)] for number, n in enumerate(sizes)]
    return [
        Candidates(Query(str(number), text), tuple(Passage(id, "") for id in ids[number]))
        for number, text in enumerate(queries)
    ]


def reranker(model: PERank, version: str, share: bool | None, decoder: Decoder, **options: Any) -> Reranker:
    return Reranker(model, prompts(version), None, store=Store(), share_prefix=share, decoder=decoder, **options)


def agree(shared: list[Ranking], whole: list[Ranking], rounding: float = 1e-9) -> None:
    for one, other in zip(shared, whole, strict=True):
        assert one.order == other.order
        assert one.raw == pytest.approx(other.raw, rel=rounding, abs=rounding)
        assert one.bill.tokens_generated == other.bill.tokens_generated


def compare(draw: random.Random, batches: list[int], version: str, name: str) -> int:
    """Rank batches of random sizes in both ways; return the number of windows."""
    model, windows, decoder = model_of(seed=draw.randint(0, 9)), 0, DECODERS[name]()
    for batch in batches:
        sizes = [round(2 * 50 ** draw.random()) for _ in range(batch)]
        slide = draw.choice([Windows(20, 10), Windows(20, 10, cutoff=10), Windows(7, 3), Windows(40, 20)])
        budget = draw.choice([None, 100_000])
        candidates = asked(sizes, draw.randrange(10_000))
        oracle = decoder if isinstance(decoder, SinglePass) else Constrained()
        whole = reranker(model, version, False, oracle, windows=slide, batch_tokens=budget).rank_batch(candidates)
        shared = reranker(model, version, True, decoder, windows=slide, batch_tokens=budget).rank_batch(candidates)
        agree(shared, whole)
        windows += sum(len(slide.plan(size)) for size in sizes)
    return windows


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("version", VERSIONS)
def test_rankings_and_scores_are_those_of_whole_prompts(version: str, name: str) -> None:
    compare(random.Random(f"{version} {name}"), [1, 3], version, name)


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_no_ranking_of_many_differs(version: str) -> None:
    draw = random.Random(version)
    for name in DECODERS:
        windows = compare(draw, draw.sample([1] * 16 + [3] * 8 + [16] * 3, 27), version, name)
        print(f"{version}, {name}: {windows} windows, none differs")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_of_llms_ranks_alike(family: str) -> None:
    model, candidates = model_of(family, **FAMILIES[family]), asked([25, 12, 3])
    whole = reranker(model, "paper", False, Constrained(), windows=Windows(7, 3)).rank_batch(candidates)
    for decoder in (Constrained(), Speculative(), Static()):
        shared = reranker(model, "paper", True, decoder, windows=Windows(7, 3)).rank_batch(candidates)
        agree(shared, whole, 1e-5 if "attn_implementation" in FAMILIES[family] else 1e-9)  # eager: softmax in fp32


@pytest.mark.parametrize("decoder", [Constrained(), Speculative()])
@pytest.mark.parametrize("sizes", [[40], [18]])
def test_bills_count_what_the_llm_reads(decoder: Decoder, sizes: list[int]) -> None:
    model, candidates, read = model_of(), asked(sizes), []

    def count(module: Any, args: Any, options: dict[str, Any]) -> None:
        read.append(options["inputs_embeds"].shape[:2].numel())

    model.decoder.register_forward_pre_hook(count, with_kwargs=True)
    bills = {}
    for share in BOTH:
        read.clear()
        ranking = reranker(model, "paper", share, decoder, windows=Windows(10, 5)).rank_batch(candidates)[0]
        assert ranking.bill.tokens_processed == sum(read)
        assert ranking.bill.forwards == len(read)
        bills[share] = ranking.bill
    text, spans = candidates[0].query.text, Windows(10, 5).plan(sizes[0])
    first, *later = [prompts("paper").rank(text, span.size) for span in spans]
    saved = [common(first, prompt) for prompt in later]
    assert bills[False].tokens_processed - bills[True].tokens_processed == sum(saved) > 0


def common(one: Prompt, other: Prompt) -> int:
    """The longest common prefix without slots."""
    length = 0
    while one.ids[: length + 1] == other.ids[: length + 1] and length < min(one.slots[0], other.slots[0]):
        length += 1
    return length


@pytest.mark.parametrize("name", ["speculative", "static"])
def test_queries_that_join_and_leave_between_windows_rank_alike(name: str) -> None:
    model, candidates = model_of(), asked([31, 14, 25, 9, 40])
    options: dict[str, Any] = {"windows": Windows(7, 3), "batch_tokens": 100_000}
    whole = reranker(model, "reference", False, Constrained(), **options).rank_batch(candidates)
    ours = reranker(model, "reference", True, DECODERS[name](), **options)
    queries = []
    for one in candidates:
        queries.append(ours.begin(one))
        ours.advance(queries)
    while any(query.spans for query in queries):
        ours.advance(queries)
    agree([query.ranking() for query in queries], whole)
    assert all(query.prefix is None for query in queries)


def test_it_is_the_default_where_the_beginning_is_a_tenth_of_a_prompt() -> None:
    model, candidates = model_of(), asked([30])
    for version in VERSIONS:
        tokens = {
            share: reranker(model, version, share, Speculative(), windows=Windows(7, 3)).rank_batch(candidates)
            for share in (None, False, True)
        }
        chosen = tokens[version != "compact"]
        assert tokens[None][0].bill.tokens_processed == chosen[0].bill.tokens_processed
        assert tokens[True][0].bill.tokens_processed < tokens[False][0].bill.tokens_processed


def test_only_so_many_queries_hold_keys_and_values_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perank.ranking.reranker.MOST", 1)
    ranked = {share: reranker(model_of(), "paper", share, Speculative(4)).rank_batch(asked([30] * 3)) for share in BOTH}
    agree(ranked[True], ranked[False])
    pairs = zip(ranked[True], ranked[False], strict=True)
    fewer = [one.bill.tokens_processed < other.bill.tokens_processed for one, other in pairs]
    assert fewer == [True, False, False]


def test_a_prefix_ends_before_the_first_slot_and_where_prompts_part() -> None:
    first, other = Prompt((5, 6, 7, 0, 8, 0, 9), (3, 5)), Prompt((5, 6, 1, 0, 8), (3,))
    prefix = SharedPrefix.of(first, 0.0)
    assert prefix is not None
    assert prefix.ids == (5, 6, 7)
    assert prefix.known(first) is None
    prefix.kv_JP2HW = torch.zeros(1, 3, 2, 1, 1)
    for prompt, known in ((first, 3), (other, 2), (Prompt((5, 0, 7, 0), (1,)), 1), (Prompt((5, 6, 7, 0), (3,), 1), 1)):
        found = prefix.known(prompt)
        assert found is not None
        assert found.shape[1] == known
    assert prefix.known(Prompt((0, 6, 7), (0,))) is None
    assert SharedPrefix.of(Prompt((0, 6, 7), (0,)), 0.0) is None
    assert SharedPrefix.of(first, 0.5) is None


def test_a_query_tokenises_each_of_its_prompts_once() -> None:
    class Counting(PromptBuilder):
        def rank(self, query: str, n: int) -> Prompt:
            built.append((query, n))
            return super().rank(query, n)

    builder, built = Counting(tokenizer(), "compact"), list[tuple[str, int]]()
    ours = Reranker(model_of(), builder, None, store=Store(), windows=Windows(7, 3))
    query = ours.begin(asked([26])[0])
    while query.spans:
        ours.advance([query])
    assert sorted(n for _, n in built) == [5, 7]
