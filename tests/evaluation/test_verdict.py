"""One sentence per baseline says which is better, and whether the queries can tell."""

from __future__ import annotations

from perank.evaluation.result import Evaluation


def measured(system: str, scores: list[float]) -> Evaluation:
    return Evaluation("beir", system, {}, {"ndcg@10": {f"q{i}": score for i, score in enumerate(scores)}})


def test_above_below_and_not_to_be_told_apart() -> None:
    ours = measured("PE-Rank", [0.5, 0.6, 0.7, 0.6])
    others = [
        measured("weak", [0.1, 0.2, 0.3, 0.21]),
        measured("strong", [0.9, 1.0, 1.0, 0.95]),
        measured("like it", [0.6, 0.5, 0.6, 0.69]),
    ]
    said = ours.verdict(others).splitlines()
    assert said[0] == "beir: PE-Rank 0.6000 is above weak 0.2025 (ndcg@10, p < 0.001, 4 queries)"
    assert said[1].startswith("beir: PE-Rank 0.6000 is below strong 0.9625 (ndcg@10, p < 0.001")
    assert said[2].startswith(
        "beir: PE-Rank 0.6000 does not differ significantly from like it 0.5975 (ndcg@10, p = 0.9"
    )


def test_one_query_tells_nothing() -> None:
    said = measured("PE-Rank", [1.0]).verdict([measured("encoder", [0.0])])
    assert said == "beir: PE-Rank 1.0000 does not differ significantly from encoder 0.0000 (ndcg@10, 1 query)"
