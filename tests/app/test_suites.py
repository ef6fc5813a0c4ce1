"""Suites in three lines of conf/suite are what those of ten lines were: collection, candidates, name and cutoffs."""

from __future__ import annotations

from pathlib import Path

import pytest

from perank.app.assembly import Assembly
from perank.app.suites import beir_suite, irds_suite, trec_suite
from perank.errors import BadInput
from perank.evaluation.suites import Suite
from perank.retrieval.bm25 import Bm25
from perank.retrieval.dense import Dense
from perank.sources.beir import BeirCollection
from perank.sources.irds import IrdsCollection
from support import toy
from support.fake_encoders import HashEncoder


def test_a_beir_folder_is_searched_by_bm25_a_run_file_or_the_encoder(tmp_path: Path) -> None:
    toy.make_collection(tmp_path / "few")
    folder = str(tmp_path / "few")
    suite = beir_suite(name="few", folder=folder)
    assert isinstance(suite.collection, BeirCollection) and suite.collection.name == "few-test"
    assert isinstance(suite.first_stage, Bm25) and len(suite.candidates()) == 5
    assert (suite.depth, suite.max_queries, suite.metrics, suite.binary_cutoff) == (100, None, Suite.metrics, 1)
    assert beir_suite(name="few", folder=folder, first_stage="bm25.trec").first_stage == "bm25.trec"
    dense = beir_suite(name="few", folder=folder, first_stage=HashEncoder(), depth=3, max_queries=2)
    assert isinstance(dense.first_stage, Dense) and (dense.depth, dense.max_queries) == (3, 2)


def test_a_data_set_of_ir_datasets_is_named_by_its_id() -> None:
    suite = irds_suite(name="covid", dataset="beir/trec-covid", first_stage="covid.trec", binary_cutoff=2)
    assert isinstance(suite.collection, IrdsCollection) and suite.collection.name == "beir/trec-covid"
    assert (suite.name, suite.first_stage, suite.binary_cutoff) == ("covid", "covid.trec", 2)
    assert isinstance(irds_suite(name="covid", dataset="beir/trec-covid").first_stage, Bm25)


def test_trec_dl_counts_grade_2_and_above(tmp_path: Path) -> None:
    suite = trec_suite(name="dl19", folder=str(tmp_path))
    assert (suite.first_stage, suite.binary_cutoff) == ("bm25", 2)
    with pytest.raises(BadInput, match="no such folder"):
        trec_suite(name="dl19", folder=str(tmp_path / "none"))


def test_suites_of_a_config_are_called_by_their_keys_unless_they_have_a_name(tmp_path: Path) -> None:
    toy.make_collection(tmp_path / "world" / "collection")
    few = f"{{_target_: perank.app.suites.beir_suite, folder: {tmp_path}/world/collection}}"
    config = toy.composed(tmp_path / "world", tmp_path, "rank", f"+suite.few={few}", "suite.beir.name=named")
    assert [suite.name for suite in Assembly(config).suites] == ["named", "few"]


def test_suites_names_what_is_measured_and_max_queries_is_for_suites_without_their_own(tmp_path: Path) -> None:
    toy.make_collection(tmp_path / "world" / "collection")
    few = f"{{_target_: perank.app.suites.beir_suite, folder: {tmp_path}/world/collection"
    more = [f"+suite.few={few}}}", f"+suite.own={few}, max_queries: 4}}", "suites=[own,few]", "max_queries=2"]
    config = toy.composed(tmp_path / "world", tmp_path, "rank", *more)
    assert [(suite.name, len(suite.query_ids)) for suite in Assembly(config).suites] == [("own", 4), ("few", 2)]
    config.max_queries = 0
    with pytest.raises(BadInput, match="max_queries is 0"):
        _ = Assembly(config).suites
    config.suites = ["few", "fwe"]
    with pytest.raises(BadInput, match=r"'suites.fwe'.*choose among few.*suites=null"):
        _ = Assembly(config).suites


def test_no_suite_is_measured_twice(tmp_path: Path) -> None:
    toy.make_collection(tmp_path / "world" / "collection")
    few = f"+suite.few={{_target_: perank.app.suites.beir_suite, folder: {tmp_path}/world/collection, name: beir}}"
    for settings, place in ((["suites=[beir,beir]"], "suites"), ([few], "suite")):
        config = toy.composed(tmp_path / "world", tmp_path, "rank", *settings)
        with pytest.raises(BadInput, match="'beir' occurs twice") as refused:
            _ = Assembly(config).suites
        assert refused.value.id == place
