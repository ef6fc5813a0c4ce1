"""A stream's loader: the same batches for any number of workers, and from the middle on."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from perank.errors import BadInput
from perank.training.stream import StreamModule, StreamSettings, row_at


class Numbers(StreamModule):
    """Examples are (position, row)."""

    def __init__(self, rows: int = 10, **options: Any) -> None:
        super().__init__(StreamSettings(**{"batch_size": 3, "epochs": 2, **options}))
        self._rows = rows

    @property
    def rows(self) -> int:
        return self._rows

    def example(self, position: int) -> tuple[int, int]:
        return position, row_at(position, self.rows, self.seed)

    def collate(self, examples: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        return list(examples)


def batches(module: StreamModule) -> list[Any]:
    return list(module.train_dataloader())


def trainer(*, processed: int = 0, rank: int = 0, world: int = 1, max_epochs: int | None = 1) -> Any:
    """As much of a trainer as a stream looks at."""
    total = SimpleNamespace(processed=processed, completed=max(0, processed - 1))
    progress = SimpleNamespace(batch_progress=SimpleNamespace(total=total))
    return SimpleNamespace(
        fit_loop=SimpleNamespace(epoch_loop=progress), global_rank=rank, world_size=world, max_epochs=max_epochs
    )


def at(module: StreamModule, **state: Any) -> StreamModule:
    module.trainer = trainer(**state)
    return module


def test_all_epochs_are_one_loader_and_what_does_not_fill_a_step_is_left_out() -> None:
    found = batches(Numbers())
    assert [position for batch in found for position, _ in batch] == list(range(18))  # 2 x 10 rows, in steps of 3
    assert sorted([row for batch in found for _, row in batch][:10]) == list(range(10))


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a machine with one core
@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(workers: int) -> None:
    assert batches(Numbers(num_workers=workers)) == batches(Numbers())


@pytest.mark.parametrize("steps", [0, 1, 4, 6])
def test_a_restored_stream_goes_on_behind_the_last_processed_batch(steps: int) -> None:
    state = at(Numbers(), processed=steps).state_dict()
    resumed = Numbers()
    resumed.load_state_dict(state)
    assert batches(resumed) == batches(Numbers())[steps:]


def test_a_loader_that_is_there_already_goes_on_too_when_the_stream_is_restored() -> None:
    resumed = Numbers()
    loader = resumed.train_dataloader()  # sharded strategies ask for it before they read the checkpoint
    resumed.load_state_dict(at(Numbers(), processed=2).state_dict())
    assert list(loader) == batches(Numbers())[2:]


def test_the_state_counts_what_all_devices_have_read() -> None:
    assert at(Numbers(), processed=2, world=3).state_dict()["consumed"] == 18


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"batch_size": 2}, "batch_size 3, this run has 2"),
        ({"epochs": 1}, "epochs 2, this run has 1"),
        ({"seed": 1}, "seed 0, this run has 1"),
        ({"rows": 11}, "rows 10, this run has 11"),
    ],
)
def test_a_state_of_another_stream_is_refused(changed: dict[str, int], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        Numbers(**changed).load_state_dict(Numbers().state_dict())


def test_a_state_of_another_number_of_devices_is_refused() -> None:
    with pytest.raises(BadInput, match="devices 2, this run has 1"):
        at(Numbers()).load_state_dict(at(Numbers(), world=2).state_dict())


@pytest.mark.parametrize(("before", "now"), [((2, 3), (1, 6)), ((1, 6), (3, 2)), ((3, 2), (2, 3))])
def test_another_number_of_devices_resumes_where_the_rows_of_a_step_are_as_many(
    before: tuple[int, int], now: tuple[int, int]
) -> None:
    """(devices, rows per device and step) each."""
    state = at(Numbers(batch_size=before[1]), world=before[0], processed=2).state_dict()
    rows = []
    for rank in range(now[0]):
        resumed = Numbers(batch_size=now[1])
        at(resumed, world=now[0], rank=rank)
        resumed.load_state_dict(state)
        rows += [example for batch in batches(resumed) for example in batch]
    whole = [example for batch in batches(Numbers(batch_size=6)) for example in batch]
    assert sorted(rows) == sorted(whole)[2 * 6 :]


def test_more_epochs_are_a_new_run_with_the_old_ones_weights() -> None:
    with pytest.raises(BadInput, match=r"epochs 2, this run has 3 .*start=<the run's folder>"):
        Numbers(epochs=3).load_state_dict(Numbers().state_dict())


def test_too_few_rows_for_a_step_on_every_device_are_refused() -> None:
    with pytest.raises(BadInput, match="4 rows are fewer than one step of 3 on each of 2 devices"):
        at(Numbers(4, epochs=1), world=2).train_dataloader()


def test_a_trainer_that_counts_epochs_itself_is_refused() -> None:
    with pytest.raises(BadInput, match=r"set data\.epochs"):
        at(Numbers(), max_epochs=3).train_dataloader()


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"epochs": 0}, {"num_workers": -1}])
def test_numbers_without_a_meaning_are_refused_by_name(wrong: dict[str, int]) -> None:
    with pytest.raises(BadInput, match=next(iter(wrong))):
        Numbers(**wrong)
