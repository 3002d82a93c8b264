"""Say what somebody looks at next: `python -m examples.recommend.recommend shop.gguf ITEM ... [--top 5]`."""

from __future__ import annotations

import argparse
from typing import Any

import edgeformer
import numpy as np


def next_items(model: Any, history: list[str], top: int) -> list[tuple[str, float]]:
    """The likeliest items that are not in the history, and their share of all that is not.

    Raises
    ------
    SystemExit
        The model does not know an item.
    """
    tokenizer = model.tokenizer
    ids = model.tokenize(" ".join(history))
    unknown = [item for item, token in zip(history, ids[1:], strict=True) if token == tokenizer.unk_token_id]
    if unknown:
        raise SystemExit(f"the model does not know {', '.join(unknown)}")
    logits = model.logits(ids[:1] + ids[1:][1 - model.session.n_ctx :])[-1].astype(np.float64)
    logits[[*tokenizer.control_token_ids, *ids]] = -np.inf
    shares = np.exp(logits - logits.max())
    best = [token for token in np.argsort(-shares, kind="stable")[:top] if np.isfinite(logits[token])]
    return [(tokenizer.token(int(token)), float(shares[token] / shares.sum())) for token in best]


def main() -> None:
    """Read the command line and print a line for each item."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="what edgeformer convert has written")
    parser.add_argument("items", nargs="+", help="what was looked at, in order")
    parser.add_argument("--top", type=int, default=5)
    options = parser.parse_args()
    with edgeformer.load(options.model) as model:
        for item, share in next_items(model, options.items, options.top):
            print(f"{share:6.1%}  {item}")


if __name__ == "__main__":
    main()
