"""What a comparison can know before anything is ranked, and what it keeps of systems that fail."""

from __future__ import annotations

from typing import Any

import pytest

from perank.errors import Absent, BadInput
from perank.evaluation.evaluator import evaluate_run
from perank.evaluation.result import Evaluation
from perank.reporting.comparison import System, check_names, compared
from support.small_suite import FIRST_STAGE, small_suite


def test_systems_that_would_write_the_same_files_are_refused() -> None:
    with pytest.raises(BadInput, match="'small/my run' and 'small/my_run' would write the same files"):
        check_names(["my run", "my_run"], [], [small_suite()], ["bm25"])
    check_names(["my run", "bm25"], ["bm25", "my run"], [small_suite()], ["bm25"])


def test_an_unknown_system_to_compare_with_is_refused() -> None:
    with pytest.raises(BadInput, match=r"no such system .*choose among bm25, mine"):
        check_names(["mine"], ["his"], [small_suite()], ["bm25"])


def fails() -> Any:
    raise RuntimeError("out of memory")


def good(suite: Any) -> Evaluation:
    return evaluate_run(FIRST_STAGE, suite, system="good")


def test_a_system_that_fails_is_listed_and_the_others_are_kept_at_once() -> None:
    kept: list[Evaluation] = []
    systems = [System("bad", fails), System("good", lambda: good)]
    found = compared(systems, [small_suite()], {"small": []}, kept.append)
    assert [evaluation.system for evaluation in kept] == ["good"]
    assert found.absent == {"bad": "failed: out of memory"}
    assert [str(error) for error in found.errors] == ["out of memory"]


def test_where_nothing_could_be_evaluated_the_first_error_is_raised() -> None:
    def absent() -> Any:
        raise Absent("not here", remedy="get it")

    with pytest.raises(RuntimeError, match="out of memory"):
        compared([System("gone", absent), System("bad", fails)], [small_suite()], {"small": []})
