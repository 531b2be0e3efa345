"""Command line of the demo's models; run with the Python of locks/ml.lock.

python -m sandbox.models store DIR [--fresh]              everything a store needs (trains what is not cached)
python -m sandbox.models train [--fresh]                  train into the cache; prints the directory
python -m sandbox.models base OUT
python -m sandbox.models adapter BASE OUT --kind good|shuffled
python -m sandbox.models broken ADAPTER OUT --kind nan|other-base|rank-too-high|loud
python -m sandbox.models data OUT.jsonl --split train|calibration|eval --count N
"""

import argparse
import os
from pathlib import Path

# Before torch is imported: threads that wait busily make training three times slower on shared cores.
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


def main() -> None:
    """Parse and run one command."""
    options = _parser().parse_args()
    if options.command in ("base", "adapter"):
        _train_one(options)
        return
    from sandbox.models import broken, store

    if options.command == "store":
        store.lay_out(options.out, fresh=options.fresh)
    elif options.command == "train":
        print(store.trained_models(fresh=options.fresh))
    elif options.command == "broken":
        broken.break_adapter(options.adapter, options.out, options.kind)
    else:
        store.write_examples(options.out, options.split, options.count)


def _train_one(options: argparse.Namespace) -> None:
    from sandbox.models import training

    if options.command == "base":
        training.train_base(options.out)
    else:
        training.train_adapter(options.base, options.out, options.kind)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sandbox.models", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    store = commands.add_parser("store")
    store.add_argument("out", type=Path)
    train = commands.add_parser("train")
    for command in (store, train):
        command.add_argument("--fresh", action="store_true", help="train again, whatever the cache holds")
    commands.add_parser("base").add_argument("out", type=Path)
    adapter = commands.add_parser("adapter")
    adapter.add_argument("base", type=Path)
    adapter.add_argument("out", type=Path)
    adapter.add_argument("--kind", choices=["good", "shuffled"], default="good")
    broken = commands.add_parser("broken")
    broken.add_argument("adapter", type=Path)
    broken.add_argument("out", type=Path)
    broken.add_argument("--kind", choices=["nan", "other-base", "rank-too-high", "loud"], required=True)
    data = commands.add_parser("data")
    data.add_argument("out", type=Path)
    data.add_argument("--split", choices=["train", "calibration", "eval"], default="eval")
    data.add_argument("--count", type=int, default=200)
    return parser


if __name__ == "__main__":
    main()
