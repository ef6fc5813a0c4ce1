"""Put a trained run's model into the package: what `Reranker()` loads.

    python experiments/box/ship.py <output folder of perank.train> <results.csv of perank.evaluate> [...]

Takes the run's last checkpoint, writes projector and adapters in bf16 to src/perank/box, and a model card made of the
run's config and of the evaluations' numbers.
"""

from __future__ import annotations

import sys
from pathlib import Path

from perank.evaluation.report import ResultRow, read_results_csv
from perank.evaluation.tables import markdown_table
from perank.model.hub import BOX, save_pretrained
from perank.runs import assembled_at, checkpoints
from perank.stages.checkpoints import read_checkpoint

CARD = """# PE-Rank, embedded scale: the model in the box

SmolLM2-135M-Instruct (its first {layers} layers; weights from a Q4_1 GGUF, dequantised) with LoRA adapters and a
projector for all-MiniLM-L6-v2 vectors. The paper's form: the prompt holds passage embeddings and the query's words.

**Trained on** {rows} rows ({steps} steps of {batch}) from the built-in documentation collection alone: its train
queries and {each} sentences of every passage judged for them; candidates from {pools}, {n} a row, as the curriculum
{curriculum} (share of the training, candidates, ranks) shows them; the documented passage first, then the encoder's
order; ListMLE on embeddings, the first rank weighted {first}, and {distil} times the KL from the encoder over each
batch's passages. No alignment stage: the projector starts from what the LLM's last hidden state says of a query
(`projector=queries`). One command, resumable with `ckpt_path`: `python -m perank.train +experiment=box`.

**Measured** (`p`: paired two-sided t-test over queries):

{tables}

**Weak** outside software documentation, on long or many-sided questions, and wherever one MiniLM vector (256 tokens)
does not hold what was asked for. It was never shown a passage's text, a window other than {n}, or another encoder.
"""


def main() -> None:
    """Write src/perank/box."""
    folder, results = Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]]
    last = checkpoints(folder)[-1]
    parts = assembled_at(folder, last)
    config, steps = parts.config, int(read_checkpoint(last)["global_step"])
    card = CARD.format(
        layers=config.backbone.num_layers,
        rows=steps * config.data.batch_size,
        n=config.data.candidates,
        steps=steps,
        batch=config.data.batch_size,
        each=config.collection.each,
        pools=", ".join(config.data.pools),
        curriculum=config.data.curriculum,
        first=f"{config.loss.first_weight:g} times",
        distil=f"{config.loss.distil:g}",
        tables="\n\n".join(table(read_results_csv(path)) for path in results),
    )
    save_pretrained(
        BOX, parts.model, llm=parts.llm, prompts=parts.prompts, encoder=parts.encoder, dtype="bfloat16", card=card
    )


def table(rows: list[ResultRow]) -> str:
    """One evaluation as Markdown, its collection and candidates named."""
    first = rows[0]
    return f"{first.collection}, {first.n_queries} queries, top {first.candidates}:\n\n{markdown_table(rows)}"


if __name__ == "__main__":
    main()
