"""The teacher of a generator: a method whose lists for the training positions become soft targets.

The lists are made by cross-fitting over users: the training users are divided into folds, and the positions of a fold
are listed by a method that was fitted to the training sequences and validation cases of all other folds. So no list has
seen its own target, or anything else of its user; the test part is not read at all. Items that are histories of their
own have no target: their lists are made by the method fitted to all users.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate import PartialState
from tqdm import tqdm

from cost_hf.data.splits import fold_of
from cost_hf.evaluation.ranking import length_batches
from cost_hf.files import content_digest
from cost_hf.generators.collation import pad_rows
from cost_hf.generators.distillation import ListTable, TeacherLists
from cost_hf.methods.base import Method, Workspace
from cost_hf.methods.generative.teacher_method import teacher_method
from cost_hf.methods.training_stages import ENCODER
from cost_hf.recommenders.rankers import takes_user_ids
from cost_hf.stages import Stages, source_digest_of

if TYPE_CHECKING:
    from cost_hf.generators.options import TrainingOptions
    from cost_hf.recommenders.base import Recommender

STAGE = "teacher"
ALL = "all"  # of the teacher that is fitted to every user
PURPOSE = "teacher"  # of the folds of users
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
            "cost_hf.teacher.2",
            data.tables.items.drop(columns="title", errors="ignore").astype(str).to_dict("list"),
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
    width = options.teacher_items
    positions = ListTable.empty([len(rows) for rows in split.train], width=width, most=MAX_POSITIONS)
    items = np.arange(workspace.data.tables.num_items)[:, None]
    catalog = ListTable.empty([1] * len(items), width=width, most=1)
    folds = np.array([_fold_of(user, options.teacher_folds, workspace) for user in split.train_user_ids])
    users = [str(user) for user in split.train_user_ids]
    for fold in [*np.unique(folds).tolist(), None]:
        name = ALL if fold is None else str(fold)
        own = fold_workspace(workspace, folder / FOLDS / name, fold, options.teacher_folds)
        recommender = method.fit(own, seed=seed).recommender
        if is_main and fold is None:
            visible = np.flatnonzero(split.fit_rows(len(items)))
            list_items(recommender, catalog, visible, items, None, workspace, description="teacher on items")
        elif is_main:
            chosen = np.flatnonzero(folds == fold)
            list_items(recommender, positions, chosen, split.train, users, workspace, description=f"teacher {name}")
    PartialState().wait_for_everyone()  # nobody may still read what is removed
    if is_main:
        TeacherLists(positions, catalog).save(folder)
        shutil.rmtree(folder / FOLDS)


def _fold_of(user_id: str, folds: int, workspace: Workspace) -> int:
    return fold_of(user_id, folds, seed=workspace.data_seed, purpose=PURPOSE)


def fold_workspace(workspace: Workspace, directory: Path, fold: int | None, folds: int) -> Workspace:
    """Return a workspace without the users of a fold, and without test cases, in a run directory of its own.

    Args:
        workspace: of the generator.
        directory: of the run.
        fold: number of the fold; None leaves no user out.
        folds: how many there are.
    """
    data = workspace.data
    split = data.split.fitting_part(lambda user: _fold_of(user, folds, workspace) != fold)
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
    recommender: Recommender,
    table: ListTable,
    chosen: np.ndarray,
    sequences: Sequence[np.ndarray] | np.ndarray,
    user_ids: Sequence[str] | None,
    workspace: Workspace,
    *,
    description: str,
) -> None:
    """Write a fitted teacher's lists for the positions of some sequences, seen items allowed.

    Items that fitting may not see are in no list.

    Args:
        recommender: over the items of the data.
        table: filled in place.
        chosen: numbers of the sequences.
        sequences: catalog rows, oldest first.
        user_ids: of the sequences; None for sequences of nobody.
        workspace: of the generator.
        description: label of the progress bar.
    """
    owners: list[int] = []
    histories: list[np.ndarray] = []
    rows: list[int] = []
    for sequence in chosen.tolist():
        first = int(table.firsts[sequence])
        start = int(table.starts[sequence])
        count = max(len(sequences[sequence]) + 1 - first, 0)
        owners += [sequence] * count
        histories += [sequences[sequence][: first + number] for number in range(count)]
        rows += range(start, start + count)
    split = workspace.data.split
    mask = None
    if len(split.cold_items):
        mask = torch.from_numpy(split.fit_rows(workspace.data.tables.num_items))
    width = table.items.shape[1]
    ranker: Any = recommender.ranker_for(width)
    batches = length_batches(np.array([len(history) for history in histories]), workspace.evaluation.batch_size)
    for batch in tqdm(batches, desc=description, leave=None):
        users = {}
        if user_ids is not None and takes_user_ids(ranker):
            users = {"user_ids": [user_ids[owners[case]] for case in batch]}
        matrix = pad_rows([histories[case] for case in batch])
        ranking = ranker.rank(matrix, top_k=width, mask=mask, **users)
        places = np.array(rows)[batch]
        table.items[places, : ranking.items.shape[1]] = ranking.items.cpu().numpy()
        table.scores[places, : ranking.scores.shape[1]] = ranking.scores.float().cpu().numpy()
