"""The encoder with linear layers in int8 on a CPU, by OpenVINO: faster than bf16, with slightly different vectors.

Weights have one scale per output channel, activations one per 128 numbers, computed at each product; everything else is
fp32. Speed and agreement of rankings are measured in experiments/openvino. The network is converted by OpenVINO's
frontend directly: `openvino.convert_model` would send usage data.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, fields
from threading import Lock
from types import SimpleNamespace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from perank.errors import BadInput
from perank.model.encoders.encoder import Encoder
from perank.model.encoders.weights import load_encoder_weights
from perank.model.locate import LoadedOnce, locate
from perank.records import Identity

_AGREES = 0.9  # cosine of hidden states; int8 leaves 0.99, a network with traced constants much less


@dataclass(eq=False)
class OpenVinoEncoder(Encoder):
    """An `Encoder` in int8 on the CPU. Its identity says so: a store doesn't mix its vectors with others.

    It needs the extra `openvino`, and is faster only on processors with int8 products (AVX-512 VNNI or newer). A saved
    model records the encoder's settings without this runtime. Raises `BadInput` on first use if OpenVINO is not
    installed or can't reproduce the model, and for a `dtype` other than float32 or a `device` other than the CPU.
    """

    int8: ClassVar[bool] = True
    plugin: ClassVar[Mapping[str, Any]] = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 128}

    @classmethod
    def of(cls, encoder: Encoder) -> Self:
        """Return the encoder with the settings of `encoder`, such as that of a loaded model."""
        settings = {part.name: getattr(encoder, part.name) for part in fields(encoder) if part.init}
        return cls(**settings | {"dtype": "float32", "device": "cpu"})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.torch_device.type != "cpu" or self.torch_dtype != torch.float32:
            problem = f"OpenVINO quantises float32 weights on the CPU, found {self.dtype} on {self.device}"
            raise BadInput(problem, remedy="set dtype=float32 and device=cpu", id=self.name)

    @property
    def identity(self) -> Identity:
        """As for `Encoder`, with the runtime, which changes the vectors."""
        return {**super().identity, "dtype": "int8", "runtime": "openvino int8"}

    @LoadedOnce
    def model(self) -> Any:
        code = {"trust_remote_code": self.trust_remote_code}
        model = load_encoder_weights(
            locate(self.name), revision=self.revision, dtype=torch.float32, **code, **self.hub
        ).eval()
        self._check(model)
        compiled = Compiled(model, self.int8, {"INFERENCE_NUM_THREADS": torch.get_num_threads(), **self.plugin})
        if (cosine := compiled.agreement(model)) < _AGREES:
            problem = f"OpenVINO's hidden states have a cosine of {cosine:.2f} with those of {type(model).__name__}"
            raise BadInput(problem, remedy="use perank.model.encoders.encoder.Encoder", id=self.name)
        return compiled


class Compiled:
    """A model compiled by OpenVINO, called as the model; calls from several threads take turns."""

    def __init__(self, model: Any, int8: bool, settings: Mapping[str, Any]) -> None:
        try:
            import openvino
        except ImportError as error:
            raise BadInput("OpenVINO is not installed", remedy="pip install 'perank[openvino]'") from error
        network = _converted(model)
        if int8:
            _quantise(network)
        self.config, self._lock = model.config, Lock()
        self._run = openvino.Core().compile_model(network, "CPU", dict(settings))

    def __call__(self, *, input_ids: Tensor, attention_mask: Tensor) -> Any:
        """Return an object with `last_hidden_state`, fp32 [B, L, E]."""
        with self._lock:
            hidden_BLE = self._run([input_ids.numpy(), attention_mask.numpy()], share_inputs=True)[0]
        return SimpleNamespace(last_hidden_state=torch.from_numpy(hidden_BLE))

    @torch.inference_mode()
    def agreement(self, model: Any) -> float:
        """Return the cosine with `model`'s hidden states, for a shape other than the one that was traced."""
        ids_BL = torch.arange(15).reshape(3, 5) % model.config.vocab_size
        inputs = {"input_ids": ids_BL, "attention_mask": torch.ones_like(ids_BL)}
        there, here = (run(**inputs).last_hidden_state.flatten() for run in (model, self))
        return float(torch.nn.functional.cosine_similarity(there, here, dim=0))


class _Hidden(nn.Module):
    """The model with a tensor instead of an output object."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        hidden_BLE: Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return hidden_BLE


def _converted(model: Any) -> Any:
    """Return the model as an OpenVINO network with free batch and length."""
    from openvino import PartialShape
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    ids_BL = torch.ones(2, 8, dtype=torch.long)
    inputs = {"input_ids": ids_BL, "attention_mask": ids_BL.clone()}
    frontend = FrontEndManager().load_by_framework("pytorch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing warns about every branch; `Compiled.agreement` checks the result
        traced = TorchScriptPythonDecoder(_Hidden(model), example_input=inputs)  # has to outlive the conversion
        network = frontend.convert(frontend.load(traced))
    network.reshape({place: PartialShape([-1, -1]) for place in network.inputs})
    return network


def _quantise(network: Any) -> None:
    """Replace the weights of linear layers by int8 with a scale per output channel, in place."""
    from openvino import opset13

    for product in network.get_ops():
        if product.get_type_name() != "MatMul" or not product.get_attributes()["transpose_b"]:
            continue
        weight = product.input(1).get_source_output().get_node()
        if weight.get_type_name() == "Constant" and len(weight.shape) == 2:
            scale_O1 = np.maximum(np.abs(weight.data).max(axis=1, keepdims=True), 1e-12) / 127
            codes_OI = np.round(weight.data / scale_O1).astype(np.int8)
            restored = opset13.multiply(opset13.convert(codes_OI, "f32"), scale_O1.astype(np.float32))
            product.input(1).replace_source_output(restored.output(0))
