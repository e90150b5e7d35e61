"""What the recorder's last child does: seal the journal, keep the price quote in the manifest, print the four closing lines.

Run as `python -m gpucost.recorder.epilogue RUN_DIR --host HOST [--quiet] [--keep-journal]`.
"""

import argparse
import sys
from pathlib import Path

from gpucost._memory import spare_memory
from gpucost.errors import GpucostError


def main(argv: list[str] | None = None) -> int:
    """Returns 0 when the run is sealed and summarized, 1 when something of that failed."""
    parser = argparse.ArgumentParser(prog="gpucost.recorder.epilogue")
    parser.add_argument("run_dir")
    parser.add_argument("--host", required=True)
    parser.add_argument("--quiet", action="store_true")
    parser.add_argument("--keep-journal", action="store_true")
    arguments = parser.parse_args(argv)
    spare_memory()
    try:
        sealed = not arguments.keep_journal and _seal(arguments.run_dir, arguments.host)
        return 0 if _summarize(arguments.run_dir, arguments.host, quiet=arguments.quiet) and sealed else 1
    except Exception as error:  # noqa: BLE001 (the command is done; its user needs a line, not a traceback)
        print(f"gpucost: recorded, but not summarized ({type(error).__name__}: {error})", file=sys.stderr)
        return 1


def _seal(run_dir: str, host: str) -> bool:
    from gpucost.store.seal import seal_run

    try:
        seal_run(run_dir, host, final=True)
    except (GpucostError, OSError) as error:
        print(f"gpucost: the journal is not sealed yet ({error}); nothing is lost", file=sys.stderr)
        return False
    return True


def _summarize(run_dir: str, host: str, *, quiet: bool) -> bool:
    from gpucost.report import load_report, summary_lines
    from gpucost.store.manifest_io import own_folder, read_own_manifest, write_manifest

    try:
        report = load_report(run_dir)
        folder = own_folder(run_dir, host)
        manifest = read_own_manifest(folder)
        manifest.quotes = report.quotes_json()
        write_manifest(folder, manifest)
    except (GpucostError, OSError) as error:
        print(f"gpucost: recorded in {Path(run_dir).name}, but not summarized: {error}", file=sys.stderr)
        return False
    if not quiet:
        print("\n".join(summary_lines(report)), file=sys.stderr)
    return True


if __name__ == "__main__":
    sys.exit(main())
