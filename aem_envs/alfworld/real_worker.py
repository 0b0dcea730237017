"""The process in which the real engine runs. Started by file path, and free of imports from this project.

Requests and replies are JSON, one a line. The engine overwrites `sys.argv`, swaps `sys.stdout` and may print from C, so
the replies go to a private copy of the pipe while file descriptor 1 becomes standard error.
"""

import json
import os
import queue
import sys
import threading
import time
from typing import Any


def main() -> None:
    """Serve requests until the parent closes the pipe or is gone."""
    parent = int(sys.argv[1])
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    requests: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(requests,), daemon=True).start()
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    games: dict[int, Any] = {}
    while True:
        try:
            reply = {"ok": _serve(games, json.loads(requests.get()))}
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # the translator calls sys.exit on games it cannot read
            reply = {"error": type(error).__name__, "message": str(error)[:500]}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def _listen(requests: "queue.SimpleQueue[str]") -> None:
    for line in sys.stdin:
        requests.put(line)
    os._exit(0)  # end of file: the parent has closed the pipe or died, even if the engine is busy


def _watch(parent: int) -> None:
    """Another child of the parent may hold the pipe open after its death: being adopted is the sure sign."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(0)


def _serve(games: dict[int, Any], request: dict[str, Any]) -> Any:
    operation, number = request["do"], request["game"]
    if operation == "load":
        games[number] = _load(request["data"])
        return None
    if operation == "close":
        game = games.pop(number, None)
        if game is not None:
            import fast_downward  # type: ignore[import-untyped,unused-ignore]

            fast_downward.close_lib(game.unwrapped.downward_lib)
        return None
    game = games[number]
    state = game.reset() if operation == "reset" else game.step(request["command"])[0]
    return {
        "feedback": state["feedback"],
        "admissible": list(state["admissible_commands"]),
        "won": bool(state["won"]),
        "score": int(state.get("score", state["won"])),
    }


def _load(data: str) -> Any:
    import textworld  # type: ignore[import-untyped,unused-ignore]
    from alfworld.agents.environment.alfred_tw_env import (  # type: ignore[import-untyped,unused-ignore]
        AlfredDemangler,
        AlfredInfos,
    )
    from textworld.envs import PddlEnv  # type: ignore[import-untyped,unused-ignore]

    game = AlfredInfos(AlfredDemangler(PddlEnv(textworld.EnvInfos(won=True, admissible_commands=True)), shuffle=False))
    game.load(json.loads(data))
    return game


if __name__ == "__main__":
    main()
