"""A training config that runs where the collections aren't: they become BEIR folders, and their paths are set there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from shutil import copy
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf, open_dict

from perank.app.settings import instantiate
from perank.files import CONF_DIR, write_json_lines
from perank.records import Collection

HERE = "${oc.env:PERANK_BOX}"  # the folder in which the archive is unpacked
CONFIG = "config.yaml"


def travelling_config(recipe: str, overrides: list[str], folder: Path) -> DictConfig:
    """Compose `+experiment=<recipe>`, and write its collections and its prepared rows into `folder`."""
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        config = compose("train", overrides=[f"+experiment={recipe}", "evaluate=false", *overrides])
    with open_dict(config):
        for number, node in enumerate(leaves(config.collection)):
            _replace(node, folder / f"collection-{number}")
        if config.data.get("rows_path"):
            copy(config.data.rows_path, folder / "rows.jsonl")
            config.data.rows_path = f"{HERE}/rows.jsonl"
        config.suite = {}
        config.paths = {"output": f"{HERE}/run", "shared": HERE, "data": HERE}
        config.ckpt_path = f"{HERE}/run"
    OmegaConf.save(config, folder / CONFIG)
    return config


def leaves(node: Any) -> Iterator[DictConfig]:
    """The collections that aren't made of others, at any depth of a group."""
    if OmegaConf.is_list(node):
        for item in node:
            yield from leaves(item)
    elif OmegaConf.is_dict(node):
        inside = [leaf for key in node for leaf in leaves(node[key])]
        yield from inside or ([node] if "_target_" in node else [])


def _replace(node: DictConfig, folder: Path) -> None:
    """Write the collection that `node` describes as a BEIR folder, and describe that instead."""
    collection: Collection = instantiate(node)
    write_collection(collection, folder)
    for key in list(node):
        del node[key]
    node.update(
        _target_="perank.sources.beir.BeirCollection",
        folder=f"{HERE}/{folder.name}",
        split="train",
        name=collection.name,
    )


def write_collection(collection: Collection, folder: Path) -> None:
    """Write passages, queries and judgements as a BEIR folder with the split `train`."""
    (folder / "qrels").mkdir(parents=True)
    passages = ({"_id": p.id, "title": p.title, "text": p.text} for p in collection.passages.values())
    write_json_lines(folder / "corpus.jsonl", passages)
    queries = ({"_id": query.id, "text": query.text} for query in collection.queries.values())
    write_json_lines(folder / "queries.jsonl", queries)
    judged = [f"{q}\t{p}\t{grade}\n" for q, grades in collection.qrels.items() for p, grade in grades.items()]
    table = "query-id\tcorpus-id\tscore\n" + "".join(judged)
    (folder / "qrels" / "train.tsv").write_text(table, encoding="utf-8")
