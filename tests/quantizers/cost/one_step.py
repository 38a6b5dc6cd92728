"""One training step by `Trainer`, started by torchrun: writes the weights and loss of process 0."""

import sys
from pathlib import Path

import torch
from accelerate import PartialState
from safetensors.torch import save_file
from transformers import HfArgumentParser, Trainer, TrainingArguments

from cost_hf.quantizers.training.trainer import as_dataset
from tests.quantizers.cost.toys import item_vectors, tiny_model

GLOBAL_BATCH = 32


def main() -> None:
    (arguments,) = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses(sys.argv[1:])
    arguments.per_device_train_batch_size = GLOBAL_BATCH // arguments.world_size
    items = item_vectors(2 * GLOBAL_BATCH)
    items[1::9] = items[0]  # duplicates, which must be masked across processes too
    model = tiny_model(input_norm="l2")
    trainer = Trainer(model=model, args=arguments, train_dataset=as_dataset({"item_embeddings": items}))
    losses: list[torch.Tensor] = []
    model.register_forward_hook(lambda _module, _inputs, output: losses.append(output.contrastive_loss.detach()))
    trainer.train()
    loss = trainer.accelerator.reduce(losses[0], "mean")
    if arguments.process_index == 0:
        weights = {name: value.contiguous() for name, value in model.state_dict().items()}
        sizes = torch.tensor([arguments.world_size, GLOBAL_BATCH])
        save_file(weights | {"loss": loss.reshape(1), "sizes": sizes}, Path(arguments.output_dir) / "step.safetensors")


if __name__ == "__main__":
    main()
    PartialState().destroy_process_group()  # a process that exits with its group may abort
