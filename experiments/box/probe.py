"""How much of a query's vector can be read off the untrained LLM, and where?

    python experiments/box/probe.py [training queries] [dev queries]

PE-Rank's score wants the last hidden state to be a linear image of the encoder's query vector. Here that linear map is
fitted (ridge regression on training queries) from several places: the last state, with and without passages in the
prompt; the mean state over the prompt, layer by layer; and the bag of the query's tokens. Each then ranks BM25's top 20
of dev queries in the encoder's stead. Writes probe.csv beside this file. Some 5 minutes on two cores.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from rich.console import Console
from torch import Tensor
from tqdm import tqdm

from perank.app.assembly import Assembly
from perank.app.settings import instantiate
from perank.evaluation.evaluator import evaluate_ranker
from perank.evaluation.result import Evaluation
from perank.evaluation.suites import Suite
from perank.files import CONF_DIR
from perank.model.batches import PromptBatch
from perank.model.projector import ridge
from perank.records import Candidates, Ranking, Vectors
from perank.reporting.rows import ResultRow, rows_from, write_results_csv
from perank.reporting.tables import render_table
from perank.retrieval.encoding import QueryVectors

HERE = Path(__file__).resolve().parent
SAMPLE = ["collection=pydocs_sentences", "collection.each=100"]
SETTINGS = ["+experiment=rank", *SAMPLE, "backbone.lora=null", "projector.init=isometry"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where to look: `features` gives [Q, F] of query texts, `strength` is the ridge's."""

    name: str
    features: Callable[[tuple[str, ...]], Tensor]
    strength: float = 1e-2
    standardised: bool = True


class Predicted:
    """Query vectors by id, foretold by a linear map."""

    def __init__(self, vectors: dict[str, np.ndarray]) -> None:
        self.vectors = vectors

    def get(self, ids: Sequence[str]) -> np.ndarray:
        return np.stack([self.vectors[id] for id in ids])


@dataclass(frozen=True)
class ByVectors:
    """Ranks by the inner products of known vectors; equal scores by passage id."""

    queries: Vectors
    passages: Vectors

    def rank_batch(self, batch: Sequence[Candidates]) -> list[Ranking]:
        return [self._rank(candidates) for candidates in batch]

    def _rank(self, candidates: Candidates) -> Ranking:
        ids = [passage.id for passage in candidates.passages]
        scores = self.passages.get(ids) @ self.queries.get([candidates.query.id])[0]
        return Ranking(candidates, tuple(sorted(range(len(ids)), key=lambda i: (-scores[i], ids[i]))))


def main() -> None:
    """Fit every map on the same queries, evaluate each on the same dev queries."""
    count, asked = (int(given) for given in [*sys.argv[1:], *("8000", "400")[len(sys.argv) - 1 :]])
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        config = compose("train", overrides=SETTINGS)
    settings = config.suite.pydocs
    settings.collection.split, settings.max_queries = "dev", asked
    parts, suite = Assembly(config), instantiate(settings)
    ids = random.Random(0).sample(sorted(parts.collection.queries), count)
    systems = list(parts.suites.baselines(suite))
    for place in places(parts):
        systems.append(evaluated(parts, suite, ids, place))
        Console().print(f"{place.name}: {systems[-1].means['ndcg@10']:.4f}")
    rows: list[ResultRow] = []
    for system in systems:
        rows += rows_from(system, against=systems[:2], study="box probe", scale="embedded")
    write_results_csv(HERE / "probe.csv", rows)
    Console(width=120).print(render_table(rows, title=f"linear maps from the untrained LLM, {count} training queries"))


