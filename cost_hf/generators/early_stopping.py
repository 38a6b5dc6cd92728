"""Early stopping that ends a run at the same checkpoint whether or not it was killed.

`Trainer` clears its stop flag when it begins to train. A run killed between its last validation and its end would go
on from there, and might find a better checkpoint than the undisturbed run ever saw.
"""

from typing import Any

from transformers import EarlyStoppingCallback, TrainerControl, TrainerState, TrainingArguments


class ResumableEarlyStopping(EarlyStoppingCallback):
    """The stock callback, whose patience once used up stays so in a continued run."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Stop a run whose patience was at its end in the checkpoint (after one step, which counts for nothing)."""
        super().on_train_begin(args, state, control, **kwargs)
        control.should_training_stop |= self._is_over

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Neither judge nor keep that one step."""
        if self._is_over:
            control.should_evaluate = control.should_save = False

    @property
    def _is_over(self) -> bool:
        return self.early_stopping_patience_counter >= self.early_stopping_patience
