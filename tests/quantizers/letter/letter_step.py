"""One training step with LETTER's collaborative term and balance, started by torchrun: writes process 0's weights."""

import sys
from pathlib import Path

from accelerate import PartialState
from safetensors.torch import save_file
from transformers import HfArgumentParser, TrainingArguments

from cost_hf.quantizers.letter import LetterOptions
from cost_hf.quantizers.letter.training import LetterTrainer
from cost_hf.quantizers.training.trainer import as_dataset
from tests.quantizers.cost.toys import item_vectors, tiny_model

GLOBAL_BATCH = 32


def main() -> None:
    (arguments,) = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses(sys.argv[1:])
    arguments.per_device_train_batch_size = GLOBAL_BATCH // arguments.world_size
    collaborative = item_vectors(2 * GLOBAL_BATCH, 6, seed=5)
    collaborative[::3] = 0  # as good as never equally many on both sides
    trainer = LetterTrainer(
        # which other codes diversity draws depends on the process
        options=LetterOptions(collaborative_weight=0.5, diversity_weight=0.0),
        seed=0,
        model=tiny_model(reconstruction_weight=1.0, contrastive_weight=0.0, sinkhorn_epsilon=0.01),
        args=arguments,
        train_dataset=as_dataset({"item_embeddings": item_vectors(2 * GLOBAL_BATCH), "collaborative": collaborative}),
    )
    trainer.train()
    if arguments.process_index == 0:
        weights = trainer.accelerator.unwrap_model(trainer.model).state_dict()
        weights = {name: value.contiguous() for name, value in weights.items()}
        save_file(weights, Path(arguments.output_dir) / "step.safetensors")


if __name__ == "__main__":
    main()
    PartialState().destroy_process_group()  # a process that exits with its group may abort
