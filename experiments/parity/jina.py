"""Jina's encoder against numbers from Jina's own code, text by text.

    python experiments/parity/jina.py             # a second or two; prints the table and writes jina.csv

It reads `fixtures/jina_bert` under `PERANK_SHARED`: two small random models (4 heads, and 6, whose ALiBi slopes are no
plain power series), eight texts, and what Jina's code made of them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file
from table import Line, array, write

from perank.files import shared_dir
from perank.model.encoders.encoder import Encoder
from perank.model.encoders.jina_bert import JinaBert, alibi_slopes

TOLERANCE, HIDDEN = 2e-5, 6e-5  # of unit vectors; of hidden states, where Jina's own fp32 is 2.1e-5 off fp64


def main() -> None:
    """Compare, print, write."""
    lines = [line for name in ("h4", "h6") for line in compared(shared_dir() / "fixtures" / "jina_bert" / name)]
    for line in lines:
        print(f"{line.case:<10} {line.quantity:<34} {line.authors:>13.8g} {line.ours:>13.8g} {line.difference:>9.2g}")
    for name in dict.fromkeys(line.case for line in lines):
        worst = max(line.difference for line in lines if line.case == name and line.quantity.startswith("pooled"))
        print(f"{name}: largest difference of pooled vectors {worst:.2g}, allowed {TOLERANCE:g}")
    write(Path(__file__).with_name("jina.csv"), lines)
    sys.exit(0 if all(line.holds for line in lines) else 1)


def compared(folder: Path) -> Iterator[Line]:
    """Slopes, hidden states, pooled vectors."""
    wanted, texts = (
        load_file(folder / "expected.safetensors"),
        json.loads((folder / "inputs.json").read_text())["texts"],
    )
    slopes = alibi_slopes(len(wanted["alibi_slopes"]))
    case, mask_BL = f"{len(slopes)} heads", wanted["attention_mask"]
    yield array(case, "ALiBi slopes", wanted["alibi_slopes"], slopes, TOLERANCE)
    with torch.inference_mode():
        hidden_BLE = JinaBert.from_pretrained(str(folder))(wanted["input_ids"], mask_BL).last_hidden_state
    yield array(case, "hidden states", wanted["last_hidden_state"][mask_BL == 1], hidden_BLE[mask_BL == 1], HIDDEN)
    vectors_BE = Encoder(str(folder), pooling="mean", max_length=8192).encode_passages(texts)
    for number, (theirs, ours) in enumerate(zip(wanted["mean_pooled_l2"], vectors_BE, strict=True), start=1):
        yield array(case, f"pooled vector of text {number}", theirs, ours, TOLERANCE)


if __name__ == "__main__":
    main()
