"""RankGPT: a chat model behind an API ranks one window at a time by writing `[2] > [1] > ...`.

Windows of a query run in sequence; queries run concurrently, up to the client's limit. Every answer is parsed into a
full permutation; the bill includes repairs and dollars.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from operator import attrgetter

from perank.baselines.chat_api import ChatApi, Message, Reply, Session, TooLong
from perank.baselines.permutation import permutation
from perank.errors import BadInput
from perank.model import round_brackets
from perank.ranking.windows import SlidingQuery, Windows
from perank.records import Bill, Candidates, Passage, Ranking

_SYSTEM = "You are RankGPT, an intelligent assistant that can rank passages based on their relevancy to the query."
_OFFER = (
    "I will provide you with {n} passages, each indicated by number identifier []. \n"
    "Rank the passages based on their relevance to query: {query}."
)
_TASK = (
    "Search Query: {query}. \nRank the {n} passages above based on their relevance to the search query. The passages "
    "should be listed in descending order using identifiers. The most relevant passages should be listed first. The "
    "output format should be [] > [], e.g., [1] > [2]. Only response the ranking results, do not say any word or "
    "explain."
)


class RankGPT:
    """A `Ranker`. Texts are truncated to `words` words, and to fewer if the endpoint reports that a prompt is too long.

    `view` gives a passage's text. On the bill, a window is one forward, tokens are the endpoint's counts, and seconds
    those of the original request, even if the answer is cached; dollars are what was paid now.
    """

    def __init__(
        self,
        api: ChatApi,
        *,
        windows: Windows | None = None,
        view: Callable[[Passage], str] = attrgetter("contents"),
        words: int = 300,
    ) -> None:
        self.api, self.windows, self.view, self.words = api, windows or Windows(), view, words

    def rank_batch(self, batch: Sequence[Candidates]) -> list[Ranking]:
        """Return one ranking per element of `batch`, in its order. Raises what `Session.complete` raises."""
        queries = [SlidingQuery(candidates, self.windows) for candidates in batch]
        try:
            asyncio.run(self._rank_all(queries))
        except ExceptionGroup as group:  # the first failure stopped the others
            raise next((e for e in group.exceptions if isinstance(e, BadInput)), group.exceptions[0]) from None
        return [query.ranking() for query in queries]

    async def _rank_all(self, queries: Sequence[SlidingQuery]) -> None:
        async with self.api.session() as session, asyncio.TaskGroup() as group:
            for query in queries:
                group.create_task(self._rank(session, query))

    async def _rank(self, session: Session, query: SlidingQuery) -> None:
        while query.spans:
            texts = [round_brackets(self.view(passage)) for passage in query.passages]
            reply, shortened = await self._answer(session, query.text, texts)
            found = permutation(reply.text, len(texts))
            bill = Bill(
                forwards=1,
                tokens_processed=reply.prompt_tokens,
                tokens_generated=reply.completion_tokens,
                seconds_decode=reply.seconds,
                repairs=found.repairs.total,
                texts_shortened=shortened,
                dollars=reply.dollars,
            )
            query.settle(found.order, bill)

    async def _answer(self, session: Session, query: str, texts: Sequence[str]) -> tuple[Reply, int]:
        """Return the reply and the number of truncated texts."""
        words = self.words
        while True:
            cut = [" ".join(text.split()[:words]) for text in texts]
            try:
                reply = await session.complete(messages(query, cut))
            except TooLong as error:
                if words == 0:
                    problem = f"{len(texts)} passages are too long for the model even without their texts"
                    raise BadInput(problem, remedy="use a smaller window", id=query[:60]) from error
                words = min(words, max((len(text.split()) for text in texts), default=0)) * 3 // 4
            else:
                return reply, sum(len(text.split()) > words for text in texts)


def messages(query: str, texts: Sequence[str]) -> list[Message]:
    """RankGPT's conversation: one turn per passage, each acknowledged."""
    n = str(len(texts))
    offer, task = (part.replace("{n}", n).replace("{query}", query) for part in (_OFFER, _TASK))
    said = [("system", _SYSTEM), ("user", offer), ("assistant", "Okay, please provide the passages.")]
    for i, text in enumerate(texts, start=1):
        said += [("user", f"[{i}] {text}"), ("assistant", f"Received passage [{i}].")]
    return [{"role": role, "content": content} for role, content in [*said, ("user", task)]]
