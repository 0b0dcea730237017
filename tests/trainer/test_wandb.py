"""Weights & Biases: what it is sent, once and at once, what it is not, and that no run waits or ends for it."""

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from helpers import quick, run

from trainer import writers
from trainer.config import MetricsConfig
from trainer.masking import masked
from trainer.metrics import MetricsLog, Record
from trainer.overrides import to_json
from trainer.writers import WandbWriter, WriterError, Writers, check_writers, open_writers

RL = 2


class FakeRun:
    """As the real one, it sends a step when that is committed, when a later one comes, or at the end; `sent` is what
    the server has, of earlier processes too."""

    url = "https://example.org/run"

    def __init__(self, sent: list[tuple[int, dict[str, float]]]) -> None:
        self.sent = sent
        self.step = 1 + max((step for step, _ in sent), default=-1)
        self.held: dict[str, float] = {}
        self.finished = False

    def define_metric(self, name: str, *, step_metric: str) -> None:
        assert name.split("/")[0] == step_metric.split("/")[0]

    def log(self, values: dict[str, float], *, step: int, commit: bool | None = None) -> None:
        assert step >= self.step, "the real one says that it drops this"
        if step > self.step:
            self._send(step)
        self.held |= values
        if commit:
            self._send(step + 1)

    def _send(self, step: int) -> None:
        if self.held:
            self.sent.append((self.step, self.held))
        self.step, self.held = step, {}

    def finish(self) -> None:
        self._send(self.step)
        self.finished = True


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module `wandb` that keeps what it is called with."""
    fake: Any = ModuleType("wandb")
    fake.asked, fake.runs, fake.sent, fake.error = [], [], [], None
    fake.logged_in = True
    fake.Settings = lambda **options: options

    def login(*, prompt: bool, verify: bool) -> bool:
        assert not prompt and not verify
        return fake.logged_in  # type: ignore[no-any-return]

    fake.setup, fake.login = lambda settings: None, login

    def init(**options: Any) -> FakeRun:
        fake.asked.append(options)
        if fake.error:
            raise fake.error
        fake.runs.append(FakeRun(fake.sent))
        return fake.runs[-1]  # type: ignore[no-any-return]

    fake.init = init
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.setattr(writers, "find_spec", lambda name: SimpleNamespace(origin="here"))
    monkeypatch.delenv("WANDB_MODE", raising=False)
    return fake


def rl(step: int, **values: float) -> Record:
    return {"kind": "rl", "stage": RL, "step": step, **values}


def test_a_resumed_run_goes_on_in_the_same_wandb_run_and_sends_nothing_twice(wandb: Any, tmp_path: Path) -> None:
    said: list[str] = []
    first = WandbWriter("team/agents", tmp_path, {"steps": 3}, said.append)
    first.write(0, rl(1, loss=0.5))
    first.close()
    second = WandbWriter("team/agents", tmp_path, {"steps": 3}, said.append)
    for number in (0, 1):
        second.write(number, rl(number + 1, loss=0.25))
    asked, again = wandb.asked
    assert asked["id"] == again["id"] == json.loads((tmp_path / "wandb.json").read_text())["id"]
    assert asked["resume"] == "allow" and asked["config"] == {"steps": 3} and asked["dir"] == str(tmp_path)
    assert (asked["entity"], asked["project"]) == ("team", "agents")
    assert wandb.sent == [(0, {"rl/loss": 0.5, "rl/step": 1}), (1, {"rl/loss": 0.25, "rl/step": 2})]
    assert wandb.runs[0].finished
    assert said == ["opening Weights & Biases …", "metrics go to https://example.org/run"] * 2


def test_wandb_has_each_record_at_once_and_those_that_a_killed_run_did_not_send(wandb: Any, tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.writers = Writers([WandbWriter("agents", tmp_path, {}, str)], pytest.fail)
    for step in (1, 2, 3):
        log.write("rl", RL, step, {"loss": step / 2})
        assert len(wandb.sent) == step
    del wandb.sent[1:]  # all that came through before a `kill -9`
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.writers = Writers([WandbWriter("agents", tmp_path, {}, str)], pytest.fail)
    log.rewind(RL, 2)
    log.write("rl", RL, 3, {"loss": 1.5})
    assert wandb.sent == [(n, {"rl/loss": (n + 1) / 2, "rl/step": n + 1}) for n in range(3)]


def test_wandb_waits_for_no_network_for_ever(wandb: Any, tmp_path: Path) -> None:
    WandbWriter("agents", tmp_path, {}, str)
    settings = wandb.asked[0]["settings"]
    assert 0 < settings["init_timeout"] <= 60 and 0 < settings["finish_timeout"] <= 60


def test_secrets_are_not_sent(wandb: Any, tmp_path: Path) -> None:
    options = {"api_key": "sk-1", "max_tokens": 5, "headers": [{"Authorization": "Bearer 2"}], "password": None}
    WandbWriter("agents", tmp_path, {"rollout": {"engine_options": options}, "micro_tokens": 7}, str)
    hidden = {**options, "api_key": "***", "headers": [{"Authorization": "***"}]}
    assert wandb.asked[0]["config"] == {"rollout": {"engine_options": hidden}, "micro_tokens": 7}
    of_the_machine = {"x_disable_meta": True, "x_disable_stats": True, "x_disable_machine_info": True}
    unasked = of_the_machine | {"x_save_requirements": False, "console": "off", "host": "", "program": "aem-train"}
    assert unasked.items() <= wandb.asked[0]["settings"].items()  # the real one sends some of it only to a server
    own = to_json(quick())
    assert masked(own) == json.loads(json.dumps(own))


@pytest.mark.parametrize("content", ["{", "[]", '{"id"', "7"])
def test_a_damaged_id_is_said(wandb: Any, content: str, tmp_path: Path) -> None:
    (tmp_path / "wandb.json").write_text(content)
    with pytest.raises(WriterError, match=r"wandb\.json.*remove it"):
        WandbWriter("agents", tmp_path, {}, str)
    said: list[str] = []
    open_writers(quick("metrics.wandb=agents"), tmp_path, said.append).close()
    assert len(said) == 1 and "remove it" in said[0] and "goes on without it" in said[0] and not wandb.runs


def test_a_run_that_cannot_begin_leaves_its_folder_free(wandb: Any, tmp_path: Path) -> None:
    path, config = tmp_path / "run", quick("steps=0", "warmstart.steps=0", "metrics.wandb=agents")
    wandb.error = ConnectionError("no network")
    for there in (False, True):
        if there:
            path.mkdir()
        with pytest.raises(WriterError, match="no network"):
            run(config, path)
        assert path.exists() == there and not (there and list(path.iterdir()))
    wandb.error = None
    run(config, path)
    assert wandb.runs[0].finished


def test_wandb_that_cannot_be_opened_ends_a_new_run_but_not_a_resumed_one(wandb: Any, tmp_path: Path) -> None:
    said: list[str] = []
    config = quick("metrics.wandb=agents")
    wandb.error = ConnectionError("no network")
    with pytest.raises(WriterError, match=r"no network.*WANDB_MODE=offline"):
        open_writers(config, tmp_path, said.append)
    wandb.error = None
    open_writers(config, tmp_path, said.append).close()
    wandb.error = ConnectionError("no network")
    open_writers(config, tmp_path, said.append).write(0, rl(1))
    assert "goes on without it" in said[-1]


def test_nothing_is_opened_unless_asked(wandb: Any, tmp_path: Path) -> None:
    run(quick("steps=0", "warmstart.steps=0"), tmp_path / "run")
    assert not wandb.asked and not (tmp_path / "run" / "wandb.json").exists()
    assert not (tmp_path / "run" / "tensorboard").exists()


def test_nobody_is_asked_to_log_in(wandb: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb.logged_in = False
    config = MetricsConfig(wandb="agents")
    with pytest.raises(WriterError, match="wandb login"):
        check_writers(config)
    monkeypatch.setenv("WANDB_MODE", "offline")
    check_writers(config)
    with pytest.raises(WriterError, match="names no project"):
        check_writers(MetricsConfig(wandb=" "))


def test_the_real_wandb_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    real.setup()  # as when something else of this process has begun it
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr("socket.gethostname", lambda: "some-machine")
    monkeypatch.setattr(sys, "argv", ["some-program", "--some-argument"])
    said: list[str] = []
    try:
        check_writers(MetricsConfig(wandb="agents"))
        for _ in range(2):  # a run, and its resumption
            writer = WandbWriter("agents", tmp_path, {"steps": 1, "hf_token": "some-token"}, said.append)
            writer.rewrite([rl(1, loss=0.5)])
            writer.write(1, rl(2, largest=0.5))
            writer.close()
    finally:
        real.teardown()  # its process
    assert said == ["opening Weights & Biases …"] * 2  # and no address
    run_id = json.loads((tmp_path / "wandb.json").read_text())["id"]
    files = list((tmp_path / "wandb").glob(f"offline-run-*/run-{run_id}.wandb"))
    assert files and all(word in file.read_bytes() for file in files for word in (b"rl/loss", b"rl/largest"))
    sent = b"".join(file.read_bytes() for file in files)
    unasked = (b"some-", str(tmp_path).encode(), b"memory_percent", b"requirements.txt", sys.executable.encode())
    assert not [word for word in unasked if word in sent]


def test_the_real_wandb_finds_a_key_without_asking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    real = pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nobody is there, and nobody is asked
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    try:
        monkeypatch.delenv("WANDB_API_KEY", raising=False)
        with pytest.raises(WriterError, match="wandb login"):
            check_writers(MetricsConfig(wandb="agents"))
        real.teardown()
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        check_writers(MetricsConfig(wandb="agents"))
        assert capfd.readouterr() == ("", "")
    finally:
        real.teardown()
