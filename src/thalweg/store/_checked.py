"""What of a run is damaged or gone, file by file: told, and nothing is touched."""

from collections.abc import Iterator
from pathlib import Path

from thalweg.errors import RunError
from thalweg.store._features import damaged_features
from thalweg.store._files import damaged, is_whole
from thalweg.store._findings_header import HEADER, FindingsHeader, read_findings_header
from thalweg.store._own import hold_rows, key_folders
from thalweg.store._shards import pair_folder, read_record, record_files


def damages(run: Path) -> list[str]:
    """Compare every file of a run with its checksum.

    Args:
        run: its directory; that its run.json is whole is known.

    Returns:
        A line for each file that is not as it was written, or is missing; none where all is whole.
    """
    return [*_of_experiments(run), *damaged_features(run)]


def _of_experiments(run: Path) -> Iterator[str]:
    for experiment in sorted(path for path in run.iterdir() if path.is_dir()):
        for directory in key_folders(experiment):
            if not (directory / HEADER).exists() and not hold_rows(directory):
                continue  # left by a writer that was killed at once
            try:
                header = read_findings_header(directory)
            except RunError as error:
                yield str(error)
            else:
                yield from _of_parts(directory, header)
                yield from _of_wholes(directory, header)


def _of_parts(directory: Path, header: FindingsHeader) -> Iterator[str]:
    for pair in header.coverage:
        folder, kept = directory / pair_folder(*pair.pair), 0
        for path in record_files(folder):
            try:
                record = read_record(path)
            except RunError as error:
                yield str(error)
                continue
            kept += record.prompts_kept
            files = record.files(folder)
            yield from (damaged(file) for name, file in files.items() if not is_whole(file, record.parts[name]))
        if header.status == "finished" and kept < pair.prompts_kept:
            yield f"{folder} holds {kept} of {pair.prompts_kept} prompts: records are missing"


def _of_wholes(directory: Path, header: FindingsHeader) -> Iterator[str]:
    for name, facts in header.wholes.items():
        file = directory / f"{name}.parquet"
        expected = header.status == "finished" or file.exists()
        if name in header.tables and expected and not is_whole(file, *facts):
            yield damaged(file)
