"""The teacher of a generator: a method whose lists for the training positions become soft targets.

The lists are made by cross-fitting over users: the training users are divided into folds, and the positions of a fold
are listed by a method that was fitted to the training sequences and validation cases of all other folds. So no list has
seen its own target, or anything else of its user; the test part is not read at all.
"""

from __future__ import annotations

import dataclasses
import shutil
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate import PartialState
from tqdm import tqdm

from cost_hf.data.splits import Targets, fold_of
from cost_hf.evaluation.ranking import length_batches
from cost_hf.files import content_digest
from cost_hf.generators.distillation import TeacherLists
from cost_hf.methods.base import Method, Workspace
from cost_hf.methods.generative.teacher_method import teacher_method
from cost_hf.methods.training_stages import ENCODER
from cost_hf.recommenders.rankers import takes_user_ids
from cost_hf.stages import Stages, source_digest_of

if TYPE_CHECKING:
    from cost_hf.generators.options import TrainingOptions
    from cost_hf.recommenders.base import Recommender

STAGE = "teacher"
FOLDS = "folds"  # run directories of the fitted teachers, until the lists are finished
MAX_POSITIONS = 100  # of a user, the last ones, that get a list


def teacher_stage(workspace: Workspace, options: TrainingOptions, *, seed: int) -> None:
    """Make the lists in a stage of its own; nothing without a teacher."""
    if not options.has_teacher:
        return
    data = workspace.data
    name = str(options.teacher)
    found = source_digest_of(name)
    if found is not None and found != data.tables.source_digest:
        raise ValueError(
            f"training.teacher {name!r} is a run on other data (digest {found}, these data have "
            f"{data.tables.source_digest}); name a run on the same tables, or its recipe.yaml to fit it to these"
        )
    method = teacher_method(name)
    workspace.stages.run(
        workspace.stage_of(STAGE),
        digest=content_digest(
            data.tables.items["item_id"].tolist(),
            data.tables.digest,
            data.split.digest,
            workspace.data_seed,
            workspace.text_vectors().digest,
            method.name,
            dataclasses.asdict(method.options),
            method.input_parts(),
            [workspace.evaluation.num_beams, workspace.evaluation.validation_users],
            [options.teacher_items, options.teacher_folds, MAX_POSITIONS],
            seed,
        ),
        folder=workspace.folder_of(STAGE),
        compute=lambda folder: _write_lists(method, workspace, options, folder, seed=seed),
        load=TeacherLists.load,
        on_every_process=True,
        shared_as=STAGE,
    )


def teacher_parts(workspace: Workspace, options: TrainingOptions) -> list[Any]:
    """Return what the lists depend on, for the digest of the stage that learns from them."""
    return [workspace.stages.digests[workspace.stage_of(STAGE)]] if options.has_teacher else []


def teacher_lists(workspace: Workspace, options: TrainingOptions) -> TeacherLists | None:
    """Return the lists that `teacher_stage` made; None without a teacher."""
    if not options.has_teacher:
        return None
    return TeacherLists.load(workspace.stages.output_dir / workspace.folder_of(STAGE))


def _write_lists(
    method: Method[Any], workspace: Workspace, options: TrainingOptions, folder: Path, *, seed: int
) -> None:
    split = workspace.data.split
    is_main = PartialState().is_main_process
    lists = TeacherLists.empty([len(rows) for rows in split.train], width=options.teacher_items, most=MAX_POSITIONS)
    folds = np.array([fold_of(user, options.teacher_folds, seed=workspace.data_seed) for user in split.train_user_ids])
    for fold in np.unique(folds).tolist():
        own = fold_workspace(workspace, folder / FOLDS / str(fold), fold, options.teacher_folds)
        recommender = method.fit(own, seed=seed).recommender
        if is_main:
            sequences = np.flatnonzero(folds == fold)
            list_items(recommender, lists, sequences, workspace, description=f"teacher {fold + 1}/{len(set(folds))}")
    PartialState().wait_for_everyone()  # nobody may still read what is removed
    if is_main:
        lists.save(folder)
        shutil.rmtree(folder / FOLDS)


def fold_workspace(workspace: Workspace, directory: Path, fold: int, folds: int) -> Workspace:
    """Return a workspace without the users of a fold, and without test cases, in a run directory of its own.

    Args:
        workspace: of the generator.
        directory: of the run.
        fold: number of the fold.
        folds: how many there are.
    """
    data = workspace.data
    split = data.split.fitting_part(lambda user: fold_of(user, folds, seed=workspace.data_seed) != fold)
    if len(split.train) == 0 or len(split.validation) == 0:
        raise ValueError(
            f"a teacher is fitted to the other users' clicks, and without the users of fold {fold} there are "
            f"{len(split.train)} training users and {len(split.validation)} validation cases left; use more users, or "
            "set training.teacher to null"
        )
    vectors = workspace.text_vectors()
    encoder = workspace.stages.output_dir / ENCODER
    if PartialState().is_main_process:
        shutil.copytree(encoder, directory / ENCODER, dirs_exist_ok=True)  # methods look for it in their directory
    PartialState().wait_for_everyone()
    return dataclasses.replace(
        workspace,
        stages=Stages(directory, shared=workspace.stages.shared),
        data=dataclasses.replace(data, split=split),
        text_vectors=cache(lambda: vectors),
        row=None,
    )


def list_items(
    recommender: Recommender, lists: TeacherLists, sequences: np.ndarray, workspace: Workspace, *, description: str
) -> None:
    """Write a fitted teacher's lists for all positions of some sequences, seen items allowed.

    Args:
        recommender: over the items of the data.
        lists: filled in place.
        sequences: numbers of the training sequences.
        workspace: of the generator.
        description: label of the progress bar.
    """
    split = workspace.data.split
    owners: list[int] = []
    histories: list[np.ndarray] = []
    rows: list[int] = []
    for sequence in sequences.tolist():
        clicks = split.train[sequence]
        positions = range(int(lists.firsts[sequence]), len(clicks))
        owners += [sequence] * len(positions)
        histories += [clicks[:position] for position in positions]
        rows += range(int(lists.starts[sequence]), int(lists.starts[sequence]) + len(positions))
    cases = Targets(split.train_user_ids[owners], histories, np.full(len(rows), -1))
    width = lists.items.shape[1]
    ranker: Any = recommender.ranker_for(width)
    batches = length_batches(np.array([len(history) for history in histories]), workspace.evaluation.batch_size)
    for batch in tqdm(batches, desc=description, leave=None):
        users = {"user_ids": [str(cases.user_ids[case]) for case in batch]} if takes_user_ids(ranker) else {}
        ranking = ranker.rank(torch.from_numpy(cases.histories_matrix(batch)), top_k=width, **users)
        places = np.array(rows)[batch]
        lists.items[places, : ranking.items.shape[1]] = ranking.items.cpu().numpy()
        lists.scores[places, : ranking.scores.shape[1]] = ranking.scores.float().cpu().numpy()
