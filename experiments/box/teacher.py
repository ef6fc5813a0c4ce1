"""How much of the way from the fusion to the teacher the packaged model goes, set by set.

    python -m perank.evaluate suite=[pydocs,unseen] model=box ranker=splade 'compare=[splade-encoder]'
    python experiments/box/teacher.py <its results.csv>

The teacher, `splade-encoder`, reads the passages' texts; the model has one vector of each. Writes teacher.csv beside
this file and prints it: NDCG@10, the share of the way (below 0: under the fusion; empty: the teacher isn't above the
fusion), and p of PE-Rank+ against the teacher (paired two-sided t-test over queries).
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

HERE = Path(__file__).resolve().parent
FUSION, TEACHER, PLUS = SYSTEMS = ("fusion", "splade-encoder", "PE-Rank+")


def main() -> None:
    """Read the rows, write and print the table."""
    rows = pd.read_csv(sys.argv[1]).query("metric == 'ndcg@10'")
    table = rows.pivot_table(index="collection", columns="system", values="value", sort=False)[list(SYSTEMS)]
    against = rows[(rows.system == PLUS) & (rows.baseline == TEACHER)].set_index("collection")
    table["p"] = against.p_value
    table.loc["mean"] = table[list(SYSTEMS)].mean()
    way = table[TEACHER] - table[FUSION]
    table.insert(3, "share", ((table[PLUS] - table[FUSION]) / way).where(way > 0))
    table.to_csv(HERE / "teacher.csv", float_format="%.4f")
    print(table.to_string(float_format="{:.4f}".format, na_rep=""))


if __name__ == "__main__":
    main()
