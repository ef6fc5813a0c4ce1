"""What rankings cost, as a table and as bars: tokens, generated tokens a rank (section 5.2), seconds, ratios."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from perank.reporting.rows import ResultRow

Key = tuple[str, str, str, str, str, str]
TEXTS = "text listwise"
_COLUMNS = {
    "ndcg@10": ("ndcg@10", "{:.4f}"),
    "tokens_prefill": ("# Proc.", "{:.1f}"),
    "tokens_processed": ("tokens read", "{:.1f}"),
    "tokens_generated": ("# Gen.", "{:.1f}"),
    "tokens_generated_per_rank": ("# Gen. a rank", "{:.2f}"),
    "forwards_per_query": ("forwards", "{:.1f}"),
    "seconds_encode": ("encode", "{:.3f}"),
    "seconds_prefill": ("prefill", "{:.3f}"),
    "seconds_decode": ("decode", "{:.3f}"),
    "seconds_per_query": ("seconds", "{:.3f}"),
}


def latency_table(rows: Iterable[ResultRow]) -> str:
    """Markdown, a line for every collection, number of candidates, window, system and variant.

    `of texts` is the wall time over that of the full answers of text listwise reranking in the same place.
    """
    lines: dict[Key, dict[str, float]] = {}
    for row in rows:
        layout = f"{row.window or ''}/{row.step or ''}".strip("/")
        key = (row.collection, str(row.candidates or ""), layout, row.system, row.variant, row.device)
        lines.setdefault(key, {})[row.metric] = row.value
    lines = {key: values for key, values in lines.items() if values.keys() & _COLUMNS.keys()}
    filled = {name: column for name, column in _COLUMNS.items() if any(name in values for values in lines.values())}
    header = ["collection", "n", "w/s", "system", "variant", *(title for title, _ in filled.values()), "of texts"]
    table = [header, ["---"] * 5 + ["---:"] * (len(filled) + 1)]
    for key, values in lines.items():
        cells = [form.format(values[name]) if name in values else "" for name, (_, form) in filled.items()]
        table.append([*key[:5], *cells, _of_texts(key, lines)])
    return "".join(f"| {' | '.join(cells)} |\n" for cells in table)


def _of_texts(key: Key, lines: dict[Key, dict[str, float]]) -> str:
    mine, metric = lines[key], "seconds_per_query"
    theirs = [v for k, v in lines.items() if k[:3] == key[:3] and k[3] == TEXTS and metric in v and k[5] == key[5]]
    return f"{mine[metric] / theirs[0][metric]:.3f}" if theirs and metric in mine else ""


def phase_bars(rows: Sequence[ResultRow], path: str, title: str) -> None:
    """Stacked bars of seconds by phase, a bar for every system and variant, a panel for every collection."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    collections = list(dict.fromkeys(row.collection for row in rows))
    names = list(dict.fromkeys((row.system, row.variant) for row in rows))
    fig, panels = plt.subplots(
        1,
        len(collections),
        figsize=(5.5 * len(collections), 0.45 * len(names) + 1.5),
        sharey=True,
        layout="constrained",
    )
    phases = {"seconds_encode": "#ccbb44", "seconds_prefill": "#4477aa", "seconds_decode": "#ee6677"}
    for axes, collection in zip([panels] if len(collections) == 1 else panels, collections, strict=True):
        values = {(r.system, r.variant, r.metric): r.value for r in rows if r.collection == collection}
        left = [0.0] * len(names)
        for phase, color in phases.items():
            widths = [values.get((*name, phase), 0.0) for name in names]
            axes.barh([": ".join(name) for name in names], widths, left=left, color=color, label=phase[8:])
            left = [a + b for a, b in zip(left, widths, strict=True)]
        axes.set(title=collection, xlabel="seconds a query")
        for place, total in enumerate(left):
            axes.annotate(f" {total:.2f}", (total, place), va="center", fontsize=8)
    axes.invert_yaxis()
    axes.legend(loc="lower right")
    fig.suptitle(title)
    fig.savefig(path, dpi=150)
    plt.close(fig)
