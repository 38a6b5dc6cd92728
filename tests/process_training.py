"""Training of one model after the other in the processes of torchrun; started by test_two_processes.py.

    python -m torch.distributed.run … -m tests.process_training DIRECTORY BACKBONE NAME …

A name is one of `NAMES`, or `cost` for codes. With `sharded-` before it, the launch is that of
`cost_hf/recipes/accelerate/fsdp.yaml`, which spreads weights over the processes; with `uneven-`, the processes can't
share the users evenly; with `stopped-`, the training is stopped in its second epoch and begun again.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from accelerate import DistributedType, PartialState
from accelerate.state import AcceleratorState
from safetensors.torch import save_file
from torch.distributed.tensor import DTensor

from cost_hf.data.splits import Targets
from cost_hf.evaluation.ranking import evaluate_ranker, per_user_metrics
from cost_hf.files import write_json
from cost_hf.generators.backbones import build_backbone
from cost_hf.generators.generator_training import train_generator
from cost_hf.generators.options import AdapterOptions, GeneratorOptions, TrainingOptions
from cost_hf.generators.ranking_trainer import RankingTrainer
from cost_hf.methods.sasrec.modeling_sasrec import SasRecModel
from cost_hf.methods.sasrec.options import SasRecOptions
from cost_hf.methods.sasrec.training import build_model, train_sequences
from cost_hf.quantizers.fit import CodesResult
from cost_hf.recommenders.beam_ranker import BeamRanker
from cost_hf.recommenders.dense import DenseScorer
from cost_hf.recommenders.rankers import ScoringRanker
from cost_hf.semantic_ids.trie import SidTrie
from cost_hf.sharding import LAUNCH, ShardedModel
from tests.quantizers.fit_toy import fit_toy
from tests.recommenders.toys import toy_catalog
from tests.runs import ROOT

ITEMS = 40
CATALOG = toy_catalog(ITEMS, (8, 8))
GLOBAL_BATCH = 16
LORA = AdapterOptions(r=4, target_modules=["q_proj", "v_proj"], dropout=0.0)
GENERATORS: dict[str, tuple[dict[str, Any], AdapterOptions | None]] = {
    "causal": ({"size": "tiny"}, None),
    "t5": ({"kind": "seq2seq", "size": "tiny"}, None),
    "full": ({"prompt": "continuation"}, None),
    "lora": ({"prompt": "continuation"}, LORA),
}
DENSE = "sasrec"
CODES = "cost"
NAMES = [*GENERATORS, DENSE]
SHARDED, UNEVEN, STOPPED = "sharded-", "uneven-", "stopped-"


def launch_sharded() -> None:
    """Make this process one of an FSDP launch, which accelerate has for devices alone, on CPUs."""
    content = yaml.safe_load((ROOT / "cost_hf" / "recipes" / "accelerate" / "fsdp.yaml").read_text())
    for name, value in content["fsdp_config"].items():
        os.environ[f"FSDP_{name.removeprefix('fsdp_').upper()}"] = str(value)
    os.environ[LAUNCH] = "true"
    stock = AcceleratorState.__init__

    def init(self: AcceleratorState, *args: Any, fsdp_plugin: Any = None, **kwargs: Any) -> None:
        stock(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
        if fsdp_plugin is not None:
            self.distributed_type = PartialState._shared_state["distributed_type"] = DistributedType.FSDP
            self.fsdp_plugin = fsdp_plugin

    AcceleratorState.__init__ = init


@contextmanager
def counted_weights() -> Iterator[list[list[int]]]:
    """Yield a list that gets, at every gathering, how many weights this process held before, and how many there are."""
    held: list[list[int]] = []
    gather = ShardedModel.gather

    def counting(sharded: ShardedModel) -> Any:
        weights = list(sharded.trained.parameters())
        own = [weight.to_local() if isinstance(weight, DTensor) else weight for weight in weights]
        held.append([sum(map(torch.numel, own)), sum(map(torch.numel, weights))])
        return gather(sharded)

    ShardedModel.gather = counting
    try:
        yield held
    finally:
        ShardedModel.gather = gather


class Stopped(Exception):
    """Ends a training at a validation, as a kill of all processes would."""


@contextmanager
def stopping(at: int) -> Iterator[None]:
    """Stop at a validation, counted from 1."""
    evaluate = RankingTrainer.evaluate
    calls: list[None] = []

    def stopped(trainer: RankingTrainer, *args: Any, **kwargs: Any) -> dict[str, float]:
        calls.append(None)
        if len(calls) == at:
            raise Stopped
        return evaluate(trainer, *args, **kwargs)

    RankingTrainer.evaluate = stopped
    try:
        yield
    finally:
        RankingTrainer.evaluate = evaluate


def ndcg(ranker: Any) -> dict[str, float]:
    """Rank a few cases in batches of two, five of them: one process searches more often than the other."""
    users = np.array([f"u{user}" for user in range(9)], dtype=object)
    cases = Targets(users, [np.array([user, user + 3]) for user in range(9)], np.arange(9) + 6)
    lists = evaluate_ranker(
        ranker, cases, sid_keys=None, num_items=ITEMS, exclude_seen=False, top_k=10, batch_size=2, progress=False
    )
    return {"ndcg@10": float(per_user_metrics(lists.item_rank, [10])["ndcg@10"].mean())}


def train_generator_of(kind: str, backbone_directory: str, users: list[Any], directory: Path) -> tuple[Any, list[Any]]:
    fields, adapter = GENERATORS[kind]
    is_pretrained = kind in ("full", "lora")
    options = GeneratorOptions(
        **fields,
        backbone=backbone_directory if is_pretrained else None,
        max_history=5,
        dropout=None if is_pretrained else 0.0,
    )
    backbone = build_backbone(options, CATALOG, seed=0, adapter=adapter)
    prompts = backbone.prompts(CATALOG)
    trie = SidTrie.from_catalog(CATALOG, popularity=np.ones(ITEMS))
    trained = train_generator(
        backbone,
        prompts,
        users,
        ["u"] * len(users),
        generator=options,
        training=TrainingOptions(**training_fields()),
        validate=lambda model: ndcg(BeamRanker(model, prompts[0], trie, num_beams=10)),
        output_dir=directory,
        seed=0,
    )
    return backbone.model, trained.history


def train_dense(users: list[Any], directory: Path) -> tuple[Any, list[Any]]:
    """Train a SASRec whose loss is over the whole catalog, which draws nothing at random."""
    options = SasRecOptions()
    for name, value in {"inputs": "ids", "loss": "cross_entropy", "dropout": 0.0, "hidden_size": 16}.items():
        setattr(options.model, name, value)
    for name, value in training_fields().items():
        setattr(options.training, name, value)
    model = build_model(SasRecModel, options.model, num_items=ITEMS, text_dim=None, seed=0)
    trained = train_sequences(
        model,
        users,
        item_vectors=None,
        options=options,
        validate=lambda found: ndcg(
            ScoringRanker(DenseScorer(found, None), popularity=np.ones(ITEMS), item_ids=CATALOG.item_ids)
        ),
        output_dir=directory,
        seed=0,
    )
    return trained.model, trained.history


def train_codes(directory: Path) -> tuple[Any, list[Any]]:
    fit_toy(str(directory), 4, "cost")
    PartialState().wait_for_everyone()
    result = CodesResult.load(directory)
    return result.model, list(result.history)


def training_fields() -> dict[str, Any]:
    batch = GLOBAL_BATCH // PartialState().num_processes
    return {"epochs": 2, "batch_size": batch, "warmup_steps": 1, "learning_rate": 1e-2, "precision": "fp32"}


def train(directory: Path, name: str, backbone_directory: str) -> None:
    """Train a model and write its weights as each process has them, its log, and how many weights a process held."""
    kind = name.split("-")[-1]
    count = 37 if UNEVEN in name else 2 * GLOBAL_BATCH
    # sequences of different lengths: the halves of a batch have differently many labels
    users = [(start + np.arange(3 + start % 4)) % ITEMS for start in range(count)]

    def run() -> tuple[Any, list[Any]]:
        if kind == DENSE:
            return train_dense(users, directory / name)
        if kind == CODES:
            return train_codes(directory / name)
        return train_generator_of(kind, backbone_directory, users, directory / name)

    with counted_weights() as held:
        if STOPPED in name:
            with suppress(Stopped), stopping(at=2):
                run()
        model, log = run()
    rank = PartialState().process_index
    weights = {key: value.detach().clone().contiguous() for key, value in model.state_dict().items()}
    save_file(weights, directory / f"{name}-{rank}.safetensors")
    if rank == 0:
        write_json(directory / f"{name}.json", {"log": log[:-1], "held": held})


def main() -> None:
    directory, backbone, *names = sys.argv[1:]
    PartialState(cpu=True)
    for name in names:
        if SHARDED in name and LAUNCH not in os.environ:
            launch_sharded()
        train(Path(directory), name, backbone)
        PartialState().wait_for_everyone()
    PartialState().destroy_process_group()  # a process that exits with its group may abort


if __name__ == "__main__":
    main()
