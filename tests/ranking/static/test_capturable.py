"""Nothing in a forward waits for a value or has a shape that depends on one: what a CUDA graph can hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from perank.model.pe_rank import PERank
from perank.ranking.static.decoder import Static
from perank.ranking.static.engine import Engine
from support import tiny

WAITS = {
    *("_local_scalar_dense", "item", "is_nonzero", "equal", "nonzero", "nonzero_static", "masked_select", "argwhere"),
    *("_unique", "_unique2", "unique_dim", "unique_consecutive", "bincount", "repeat_interleave", "masked_scatter"),
}


READS = {Tensor.tolist, Tensor.numpy, Tensor.cpu, Tensor.item, Tensor.__bool__, Tensor.__int__, Tensor.__float__}


class NoReads(TorchFunctionMode):
    """Raises for methods that bring values to the host: on a CPU not all of them run an operation."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in READS:
            raise AssertionError(f"{func.__name__} can't be captured")
        return func(*args, **(kwargs or {}))


class NoWaits(TorchDispatchMode):
    """Raises where an operation reads a value on the host, copies across devices or selects by truth values."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.removeprefix("aten::")
        indexed = name in ("index", "index_put", "index_put_", "_index_put_impl_")
        by_truth = indexed and any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1])
        across = name in ("_to_copy", "copy_") and (kwargs or {}).get("device") not in (None, torch.device("cpu"))
        if name in WAITS or by_truth or across:
            raise AssertionError(f"{name} can't be captured")
        return func(*args, **(kwargs or {}))


@contextmanager
def capturable() -> Iterator[None]:
    with NoReads(), NoWaits():
        yield


MODELS: dict[str, Callable[[], PERank]] = {
    "llama": lambda: tiny.tiny_model(1),
    "llama, layers of its own": lambda: tiny.tiny_model(1).requires_grad_(True),
    "mistral": lambda: tiny.model_of("mistral", sliding_window=None),
    "qwen3": lambda: tiny.model_of("qwen3", head_dim=8),
    "in bf16": lambda: tiny.tiny_model(1, dtype=torch.bfloat16),
    "with anchors": lambda: tiny.tiny_model(1, anchors=tiny.ANCHORS),
}


@pytest.mark.parametrize("name", MODELS)
def test_neither_function_waits_for_a_value(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def watch(original: Callable[[Engine], None]) -> None:
        def watched(self: Engine, *starts: list[int]) -> None:
            calls.append((original.__name__, *starts))
            with capturable():
                original(self, *starts)

        monkeypatch.setattr(Engine, original.__name__, watched)

    watch(Engine.prefill)
    watch(Engine.step)
    model = MODELS[name]()
    windows = tiny.windows([20, 7, 2], dtype=torch.float32)
    decoder, windows = Static(), tiny.placed(windows) if model.anchors else windows
    windows = tiny.continued(decoder, model, windows)
    decoder.decode(model, windows)
    assert calls[0] == ("prefill", [0, 0, 0])
    assert ("prefill", [1, 1, 1]) in calls
    assert ("step",) in calls


def test_the_watch_sees_what_waits() -> None:
    values = torch.tensor([1.0, 0.0])
    for work in (lambda: values[values > 0], lambda: float(values[0]), values.nonzero, values.tolist, values.cpu):
        with pytest.raises(AssertionError, match="can't be captured"), capturable():
            work()


@pytest.mark.parametrize("function", ["prefill", "step"])
def test_a_function_is_one_graph(function: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, windows = tiny.tiny_model(1), tiny.windows([12, 9, 5])
    windows = tiny.continued(Static(), model, windows)
    want = Static().decode(model, windows)
    whole = torch.compile(getattr(Engine, function), fullgraph=True, backend="eager")
    monkeypatch.setattr(Engine, function, whole)
    got = Static().decode(model, windows)
    assert got.orders == want.orders
    assert got.forwards == want.forwards
