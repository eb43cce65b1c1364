"""lm-evaluation-harness (Gao et al., EleutherAI) on models of the trainer, with tasks from local files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tillage.core.errors import UserError
from tillage.train.causal import CausalModel
from tillage.train.losses import IGNORE, token_losses
from tillage.train.tokenizer import Tokenizer

EXTRA = 'pip install "tillage[eval]"'


class TextScorer:
    """What the harness asks of a model: log-likelihoods of texts, and text after text.

    Args:
        model: in the mode for evaluation, on any device. tokenizer: of the store that it was trained on.
        batch: texts at once.
    """

    def __init__(self, model: CausalModel, tokenizer: Tokenizer, batch: int = 16) -> None:
        self.model, self.tokenizer, self.batch = model, tokenizer, batch
        self.device = next(model.parameters()).device

    def continuations(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[float, bool]]:
        """Of each (context, continuation): log-likelihood of the continuation in nats, and whether it is what
        greedy decoding gives. Of what is longer than the model reads the beginning is cut off."""
        rows = [self._pair(context, text) for context, text in pairs]
        found: list[tuple[float, bool]] = [(0.0, True)] * len(rows)
        order = sorted(range(len(rows)), key=lambda i: -len(rows[i][0]))
        for low in range(0, len(order), self.batch):
            chosen = order[low : low + self.batch]
            width = max(len(rows[i][0]) for i in chosen)
            ids = np.full((len(chosen), width), self.tokenizer.eos, dtype=np.int64)
            goals = np.full_like(ids, IGNORE)
            for row, i in enumerate(chosen):
                tokens, count = rows[i]
                ids[row, : len(tokens) - 1] = tokens[:-1]
                goals[row, len(tokens) - 1 - count : len(tokens) - 1] = tokens[len(tokens) - count :]
            inputs, targets = (torch.from_numpy(x).to(self.device) for x in (ids, goals))
            with torch.no_grad():
                logits = self.model(inputs)
                nats = token_losses(logits, targets).sum(1).tolist()
                right = ((logits.argmax(-1) == targets) | (targets == IGNORE)).all(1).tolist()
            for i, value, same in zip(chosen, nats, right, strict=True):
                found[i] = (-float(value), bool(same))
        return found

    def whole(self, texts: Sequence[str]) -> list[float]:
        """Log-likelihood of each text in nats, in windows of what the model reads that do not overlap."""
        found: list[float] = []
        for text in texts:
            tokens = [self.tokenizer.eos, *self._encode(text)]
            total = 0.0
            for low in range(0, len(tokens) - 1, self.model.seq_len):
                part = torch.tensor([tokens[low : low + self.model.seq_len + 1]], device=self.device)
                with torch.no_grad():
                    total -= float(token_losses(self.model(part[:, :-1]), part[:, 1:]).sum())
            found.append(total)
        return found

    def generate(self, context: str, stops: Sequence[str], most: int) -> str:
        """Greedy text after `context`, up to the first of `stops`, the end of text or `most` tokens."""
        tokens = self._encode(context) or [self.tokenizer.eos]
        begin = len(tokens)
        for _ in range(most):
            window = torch.tensor([tokens[-self.model.seq_len :]], device=self.device)
            with torch.no_grad():
                following = int(self.model(window)[0, -1].argmax())
            if following == self.tokenizer.eos:
                break
            tokens.append(following)
            said = self.tokenizer.decode(tokens[begin:])
            if any(stop in said for stop in stops):
                return said[: min(said.index(stop) for stop in stops if stop in said)]
        return self.tokenizer.decode(tokens[begin:])

    def _encode(self, text: str) -> list[int]:
        return [int(token) for token in self.tokenizer.encode([text])[0]]

    def _pair(self, context: str, text: str) -> tuple[list[int], int]:
        """Tokens of both, and how many at the end belong to the continuation, at least one."""
        # Spaces belong to the word that follows, as the tokenizer writes them.
        kept = context.rstrip()
        text = context[len(kept) :] + text
        before = self._encode(kept) if kept else [self.tokenizer.eos]
        both = self._encode(kept + text) if kept else [*before, *self._encode(text)]
        count = min(max(len(both) - len(before), 1), self.model.seq_len)
        return both[-(self.model.seq_len + 1) :], count


def evaluate_tasks(
    model: CausalModel, tokenizer: Tokenizer, folder: str | Path, tasks: Sequence[str],
    limit: int | None = None, batch: int = 16,
) -> dict[str, Any]:  # fmt: skip
    """Results of lm-evaluation-harness by task.

    Args:
        folder: where the YAML files of the tasks are (with `dataset_path: json` and `data_files` on this
            machine); the tasks that the harness brings along read from a network and are left out.
        limit: items of each task.

    Raises:
        UserError: the extra is missing, or there is no such task.
    """
    try:
        from lm_eval.api.model import LM  # pyright: ignore[reportMissingImports]
        from lm_eval.evaluator import simple_evaluate  # pyright: ignore[reportMissingImports]
        from lm_eval.tasks import TaskManager  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError("evaluation by tasks needs lm-evaluation-harness", hint=EXTRA) from error
    scorer = TextScorer(model, tokenizer, batch)

    class Harness(LM):  # pyright: ignore[reportUntypedBaseClass]
        def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
            return scorer.continuations([r.args for r in requests])

        def loglikelihood_rolling(self, requests: list[Any]) -> list[float]:
            return scorer.whole([r.args[0] for r in requests])

        def generate_until(self, requests: list[Any]) -> list[str]:
            said: list[str] = []
            for context, options in (r.args for r in requests):
                stops = options.get("until") or []
                stops = [stops] if isinstance(stops, str) else stops
                said.append(scorer.generate(context, stops, int(options.get("max_gen_toks", 64))))
            return said

    manager: Any = TaskManager(include_path=str(folder), include_defaults=False)
    missing = [task for task in tasks if task not in manager.all_tasks]
    if missing:
        raise UserError(
            "there is no such task",
            where=folder,
            got=", ".join(missing),
            expected=", ".join(manager.all_tasks),
        )
    found: Any = simple_evaluate(
        model=Harness(), tasks=list(tasks), task_manager=manager, limit=limit, bootstrap_iters=0
    )
    return dict(found["results"])
