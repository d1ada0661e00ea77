"""From a call of `map` or `parallel` to its branches: check the arguments, name the branches, bind the functions."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from perdure.batches import BatchedInput, ItemBatcher, MapConfig, ParallelBranch, ParallelConfig
from perdure.concurrency.models import BatchResult
from perdure.exceptions import ValidationError
from perdure.sdk.arity import first_or_both, map_arguments, require_context
from perdure.sdk.journal import Begun
from perdure.sdk.operations.map_parallel import MAP, PARALLEL, BatchKind, BatchOptions, batch
from perdure.sdk.scope import Scope
from perdure.sdk.session import Session


class Work(msgspec.Struct, frozen=True):
    """The branches of a batch: their names, and how the function of one is called with its context."""

    kind: BatchKind
    names: Sequence[str | None]
    call: Callable[[int, Any], Any]
    options: BatchOptions


def map_work(inputs: Iterable[Any], func: Callable[..., Any], config: MapConfig | None) -> Work:
    """One branch for each input. ValidationError if the function can't take them."""
    how = config or MapConfig()
    items = list(inputs)
    if how.item_batcher is not None:
        items = list(_batched(items, how.item_batcher))
    count = map_arguments(func)

    def call(index: int, context: Any) -> Any:
        return func(context, *(items[index], index, items)[: count - 1])

    return Work(MAP, _item_names(items, how.item_namer), call, _options(how, [func]))


def parallel_work(functions: Sequence[Callable[..., Any]], config: ParallelConfig | None) -> Work:
    """One branch for each function. ValidationError if one of them is none, or doesn't take its context."""
    how = config or ParallelConfig()
    branches = list(functions)
    names: list[str | None] = []
    for index, branch in enumerate(branches):
        if not callable(branch):
            raise ValidationError(f"branch {index} of parallel must be a function, not {branch!r}")
        target = branch.func if isinstance(branch, ParallelBranch) else branch
        require_context(target, f"branch {index} of parallel,")
        name = getattr(branch, "name", None) if isinstance(branch, ParallelBranch) else None
        names.append(f"parallel-branch-{index}" if name is None else name)
        branches[index] = target
    return Work(PARALLEL, names, lambda index, context: branches[index](context), _options(how, branches))


def _options(how: MapConfig | ParallelConfig, functions: Sequence[Callable[..., Any]]) -> BatchOptions:
    return BatchOptions(
        how.max_concurrency,
        how.completion_config,
        how.serdes,
        how.item_serdes,
        how.summary_generator,
        how.nesting_type,
        functions,
    )


def begin(
    session: Session, scope: Scope, make: Callable[[Session, Scope], Any], work: Work, name: str | None
) -> Begun[BatchResult[Any]]:
    """The operation. `make` makes the context that a branch gets."""

    functions = work.options.functions

    async def body(index: int, inner: Scope) -> Any:
        context = make(session, inner)
        function = functions[index if len(functions) > 1 else 0]
        return await session.driver.enter(lambda: work.call(index, context), function)

    return batch(session, scope, work.kind, body, work.names, name, work.options)


def _item_names(items: Sequence[Any], namer: Callable[..., str] | None) -> Sequence[str | None]:
    if namer is None:
        return [f"map-item-{index}" for index in range(len(items))]
    if first_or_both(namer, "the item_namer", "item", "index"):
        return [namer(item, index) for index, item in enumerate(items)]
    return [namer(item) for item in items]


def _batched(items: Sequence[Any], batcher: ItemBatcher[Any]) -> Iterator[BatchedInput[Any, Any]]:
    """The items in batches, in their order."""
    count_max, bytes_max = batcher.max_items_per_batch, batcher.max_item_bytes_per_batch
    gathered: list[Any] = []
    size = 0
    for item in items:
        item_bytes = len(json.dumps(item, default=str).encode()) if bytes_max else 0
        is_full = (count_max and len(gathered) >= count_max) or (bytes_max and size + item_bytes > bytes_max)
        if gathered and is_full:
            yield BatchedInput(batcher.batch_input, gathered)
            gathered, size = [], 0
        gathered.append(item)
        size += item_bytes
    if gathered:
        yield BatchedInput(batcher.batch_input, gathered)
