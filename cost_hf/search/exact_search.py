"""Search that goes back to what a beam search pruned, until nothing there could be better than what it found.

Branch and bound over the trie: the first pass is a beam search; after it the prefixes that were pruned and still score
above the last answer are expanded, best first, with what they lead to. Answers only improve, so the bar only rises, and
only prefixes that a proof needs are expanded (up to the last round). The prompt is encoded once, and a prefix is fed
once: all tokens of a request are one row of the decoder's cache, each attending to its ancestors.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from cost_hf.search.beam_steps import DecodingSteps, LevelHead
from cost_hf.search.certificate import Beams, best_left, num_leaf_items, relative_rounding, surely_above
from cost_hf.search.protocol import LevelInputs
from cost_hf.semantic_ids.catalog_mask import TrieMask, log_legal
from cost_hf.semantic_ids.trie import SidTrie
from cost_hf.semantic_ids.vocabulary import SidVocabulary

BUDGET = 2000  # prefixes after the first pass
MIN_WIDTH = 32  # of the first pass: so many beams cost little more than ten, and mostly leave little to do
# prefixes that a later round feeds: of one request, since tokens of a row attend to each other at quadratic cost, and
# of all requests, since each needs logits of the whole vocabulary
MAX_WIDTH = 256
MAX_FED = 4096


def first_width(num_beams: int) -> int:
    """Return the beams of the first pass."""
    return max(num_beams, MIN_WIDTH)


def widened(
    steps: DecodingSteps,
    head: LevelHead,
    trie: SidTrie,
    vocabulary: SidVocabulary,
    num_beams: int,
    mask: TrieMask | None,
    level_inputs: LevelInputs | None,
    *,
    budget: int,
) -> Beams:
    """Return the leaves of the `num_beams` best items of every request, best first, and what is not proved of them.

    Args:
        steps, head, trie, vocabulary, num_beams, mask, level_inputs: as for the beam search.
        budget: prefixes of a request that are expanded at most after the first pass.
    """
    search = _Search(steps, head, trie, vocabulary, num_beams, mask, level_inputs)
    search.start()
    for depth in range(1, len(trie.level_sizes)):
        search.expand(*search.best_of_depth(depth, first_width(num_beams)))
    last = search.num_expanded + budget
    while search.can_improve(last):
        search.expand(*search.best(last))
    return search.result()


@dataclass(frozen=True, eq=False)
class _Prefixes:
    """Prefixes that were scored and not expanded, `[B, Q]` each.

    Attributes:
        scores: -inf where there is none; the other fields are then any valid ones.
        nodes: of the trie.
        depths: number of codes.
        tokens: last token.
        parents: column of the prefix without its last code among the tokens fed so far, -1 for none.
    """

    scores: Tensor
    nodes: Tensor
    depths: Tensor
    tokens: Tensor
    parents: Tensor

    @property
    def fields(self) -> tuple[Tensor, ...]:
        """All tensors, in the order of the arguments."""
        return self.scores, self.nodes, self.depths, self.tokens, self.parents

    def at(self, columns: Tensor) -> "_Prefixes":
        """Return the prefixes at columns `[B, n]`."""
        return _Prefixes(*(part.gather(1, columns) for part in self.fields))

    def joined(self, others: "_Prefixes") -> "_Prefixes":
        """Return these prefixes and others of the same requests."""
        pairs = zip(self.fields, others.fields, strict=True)
        return _Prefixes(*(torch.cat(pair, dim=1) for pair in pairs))


class _Search:
    """The state of a search; arguments are those of `widened`.

    Attributes:
        frontier: prefixes that may still be expanded.
        leaves, leaf_scores: the best ones so far, `[B, P]`, best first.
        bar: a prefix with a lower score leads to no item of the list, `[B]`.
        pruned: highest score of what was dropped, `[B]`.
        num_expanded: prefixes that were fed, `[B]`.
    """

    def __init__(
        self,
        steps: DecodingSteps,
        head: LevelHead,
        trie: SidTrie,
        vocabulary: SidVocabulary,
        num_beams: int,
        mask: TrieMask | None,
        level_inputs: LevelInputs | None,
    ):
        self.steps = steps
        self.head = head
        self.trie = trie
        self.offsets = vocabulary.level_offsets.tolist()
        self.num_beams = num_beams
        self.mask = mask
        self.level_inputs = level_inputs
        self.rounding = 0.0  # known from the first states
        self.requests = torch.arange(steps.batch, device=trie.device)
        none = self.requests[:, None].expand(-1, 0)
        self.fed_parents = none  # column of the parent of every token fed so far, -1 for first codes
        self.frontier = _Prefixes(none.float(), none, none, none, none)
        self.bar = torch.full((steps.batch,), -torch.inf, device=trie.device)
        self.leaves = torch.zeros_like(self.requests)[:, None]
        self.leaf_scores = self.bar[:, None]
        self.pruned = self.bar
        self.num_expanded = torch.zeros_like(self.requests)

    def start(self) -> None:
        """Score the first codes."""
        codes = torch.empty(self.steps.batch, 1, 0, dtype=torch.long, device=self.trie.device)
        hidden = self.steps.start(None if self.level_inputs is None else self.level_inputs(0, codes))
        self.rounding = relative_rounding(hidden.dtype)
        root = torch.zeros_like(self.requests)
        self._score_children(0, (self.requests, root), root, root.float(), hidden, first_column=-1)
        self._drop()

    def best_of_depth(self, depth: int, width: int) -> tuple[Tensor, Tensor]:
        """Return columns of the best prefixes of a depth, `[B, n]`, and where there is one."""
        scores = self.frontier.scores.where(self.frontier.depths == depth, -torch.inf)
        values, columns = scores.topk(min(width, scores.shape[1]), dim=1)
        return columns, values > -torch.inf

    def can_improve(self, last: Tensor) -> bool:
        """Tell whether a request has a prefix that could lead into its list and may expand it: up to `last` `[B]`."""
        return bool((self._is_open() & (self.num_expanded < last)[:, None]).any())

    def best(self, last: Tensor) -> tuple[Tensor, Tensor]:
        """Return columns of the best prefixes that could lead into the list, `[B, n]`, and where there is one."""
        room = (last - self.num_expanded)[:, None]
        scores = self.frontier.scores.where(self._is_open() & (room > 0), -torch.inf)
        most = min(MAX_WIDTH, max(1, MAX_FED // len(scores)), int((scores > -torch.inf).sum(1).max()), int(room.max()))
        values, columns = scores.topk(most, dim=1)
        return columns, (values > -torch.inf) & (torch.arange(most, device=scores.device) < room)

    def expand(self, columns: Tensor, is_wanted: Tensor) -> None:
        """Feed the prefixes at columns `[B, n]` of the frontier, and score their children where they are wanted."""
        if not is_wanted.any():
            return
        chosen = self.frontier.at(columns)
        left = self.frontier.scores.scatter(1, columns, chosen.scores.masked_fill(is_wanted, -torch.inf))
        self.frontier = _Prefixes(left, *self.frontier.fields[1:])
        first_column = self.fed_parents.shape[1]
        hidden = self.steps.feed(chosen.tokens, chosen.depths - 1, self._visible(chosen.parents), self._added(chosen))
        self.fed_parents = torch.cat([self.fed_parents, chosen.parents], dim=1)
        self.num_expanded = self.num_expanded + is_wanted.sum(1)
        for level in range(1, len(self.offsets)):
            requests, numbers = (is_wanted & (chosen.depths == level)).nonzero(as_tuple=True)
            if len(requests):
                lines = requests, numbers
                self._score_children(
                    level, lines, chosen.nodes[lines], chosen.scores[lines], hidden, first_column=first_column
                )
        self._drop()

    def result(self) -> Beams:
        """Return the leaves, and the best of everything else."""
        open_scores = best_left(self.frontier.scores, self.requests[:, None].expand(-1, 0))
        return Beams(
            self.leaves,
            self.leaf_scores,
            self._codes(self.leaves, len(self.offsets)),
            torch.maximum(self.pruned, open_scores),
            self.num_expanded,
            self.rounding,
        )

    def _is_open(self) -> Tensor:
        """Return which prefixes of the frontier could lead into the list, bool `[B, Q]`."""
        return (self.frontier.scores >= self.bar[:, None]) & (self.frontier.scores > -torch.inf)

    def _score_children(
        self,
        level: int,
        lines: tuple[Tensor, Tensor],
        nodes: Tensor,
        scores: Tensor,
        hidden: Tensor,
        *,
        first_column: int,
    ) -> None:
        """Add the children of prefixes of one depth to the frontier or to the leaves.

        Args:
            level: depth of the prefixes.
            lines: request and column in `hidden` of each, `[r]`.
            nodes, scores: of the prefixes, `[r]`.
            hidden: states that predict their children, `[B, n, d]`.
            first_column: column of the first of `hidden` among the tokens fed.
        """
        codes, children, legal = self.trie.children(level, nodes)  # [r, m]
        if self.mask is not None:
            legal = legal & self.mask.keeps_nodes(level, children, lines[0])
        log_probs = self.head.log_probs(hidden[lines][None], level)[0].gather(1, codes)
        values = log_probs + scores[:, None] + log_legal(legal, log_probs.dtype)
        shape = (*hidden.shape[:2], codes.shape[1])
        placed = _placed(shape, lines, values, -torch.inf)
        placed_nodes = _placed(shape, lines, children.long(), 0)
        if level + 1 == len(self.offsets):
            self._add_leaves(placed, placed_nodes)
            return
        parents = torch.arange(shape[1], device=codes.device) + first_column
        self.frontier = self.frontier.joined(
            _Prefixes(
                placed,
                placed_nodes,
                torch.full_like(placed_nodes, level + 1),
                _placed(shape, lines, codes + self.offsets[level], self.offsets[level]),
                parents[None, :, None].expand(shape).flatten(1),
            )
        )

    def _add_leaves(self, scores: Tensor, leaves: Tensor) -> None:
        """Keep the best leaves, and raise the bar to the last one that the list needs."""
        scores = torch.cat([self.leaf_scores, scores], dim=1)
        leaves = torch.cat([self.leaves, leaves], dim=1)
        self.leaf_scores, best = scores.topk(min(self.num_beams, scores.shape[1]), dim=1)
        self.leaves = leaves.gather(1, best)
        self.pruned = torch.maximum(self.pruned, best_left(scores, best))
        counts = num_leaf_items(self.trie, self.leaves, self.leaf_scores, self.mask, most=self.num_beams)
        fills = counts.cumsum(1) >= self.num_beams
        last = self.leaf_scores.gather(1, fills.int().argmax(1, keepdim=True))[:, 0]
        self.bar = surely_above(last, self.rounding).where(fills.any(1), -torch.inf)

    def _drop(self) -> None:
        """Drop the prefixes of the frontier that can't lead into the list."""
        is_open = self._is_open()
        order = self.frontier.scores.where(is_open, -torch.inf)
        best = order.topk(int(is_open.sum(1).max()), dim=1).indices
        kept = self.frontier.at(best)
        self.pruned = torch.maximum(self.pruned, best_left(self.frontier.scores, best))
        self.frontier = kept

    def _visible(self, parents: Tensor) -> Tensor:
        """Return ancestors among the tokens fed, and itself, of new tokens with these parents; bool `[B, n, F + n]`."""
        batch, width = parents.shape
        fed = self.fed_parents.shape[1]
        # the additional column takes the ancestors that a short prefix does not have
        visible = torch.zeros(batch, width, fed + 1, dtype=torch.bool, device=parents.device)
        ancestors = parents
        for _ in range(len(self.offsets) - 2):
            has_one = ancestors >= 0
            visible.scatter_(2, ancestors.where(has_one, fed)[..., None], True)
            if fed:
                ancestors = self.fed_parents.gather(1, ancestors.clamp_min(0)).where(has_one, -1)
        own = torch.eye(width, dtype=torch.bool, device=parents.device).expand(batch, -1, -1)
        return torch.cat([visible[..., :fed], own], dim=2)

    def _added(self, chosen: _Prefixes) -> Tensor | None:
        """Return what the model's `level_inputs` adds to the embeddings of the last tokens, `[B, n, d]`."""
        added: Tensor | None = None
        if self.level_inputs is None:
            return added
        for depth in range(1, len(self.offsets)):
            is_here = chosen.depths == depth
            part = self.level_inputs(depth, self._codes(chosen.nodes.where(is_here, 0), depth))
            if part is not None:
                part = part.where(is_here[..., None], 0)
                added = part if added is None else added + part
        return added

    def _codes(self, nodes: Tensor, depth: int) -> Tensor:
        """Return the codes of nodes `[B, n]` of a depth, `[B, n, depth]`."""
        codes = []
        path = nodes.flatten()
        for level in range(depth - 1, -1, -1):
            codes.append(self.trie.codes[level][path].long())
            path = self.trie.ranges[level].parents(path)
        return torch.stack(codes[::-1], dim=-1).view(*nodes.shape, depth)


def _placed(shape: tuple[int, ...], lines: tuple[Tensor, Tensor], values: Tensor, fill: float) -> Tensor:
    """Return `values` `[r, m]` at lines of a table `[B, n, m]` that is `fill` elsewhere, as `[B, n · m]`."""
    table = torch.full(shape, fill, dtype=values.dtype, device=values.device)
    table[lines] = values
    return table.flatten(1)
