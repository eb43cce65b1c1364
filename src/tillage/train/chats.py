"""Chats as tokens, and which of these are learned: the assistant's answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer as Bpe

from tillage.core.errors import UserError
from tillage.train.tokenizer import Tokenizer

ANSWERS = "assistant"
Message = Mapping[str, str]
Span = tuple[int, int]
Encoded = tuple[npt.NDArray[np.uint32], npt.NDArray[np.bool_]]


class ChatFormat(Protocol):
    """How a chat is written down."""

    name: str
    """Names the format in the fingerprint of a store."""
    ends: bool
    """Whether the end-of-text token after a chat is learned: where nothing else says that an answer is
    over."""

    def render(self, messages: Sequence[Message]) -> tuple[str, list[Span]]:
        """The text, and where in it the answers are: begin and end in characters."""
        ...


class PlainChat:
    """`User: ...`, `Assistant: ...`, with blank lines between, as text operators read chats; for models
    that know no markers of turns. A prompt for such a model ends with `Assistant:`."""

    name, ends = "plain", True

    def render(self, messages: Sequence[Message]) -> tuple[str, list[Span]]:
        text, spans = "", list[Span]()
        for message in messages:
            text += "\n\n" if text else ""
            text += f"{message['role'].capitalize()}: "
            begin = len(text)
            text += message["content"]
            if message["role"] == ANSWERS:
                spans.append((begin, len(text)))
        return text, spans


class TemplateChat:
    """The chat template of a Hugging Face model's folder, as its own tokenizer applies it.

    Args:
        template: another template, in Jinja, than that of the folder.

    Raises:
        UserError: the folder has no template.
    """

    ends = False

    def __init__(self, folder: str | Path, gguf: str | None = None, template: str | None = None) -> None:
        try:
            from transformers import AutoTokenizer
        except ImportError as error:
            raise UserError("chat templates need transformers", hint='pip install "tillage[hf]"') from error
        self._own: Any = AutoTokenizer.from_pretrained(folder, **({"gguf_file": gguf} if gguf else {}))
        if template is not None:
            self._own.chat_template = template
        if not self._own.chat_template:
            raise UserError("this model has no chat template", where=folder, hint="use the plain format")
        self.name = f"template {self._own.chat_template}"

    def render(self, messages: Sequence[Message]) -> tuple[str, list[Span]]:
        plain = [dict(m) for m in messages]
        text, spans = self._text(plain), list[Span]()
        for k, message in enumerate(plain):
            if message["role"] == ANSWERS:
                before, after = self._text(plain[:k], True), self._text(plain[: k + 1])
                if not (text.startswith(after) and after.startswith(before)):
                    raise UserError(
                        "this chat template rewrites earlier turns, so that answers cannot be found",
                        got=f"{len(plain)} messages", hint="use the plain format, or another template",
                    )  # fmt: skip
                spans.append((len(before), len(after)))
        return text, spans

    def _text(self, messages: list[dict[str, str]], ask: bool = False) -> str:
        said: str = self._own.apply_chat_template(messages, tokenize=False, add_generation_prompt=ask)
        return said


class ChatEncoder:
    """Chats to tokens with the mask of what is learned.

    The markers of a template are special tokens; the same characters inside a message are ordinary text, so
    that no data can end its own turn.
    """

    def __init__(self, tokenizer: Tokenizer, chat: ChatFormat) -> None:
        self.chat = chat
        self._plain = tokenizer
        self._marked = Bpe.from_str(tokenizer.json)
        self._marked.encode_special_tokens = False
        added = self._marked.get_added_tokens_decoder().values()
        self._special = [token.content for token in added if token.special]

    def encode(self, messages: Sequence[Message]) -> Encoded:
        """Tokens without end-of-text, and for each whether it is learned (a token that reaches into an answer
        is)."""
        text, spans = self.chat.render(messages)
        pieces = self._pieces(text, messages)
        ids: list[int] = []
        begins: list[int] = []
        ends: list[int] = []
        for begin, piece, ordinary in pieces:
            coder = self._plain.bpe if ordinary else self._marked
            encoded = coder.encode(piece, add_special_tokens=False)
            ids += encoded.ids
            begins += [begin + a for a, _ in encoded.offsets]
            ends += [begin + b for _, b in encoded.offsets]
        low, high = np.asarray(begins, dtype=np.int64), np.asarray(ends, dtype=np.int64)
        learned = np.zeros(len(ids), dtype=np.bool_)
        for begin, end in spans:
            learned |= (high > begin) & (low < end)
        return np.asarray(ids, dtype=np.uint32), learned

    def _pieces(self, text: str, messages: Sequence[Message]) -> list[tuple[int, str, bool]]:
        """The text in one piece; cut around messages where one holds a marker: (begin, piece, ordinary)."""
        if not any(mark in m["content"] for m in messages for mark in self._special):
            return [(0, text, False)]
        pieces: list[tuple[int, str, bool]] = []
        at = 0
        for message in messages:
            # Templates may trim a message; one that is not found as it is has been changed by the template.
            content = message["content"] if message["content"] in text[at:] else message["content"].strip()
            found = text.find(content, at)
            if found < 0:
                raise UserError(
                    "the chat template changes messages that hold its own markers", got=content[:80]
                )
            pieces += [(at, text[at:found], False), (found, content, True)]
            at = found + len(content)
        pieces.append((at, text[at:], False))
        return [piece for piece in pieces if piece[1]]
