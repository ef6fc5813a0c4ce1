"""Train one stage: `python -m perank.train +experiment=align`, then `+experiment=rank projector.path=...`.

Leaves in the output folder: checkpoints/, projector.safetensors, model/ (stage 2: what `Reranker.from_pretrained`
reads), and metrics.json with per-query scores and runs for every suite.
"""

from __future__ import annotations

from pathlib import Path

import hydra
from omegaconf import DictConfig

from perank.errors import exits_cleanly
from perank.paths import CONF_DIR


def train(config: DictConfig) -> dict[str, float]:
    """Seed, assemble, fit, save, evaluate. Returns NDCG@10 by suite, for sweeps."""
    from lightning import seed_everything

    from perank.assemble import Assembly
    from perank.model.start import save_projector

    seed_everything(config.seed, workers=True, verbose=False)
    parts = Assembly(config)
    output = Path(config.paths.output)
    try:
        parts.trainer.fit(parts.stage, datamodule=parts.data, ckpt_path=config.ckpt_path, weights_only=True)
        if parts.trainer.is_global_zero:
            save_projector(parts.model.projector, output / "projector.safetensors")
            parts.save(output / "model")
    finally:
        parts.close()
    if not config.evaluate:
        return {}
    return {result.suite: result.means["ndcg@10"] for result in parts.evaluation.results}


@exits_cleanly
@hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name="train")
def main(config: DictConfig) -> None:
    """The command line."""
    train(config)


if __name__ == "__main__":
    main()
