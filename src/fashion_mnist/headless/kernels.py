"""Execute one notebook in a kernel of its own, notice every way in which it can fail, and tidy what it printed."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

WIDGET = "application/vnd.jupyter.widget-view+json"


class NotebookFailed(Exception):
    """A notebook did not get through all its cells; the message holds the cell's source and the error."""


def end_orphans(folder: Path) -> None:
    """End kernels that were started below a folder by a command that was killed: for a second each may still write."""
    import psutil

    def is_orphan(command: list[str]) -> bool:
        return "ipykernel_launcher" in command and any(part.startswith(f"{folder}{os.sep}") for part in command)

    orphans = [each for each in psutil.process_iter(["cmdline"]) if is_orphan(each.info["cmdline"] or [])]
    for each in orphans:
        with contextlib.suppress(psutil.Error):
            each.kill()
    psutil.wait_procs(orphans, timeout=10)


class Kernels:
    """The kernels of one command, and how to end them all."""

    def __init__(self) -> None:
        self._managers: list[Any] = []
        self._stopped = False

    def execute(
        self,
        source: Any,
        partial: Path,
        parameters: Mapping[str, Any],
        environment: Mapping[str, str],
        root: Path,
        prints: Any = None,
    ) -> Any:
        """Execute a notebook with papermill.

        Parameters
        ----------
        source : nbformat.NotebookNode
        partial : Path
            The notebook as far as it got, written at every cell.
        parameters : mapping
            For the cell tagged ``parameters``.
        environment : mapping of str to str
            Variables of the kernel, beside those of this process.
        root : Path
            The folder that it starts in.
        prints : file, optional
            Takes what the cells print as it comes, instead of a progress bar.

        Returns
        -------
        nbformat.NotebookNode
            The executed notebook, with papermill's additions.

        Raises
        ------
        NotebookFailed
            Also for what papermill takes for a success: cells after ``sys.exit()`` that never ran.
        """
        import nbformat
        import papermill
        from nbclient.exceptions import DeadKernelError
        from papermill.exceptions import PapermillExecutionError

        if not any("parameters" in cell.metadata.get("tags", []) for cell in source.cells):
            raise NotebookFailed("it has no cell tagged `parameters`, so PROFILE, SEED and DATA cannot be set.\n")
        # A kernel's death reaches us as an exception; papermill would log it as well, asyncio after Ctrl-C.
        for logger in ("papermill", "asyncio"):
            logging.getLogger(logger).setLevel(logging.CRITICAL)
        partial.parent.mkdir(parents=True, exist_ok=True)
        current = 0

        def at_cell(cell: Any, cell_index: int) -> None:
            nonlocal current
            current = cell_index
            if self._stopped:
                raise NotebookFailed("interrupted\n")

        try:
            executed = papermill.execute_notebook(
                nbformat.from_dict(source),
                str(partial),
                parameters=parameters,
                kernel_name="python3",
                language="python",
                # Only on a terminal, and gone when the notebook is done.
                progress_bar={"desc": partial.stem, "disable": None, "leave": False} if prints is None else False,
                stdout_file=prints,
                stderr_file=prints,
                # papermill's `cwd` would change the folder of this process, in which another notebook may run.
                resources={"metadata": {"path": str(root)}},
                kernel_manager_class=_this_interpreter(environment, self._managers),
                shutdown_kernel="immediate",
                on_cell_start=at_cell,
            )
        except PapermillExecutionError as error:
            # papermill has put two cells before it that tell of the error.
            failed = nbformat.read(partial, as_version=4).cells[error.cell_index + 2]
            raise NotebookFailed(_cell_and_error(failed, "\n".join(error.traceback))) from None
        except DeadKernelError:
            failed = nbformat.read(partial, as_version=4).cells[current]
            reason = "The kernel died: out of memory, killed, or the code ended its process."
            raise NotebookFailed(_cell_and_error(failed, reason)) from None
        except RuntimeError as error:  # jupyter_client's, before the first cell
            raise NotebookFailed(f"the kernel did not start: {error}\n") from None
        for cell in executed.cells:
            if cell.cell_type == "code" and cell.source.strip() and cell.metadata.papermill["exception"] is not False:
                reason = "The notebook ended in this cell; those after it did not run."
                raise NotebookFailed(_cell_and_error(cell, reason))
        return executed

    def stop(self) -> None:
        """End all kernels now, with what they started; one that starts later ends before its first cell."""
        self._stopped = True
        for manager in self._managers:
            if manager.has_kernel:
                asyncio.run(manager.provisioner.kill())