def places(parts: Assembly) -> list[Place]:
    """The last state is what a score is made of; the others say what it might hold."""
    last = parts.llm.num_layers
    alone, among = (cache(partial(_states, parts, shown)) for shown in (0, 20))
    return [
        Place("last state, 20 passages in the prompt", lambda texts: among(texts)[:, -1]),
        Place("last state, no passages in the prompt", lambda texts: alone(texts)[:, -1]),
        Place(f"mean over tokens, layer {last}", lambda texts: alone(texts)[:, last]),
        Place("mean over tokens, their embeddings", lambda texts: alone(texts)[:, 0]),
        Place(f"means over tokens, embeddings and all {last} layers", lambda texts: alone(texts)[:, :-1].flatten(1)),
        Place("bag of tokens, a vector each", partial(_bag, parts), strength=0.5, standardised=False),
    ]


@torch.no_grad()
def _states(parts: Assembly, shown: int, texts: tuple[str, ...]) -> Tensor:
    """[Q, layers + 2, D]: the mean over the prompt of every layer's states, then the last state of the last layer."""
    vectors_XE = torch.from_numpy(parts.store.get(list(parts.collection.passages)))
    generator = torch.Generator().manual_seed(0)
    found: list[Tensor] = [torch.empty(0)] * len(texts)
    by_length = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    for start in tqdm(range(0, len(texts), 64), desc=f"{shown} passages", unit="batch"):
        rows = by_length[start : start + 64]
        prompt = PromptBatch.of([parts.prompts.rank(texts[i], shown) for i in rows])
        embedded_BLD = parts.model.llm.get_input_embeddings()(prompt.ids_BL)
        if shown:
            drawn_BN = torch.randint(len(vectors_XE), (len(rows), shown), generator=generator)
            embedded_BLD = parts.model.embed(prompt, parts.model.project(vectors_XE[drawn_BN]))
        output = parts.model.decoder(inputs_embeds=embedded_BLD, use_cache=False, output_hidden_states=True)
        for b, i in enumerate(rows):
            length = int(prompt.length_B[b])
            means = [layer_BLD[b, :length].mean(0) for layer_BLD in output.hidden_states]
            found[i] = torch.stack([*means, output.last_hidden_state[b, length - 1]])
    return torch.stack(found)


def _bag(parts: Assembly, texts: tuple[str, ...]) -> Tensor:
    """[Q, V]: how often each token of the vocabulary occurs, over the root of the query's length."""
    vocabulary = len(parts.prompts.tokenizer)
    bags = torch.zeros(len(texts), vocabulary)
    for row, ids in enumerate(parts.prompts.tokenizer(list(texts), add_special_tokens=False)["input_ids"]):
        bags[row] = torch.bincount(torch.tensor(ids), minlength=vocabulary) / len(ids) ** 0.5
    return bags


def evaluated(parts: Assembly, suite: Suite, ids: list[str], place: Place) -> Evaluation:
    """NDCG@10 of ranking by the vectors that a linear map from the place's features foretells."""
    asked = suite.query_ids
    known_QF = place.features(tuple(parts.collection.queries[id].text for id in ids))
    new_QF = place.features(tuple(suite.collection.queries[id].text for id in asked))
    mean_F, deviation_F = known_QF.mean(0), known_QF.std(0)
    used_F = deviation_F > 0  # of a token that no training query has there is nothing to learn
    scale_F = deviation_F[used_F] if place.standardised else torch.ones(int(used_F.sum()))
    known_QF, new_QF = (((x_QF - mean_F)[:, used_F] / scale_F).double() for x_QF in (known_QF, new_QF))
    chosen = {id: parts.collection.queries[id] for id in ids}
    targets_QE = torch.from_numpy(QueryVectors(chosen, parts.encoder).get(ids)).double()
    mean_E = targets_QE.mean(0)
    map_FE = ridge(known_QF, targets_QE - mean_E, strength=place.strength)
    foretold = Predicted(dict(zip(asked, (new_QF @ map_FE + mean_E).float().numpy(), strict=True)))
    ranker = ByVectors(foretold, parts.suites.candidate_store(suite))
    return evaluate_ranker(ranker, suite, system=place.name, batch_size=64, progress=False)


if __name__ == "__main__":
    main()
