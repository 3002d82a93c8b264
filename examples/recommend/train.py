"""Train a recommender on visits, a minute or two on one core, and say how often the next item is among its first ten.

    python -m examples.recommend.train --out shop
    edgeformer convert shop shop.gguf
    python -m examples.recommend.recommend shop.gguf crime-a-volume-1 crime-a-volume-2

Needs torch. `--data FILE.csv` (columns user, item, time) takes your own visits instead of made-up ones.
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from pathlib import Path

import torch

from ..next_token import END, SPECIAL, START, NextToken, configuration, save, train
from . import visits

BEST = 10
WIDTH, LAYERS, LENGTH = 32, 2, 64


def hit_rates(model: NextToken, users: list[list[int]], popular: list[int]) -> tuple[float, float]:
    """How often a user's last item is among the ten likeliest that the user has not seen; and among the most popular
    ten.
    """
    hits = by_popularity = 0
    with torch.no_grad():
        for seen in users:
            *history, last = seen
            logits = model(torch.tensor([[START, *history][-LENGTH:]]))[0, -1]
            logits[[*range(len(SPECIAL)), *history]] = -torch.inf
            hits += last in logits.topk(BEST).indices.tolist()
            by_popularity += last in [item for item in popular if item not in history][:BEST]
    return hits / len(users), by_popularity / len(users)


def main() -> None:
    """Read or make up visits, train, write the folder, say how good it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    parser.add_argument("--data", type=Path, help="a CSV file with the columns user, item, time")
    parser.add_argument("--steps", type=int, default=400)
    options = parser.parse_args()
    users = visits.read_csv(options.data) if options.data else visits.made_up(4000)
    users = [items for items in users if len(items) > 1]
    items = sorted({item for seen in users for item in seen})
    ids = {item: len(SPECIAL) + number for number, item in enumerate(items)}
    random.Random(1).shuffle(users)
    sequences = [[ids[item] for item in seen] for seen in users]
    count = max(1, len(sequences) // 10)
    kept, held_out = sequences[count:], sequences[:count]
    config = configuration(items, WIDTH, LAYERS, LENGTH)
    model = train([[*seen, END] for seen in kept], config, options.steps)
    save(model, config, items, options.out)
    popular = [item for item, _ in Counter(item for seen in kept for item in seen).most_common()]
    ours, theirs = hit_rates(model, held_out, popular)
    print(f"{len(items)} items; the last item of {len(held_out)} users who were not shown is among the first {BEST}:")
    print(f"  {ours:.1%} of the model's, {theirs:.1%} of the most popular")


if __name__ == "__main__":
    main()
