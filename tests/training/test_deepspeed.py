"""DeepSpeed takes the config that trainer=deepspeed_zero2 composes. Needs the package deepspeed, no GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from perank.app.settings import instantiate
from perank.files import CONF_DIR

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # importing it warns of much


def test_deepspeed_itself_accepts_the_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    pytest.importorskip("deepspeed", reason="DS_BUILD_OPS=0 pip install deepspeed")
    from deepspeed.runtime.config import DeepSpeedConfig

    overrides = ["+experiment=rank", "scale=paper", "trainer=deepspeed_zero2"]
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        config = compose("train", overrides=overrides)
    settings: dict[str, Any] = dict(instantiate(config.trainer.strategy).config)
    settings |= {  # what Lightning adds when it sets the model up
        "train_micro_batch_size_per_gpu": config.data.batch_size,
        "gradient_accumulation_steps": config.trainer.accumulate_grad_batches,
        "gradient_clipping": config.trainer.gradient_clip_val,
        "bf16": {"enabled": True},
    }
    accepted = DeepSpeedConfig(settings)
    assert accepted.zero_config.stage == 2
    assert accepted.zero_config.reduce_bucket_size == 200_000_000
    assert accepted.bfloat16_config.enabled
    assert (accepted.train_micro_batch_size_per_gpu, accepted.gradient_accumulation_steps) == (4, 2)
