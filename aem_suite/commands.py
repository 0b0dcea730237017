"""Entry points of the four commands. What they do lies in the rooms, and is loaded once the arguments are known."""

import os
import signal
from types import FrameType


def quiet_exit(number: int, frame: FrameType | None) -> None:
    """Handler of Ctrl-C while modules load: there is nothing to finish, and a traceback would say nothing.

    `aem_envs.cli_common.run_main` puts Python's own handler back.
    """
    os._exit(130)


def envs() -> None:
    """`aem-envs`."""
    _quiet_start()
    from aem_suite.envs_cli import main

    main()


def data() -> None:
    """`aem-data`."""
    _quiet_start()
    from aem_suite.data_cli import main

    main()


def evaluation() -> None:
    """`aem-eval`."""
    _quiet_start()
    from aem_agent.cli import main

    main()


def train() -> None:
    """`aem-train`."""
    _quiet_start()
    from trainer.cli import main

    main()


def _quiet_start() -> None:
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # where a caller ignores Ctrl-C, so do we
        signal.signal(signal.SIGINT, quiet_exit)
