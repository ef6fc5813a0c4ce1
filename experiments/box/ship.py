"""Put a trained run's model into the package: what `Reranker()` loads.

    python experiments/box/ship.py <run folder> "<how long, on what>" <results.csv of perank.evaluate> [...]

Takes the run's last checkpoint, writes projector and adapters in bf16 to src/perank/box, and a model card made of the
run's config and of the evaluations' numbers.
"""

from __future__ import annotations

import sys
from pathlib import Path
from textwrap import fill

from perank.app.run_folder import assembled_at, checkpoints
from perank.reporting.rows import ResultRow, read_results_csv
from perank.reporting.tables import markdown_table
from perank.saving.hub import BOX, save_pretrained
from perank.training.checkpoints import read_checkpoint

CARD = """# PE-Rank, embedded scale: the model in the box

SmolLM2-135M-Instruct (its first {layers} layers; weights from a Q4_1 GGUF, dequantised) with LoRA adapters (r {r}) and
a projector for all-MiniLM-L6-v2 vectors. The paper's form: the prompt holds passage embeddings and the query's words.

**Trained on** the built-in documentation collection alone ({pairs} question and answer pairs from docstrings of Python
packages), {took}: {seen} rows in {steps} steps of {batch}, from {rows} queries: its train queries, and sentences (at
most {each} a passage) and runs of words ({spans} a passage) of the passages judged for them. No query was made
of a passage that only dev or test queries are judged with; as vectors such passages are among the candidates, which are
BM25's top {n} in BM25's order. The loss weighs by {distil:g} the KL from the
encoder over all passages of a batch at each of the first {ranks} ranks, its query vector moved towards BM25's first
passages ({feedback}: Rocchio's feedback), and by {rank:g} ListMLE on the order "encoder's similarity less
{weight} ln(BM25's rank)". Judgements were not used. No alignment stage: the projector starts from what the LLM's last
hidden state says of a query (`projector.init=queries`). One command, resumable with `ckpt_path`:
`python -m perank.train +experiment=box trainer=gpu`.

**Measured** (`p`: paired two-sided t-test over queries):

{tables}

**Give it candidates in the first stage's order**, as it was trained: it takes the first ones for a hint.

**Weak** outside software documentation, on long or many-sided questions, and wherever one MiniLM vector (256 tokens)
does not hold what was asked for. It was never shown a passage's text, a window other than {n}, or another encoder.
"""


def main() -> None:
    """Write src/perank/box."""
    folder, took, results = Path(sys.argv[1]), sys.argv[2], [Path(name) for name in sys.argv[3:]]
    last = checkpoints(folder)[-1]
    parts = assembled_at(folder, last)
    config, steps = parts.config, int(read_checkpoint(last)["global_step"])
    card = CARD.format(
        layers=config.backbone.num_layers,
        r=config.backbone.lora.r,
        pairs=f"{parts.collection.collection.manifest['pairs']:,}",
        took=took,
        seen=f"{steps * config.data.batch_size:,}",
        steps=f"{steps:,}",
        batch=config.data.batch_size,
        rows=f"{config.data.rows:,}",
        each=config.collection.each,
        spans=config.collection.spans,
        n=config.data.candidates,
        ranks=config.data.steps,
        distil=config.loss.distil,
        feedback=", ".join(f"{weight:g}" for weight in config.loss.feedback),
        rank=config.loss.rank,
        weight=config.teacher.weight,
        tables="\n\n".join(table(read_results_csv(path)) for path in results),
    )
    card = "\n\n".join(map(wrapped, card.split("\n\n")))
    save_pretrained(
        BOX, parts.model, llm=parts.llm, prompts=parts.prompts, encoder=parts.encoder, dtype="bfloat16", card=card
    )


def wrapped(block: str) -> str:
    """A paragraph in lines of at most 118 characters; tables and headings as they are."""
    return block if block.startswith(("|", "#")) else fill(block, 118, break_long_words=False, break_on_hyphens=False)


def table(rows: list[ResultRow]) -> str:
    """One evaluation as Markdown, its collection and candidates named."""
    first = rows[0]
    return f"{first.collection}, {first.n_queries} queries, top {first.candidates}:\n\n{markdown_table(rows).strip()}"


if __name__ == "__main__":
    main()
