"""The command `harness publish`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import RESULTS, Name, Results

if TYPE_CHECKING:
    from harness.records.publishing import Publication
    from harness.records.store import RecordStore


def publish(
    name: Name,
    results: Results = RESULTS,
    unpack: Annotated[bool, typer.Option("--unpack", help="Put published trials back into their folders.")] = False,
    keep: Annotated[
        bool,
        typer.Option("--keep", help="Do not remove the folders (with --unpack: the two files)."),
    ] = False,
) -> None:
    """Put the records of finished trials into two small files. Commit these in place of the folders."""
    from harness.records import publishing
    from harness.records.store import RecordStore

    store = RecordStore(results, name)
    if unpack:
        lines = unpacked_lines(store, publishing.unpack(store, keep))
    else:
        lines = published_lines(store, publishing.publish(store, keep))
    print("\n".join(lines))


def published_lines(store: RecordStore, done: Publication) -> list[str]:
    """What publishing did: a line for each fact."""
    files = " and ".join(f"{store.path / name} ({size / 1000:,.0f} kB)" for name, size in done.sizes.items())
    lines = [f"{store.name}: {_counts(done)} in {files}"]
    if done.num_new or done.num_replaced:
        lines.append(f"{done.num_new} of them are new, {done.num_replaced} replace an earlier training")
    if done.num_removed:
        lines.append(f"removed {done.num_removed:,} files, which the two files hold byte for byte")
    if done.num_unfinished:
        lines.append(f"{done.num_unfinished} unfinished trials stay in their folders")
    if done.num_weights:
        lines.append(f"the weights of {done.num_weights} trials stay in their folders; they are not published")
    lines += [f"stays: {line}" for line in done.left]
    if done.digest is None:
        return [*lines, f"{store.path} has lost its digests.json, so `harness verify` will fail; restore that file"]
    return [*lines, f"digest of the experiment, to be quoted with its table: {done.digest}"]


def unpacked_lines(store: RecordStore, done: Publication) -> list[str]:
    """What was put back: a line for each fact."""
    lines = [f"{store.name}: {_counts(done)}; put back into folders: {done.num_new}"]
    if done.num_unfinished:
        lines.append(
            f"{done.num_unfinished} trials are being trained again, so the published files were kept; "
            "unpack again when they are finished"
        )
    return lines


def _counts(done: Publication) -> str:
    """`146 trials (50 of the table, 96 of the search)`."""
    total, search = sum(done.num_trials.values()), done.num_trials["search"]
    return f"{total} trials" + (f" ({total - search} of the table, {search} of the search)" if search else "")
