"""What judgements say about candidates beyond similarity and rank, as a function of the query's vector.

With anchored scores s_j (perank.model.anchors) and what is known of a question already, t, a candidate's score is

    s_j + llm * (t + f(q)) . e_j,

where f is a two-layer MLP that begins at 0 and is trained so that the softmax over a question's candidates finds the
relevant ones, less `penalty` times |llm * f(q)|^2, which keeps it small where judgements don't ask for it. It becomes
part of what a reader is taught: an LLM whose prompt has a slot for the query's vector learns it along with the words.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import torch
from torch import Tensor, nn

from perank.errors import BadInput, check_least
from perank.model import Anchors, AnchorSettings, Origin
from perank.preparation.fingerprint import questions_digest


@dataclass(frozen=True, slots=True)
class JudgedLists:
    """Questions' vectors q and t [R, E], their candidates' [R, N, E] in the first stage's order, relevance [R, N].

    Questions are drawn in proportion to `weight_R`.
    """

    queries_RE: Tensor
    known_RE: Tensor
    vectors_RNE: Tensor
    relevant_RN: Tensor
    weight_R: Tensor


@dataclass(frozen=True, kw_only=True)
class JudgedMapSettings:
    """How f is trained: `steps` of `batch` questions of the collection `questions`, with `depth` candidates each.

    `anchors` are those of the scores, `hidden` is f's inner width. Questions of a part of a union are drawn `weights`
    times as often as others. Raises `BadInput` for values out of range.
    """

    anchors: AnchorSettings
    questions: Any
    depth: int = 20
    hidden: int = 512
    steps: int = 400
    batch: int = 1024
    lr: float = 1e-4
    penalty: float = 0.003
    weights: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        check_least("target.judged", 1, hidden=self.hidden, steps=self.steps, batch=self.batch)
        check_least("target.judged", 2, depth=self.depth)
        if wrong := [name for name, weight in self.weights.items() if not 0 < weight < math.inf]:
            problem = f"the weight is {self.weights[wrong[0]]}"
            raise BadInput(problem, remedy="use more than 0", id=f"target.judged.weights.{wrong[0]}")
        if not (0 < self.lr < math.inf and 0 <= self.penalty < math.inf and self.anchors.llm):
            problem = f"lr is {self.lr}, penalty {self.penalty}, anchors.llm {self.anchors.llm}"
            remedy = "use a learning rate above 0, a penalty of 0 or more, and a weight of the LLM's scores"
            raise BadInput(problem, remedy=remedy, id="target.judged")

    @property
    def identity(self) -> list[Any]:
        """All that f depends on besides vectors and candidates, as JSON values."""
        named = ("anchors", "questions", "weights")
        plain = {part.name: getattr(self, part.name) for part in fields(self) if part.name not in named}
        return [plain, asdict(self.anchors), dict(self.weights), questions_digest(self.questions)]

    def weight(self, question_id: str) -> float:
        """How often a question is drawn; ids of a union's questions begin with the part's name and a colon."""
        return self.weights.get(question_id.partition(":")[0], 1.0)


class JudgedMap(nn.Module):
    """f: [.., E] -> [.., E], in units of `llm` times a cosine."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(width, hidden), nn.Linear(hidden, width)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, queries_QE: Tensor) -> Tensor:
        """Map unit vectors, scaled to entries of about 1 first."""
        scaled_QE = queries_QE * math.sqrt(queries_QE.shape[-1])
        moved: Tensor = self.outer(nn.functional.gelu(self.inner(scaled_QE)))
        return moved


def judged_map(lists: JudgedLists, settings: JudgedMapSettings) -> JudgedMap:
    """Train f on the lists; `llm` times its output is in units of scores."""
    llm = settings.anchors.llm
    anchored_RN = _anchored(lists, settings.anchors)
    anchored_RN += llm * torch.einsum("rne,re->rn", lists.vectors_RNE, lists.known_RE)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        moved = JudgedMap(lists.queries_RE.shape[1], settings.hidden)
    optimizer = torch.optim.Adam(moved.parameters(), lr=settings.lr)
    draw = torch.Generator().manual_seed(settings.seed)
    for _ in range(settings.steps):
        chosen_B = torch.multinomial(lists.weight_R, settings.batch, replacement=True, generator=draw)
        part_BE = llm * moved(lists.queries_RE[chosen_B])
        scores_BN = anchored_RN[chosen_B] + torch.einsum("bne,be->bn", lists.vectors_RNE[chosen_B], part_BE)
        relevant_BN = lists.relevant_RN[chosen_B].float()
        likelihood_B = (scores_BN.log_softmax(1) * relevant_BN).sum(1) / relevant_BN.sum(1)
        loss = settings.penalty * part_BE.square().sum(1).mean() - likelihood_B.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return moved.requires_grad_(False)


@torch.no_grad()
def _anchored(lists: JudgedLists, anchors: AnchorSettings) -> Tensor:
    """The anchors' scores before the first rank, [R, N]."""
    ranks_RN = torch.arange(lists.vectors_RNE.shape[1]).expand(len(lists.vectors_RNE), -1)
    rows = zip(lists.vectors_RNE, ranks_RN, lists.queries_RE, strict=True)
    origin = Origin(ranks_RN, torch.stack([anchors.first_sum(*row) for row in rows])[:, None])
    return Anchors(anchors).score(lists.vectors_RNE, lists.queries_RE, origin)[:, 0]
