from __future__ import annotations

import pytest
import torch
from train_data import batches, documents

from tillage.train.tokens import Tokenizer, TokenStore

# Two test threads that spin against other work are slower than one.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return Tokenizer.train([d["text"] for d in documents(120)], 384)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> TokenStore:
    return TokenStore.write(tmp_path_factory.mktemp("store") / "s", batches(documents(240)), tokenizer)
