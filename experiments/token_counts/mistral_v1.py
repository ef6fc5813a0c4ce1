"""Mistral's first tokenizer (32,000 pieces), as transformers 4.37 ran it: what `PromptBuilder` needs, and no more.

The file `tokenizer.model.v1` ships in the PyPI package mistral-common. It is only read: with that package installed,
transformers would choose other tokenizer classes for Mistral models.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from perank.files import cache_dir

FILE = Path("mistral_common") / "data" / "tokenizer.model.v1"


def find_model() -> Path | None:
    """The tokenizer's file: beside perank's caches (`pip install --target`, see README.md), or in the environment."""
    places = [cache_dir() / "mistral-common"]
    spec = find_spec("mistral_common")
    if spec is not None and spec.origin is not None:
        places.append(Path(spec.origin).parent.parent)
    return next((place / FILE for place in places if (place / FILE).is_file()), None)


class MistralV1:
    """A chat tokenizer over a SentencePiece model.

    Every stretch of text between special tokens is encoded on its own and gets SentencePiece's leading blank: the
    `legacy` behaviour of the slow tokenizer that the authors loaded. Special tokens are `<s>`, `</s>` and `<unk>`;
    `[INST]` is text, of three pieces, in this version.
    """

    def __init__(self, model: Path) -> None:
        from sentencepiece import SentencePieceProcessor

        self.pieces: Any = SentencePieceProcessor(model_file=str(model))
        self.unk_token_id, self.bos_token_id, self.eos_token_id = (self.pieces.piece_to_id(p) for p in self.specials)
        self.all_special_tokens, self.eos_token = list(self.specials), "</s>"

    specials = ("<unk>", "<s>", "</s>")

    def __call__(self, text: str, **_: object) -> dict[str, list[int]]:
        return {"input_ids": self.pieces.encode(text)}

    def convert_tokens_to_ids(self, token: str) -> int:
        return int(self.pieces.piece_to_id(token))

    def spelled(self, ids: Sequence[int]) -> list[str]:
        """The pieces behind the ids."""
        return [self.pieces.id_to_piece(id) for id in ids]

    def apply_chat_template(self, messages: Sequence[dict[str, str]], **_: object) -> str:
        """`<s>[INST] {user} [/INST]`, the template of Mistral-7B-Instruct."""
        (message,) = messages
        return f"<s>[INST] {message['content']} [/INST]"