def environment(root: Path, data: str, scratch: Path) -> dict[str, str]:
    """What every kernel finds in its environment; IPython's own files go below `scratch`, which is made."""
    scratch.mkdir(parents=True, exist_ok=True)
    return {
        "FASHION_MNIST_DATA": data,
        "FASHION_MNIST_ROOT": str(root),
        "IPYTHONDIR": str(scratch / "ipython"),  # no start-up files or history of the user's
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",  # figures appear whatever the user's setting
        "PYTHONHASHSEED": "0",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }


def load_ipython_extension(shell: Any) -> None:
    """Make a shell command that fails an error, also one run by ``%pip``, which only prints; loaded by `run`'s kernels.

    A person sees the message and reacts; a headless run would go on without what the command should have brought.
    """
    plain_system, plain_cd = shell.system, shell.find_line_magic("cd")

    def system(command: str) -> None:
        plain_system(command)
        if status := shell.user_ns.get("_exit_code"):
            raise subprocess.CalledProcessError(status, command)

    def cd(line: str) -> object:
        target = line.strip().strip("\"'")
        if target and not target.startswith("-") and not Path(target).expanduser().is_dir():
            raise FileNotFoundError(f"%cd: there is no folder {target!r}")
        return plain_cd(line)

    shell.system = system
    shell.register_magic_function(cd, "line", "cd")


def _this_interpreter(environment: Mapping[str, str], started: list[Any]) -> type:
    """A manager that starts our own Python: a kernelspec "python3" of the user's may be any other."""
    from ipykernel.kernelspec import get_kernel_dict
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpec

    # The log level keeps a note about unencrypted loopback traffic off everybody's terminal.
    options = [f"--IPKernelApp.extra_extensions={__name__}", "--IPKernelApp.log_level=ERROR"]
    kernel = {**get_kernel_dict(extra_arguments=options), "env": dict(environment)}

    class ThisInterpreter(AsyncKernelManager):
        kernel_spec = KernelSpec(**kernel)

        def __init__(self, **settings: Any) -> None:
            # Jupyter's own choice, the temporary directory, would keep the file for ever after a kill.
            connection = Path(environment["IPYTHONDIR"]).with_name("connection.json")
            super().__init__(connection_file=str(connection), **settings)
            started.append(self)

    return ThisInterpreter


def _cell_and_error(cell: Any, error: str) -> str:
    """How a failure is told: which cell, its source, the error without terminal colours."""
    # A magic that IPython does not know leaves no traceback, only a message on the cell's standard error.
    printed = "".join(out.text for out in cell.outputs if out.output_type == "stream" and out.name == "stderr")
    error = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", error.strip() or printed).strip()
    source = "\n".join(f"    {line}" for line in cell.source.splitlines())
    return f"cell {cell.get('id', '?')!r}\n\n{source}\n\n{error}\n"


def take_outputs(source: Any, executed: Any, root: Path, place: str, stage: Path) -> None:
    """Give the outputs of the executed notebook to the cells of `source`, and nothing else.

    The injected parameters, papermill's metadata and times stay behind, and the paths of this machine are cut short, so
    that two runs differ only where their results do. So does what a page without a kernel cannot show of widgets:
    GitHub refuses a notebook with their state.
    """
    home = f"{Path.home()}{os.sep}"
    private = {f"{stage}{os.sep}": "", f"{root}{os.sep}": "", str(root): ".", place: "DATA", home: f"~{os.sep}"}
    source.metadata.pop("widgets", None)
    ran = [cell for cell in executed.cells if "injected-parameters" not in cell.metadata.get("tags", [])]
    numbers = itertools.count(1)
    for cell, done in zip(source.cells, ran, strict=True):
        if cell.cell_type != "code":
            continue
        cell.outputs = [output for output in done.outputs if WIDGET not in output.get("data", {})]
        cell.execution_count = next(numbers) if cell.source.strip() else None
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = cell.execution_count
            if output.output_type == "stream":
                output.text = _without(output.text, private)
            for kind, content in output.get("data", {}).items():
                if kind.startswith("text/") and isinstance(content, str):
                    output.data[kind] = _without(content, private)


def _without(text: str, private: Mapping[str, str]) -> str:
    for path, replacement in private.items():
        text = text.replace(path, replacement)
    return re.sub(r"(<[\w.]+(?: object)?) at 0x[0-9a-fA-F]+>", r"\1>", text)  # where an object lay in memory
