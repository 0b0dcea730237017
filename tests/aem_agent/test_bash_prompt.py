"""Prompts and answers of agents that work in a shell, and what a run leaves for `swebench eval`."""

import json
from dataclasses import replace

import pytest

from aem_agent.bash_prompt import BashParser, BashSpec, SwebenchText, fenced
from aem_agent.env_texts import env_text
from aem_agent.export import predictions
from aem_agent.parsers import Parsed
from aem_agent.policies import make_policy
from aem_agent.prompter import TokenPrompter
from aem_agent.prompts import Exchange, PromptSpecError
from aem_agent.registry import parsers, prompt_specs
from aem_agent.summary import summarize
from aem_agent.types import AgentError, Episode, Response, Turn

FIRST = (
    "Repository embedded/toolz, in /testbed. Solve this issue by changing its source files.\n\nIssue:\n"
    "`take` is off by one\n\nMore words <|im_end|>\n\nAn action is one bash command.\n[9 steps left]"
)
EDIT = "edit a.py\n<<<<<<< SEARCH\nx\n=======\ny\n>>>>>>> REPLACE"


@pytest.mark.parametrize(
    ("said", "action", "reason"),
    [
        ("I look.\n```bash\nls -la\n```\n", "ls -la", None),
        ("```sh\ncd x &&\n  ls\n```", "cd x &&\n  ls", None),
        ("```bash\nls\n```\nor rather\n```bash\npwd\n```", "pwd", None),
        ("<think>```bash\nrm -rf /\n```</think>\n```bash\nsubmit\n```", "submit", None),
        (f"```edit a.py\n{EDIT.partition(chr(10))[2]}\n```", EDIT, None),
        ("just do ls", "", "missing_action"),
        ("```python\nprint(1)\n```", "", "missing_action"),
        ("```bash\nls", "", "unclosed_action"),
        ("```bash\n\n```", "", "empty_action"),
        ("```bash\ncat <<'EOF'\n`x`\nEOF\n```", "cat <<'EOF'\n`x`\nEOF", None),
        ("````bash\ncat <<'EOF'\n```\nx\n```\nEOF\n````", "cat <<'EOF'\n```\nx\n```\nEOF", None),
        ("```bash\nls\n````", "", "unclosed_action"),
    ],
)
def test_the_last_block_is_the_action(said, action, reason):
    assert BashParser()(said) == Parsed(action, reason)


def test_a_block_that_is_too_long_is_cut():
    assert BashParser(max_length=3)("```bash\nlsblk\n```") == Parsed("lsb", "too_long")
    with pytest.raises(AgentError):
        BashParser(max_length=0)
    with pytest.raises(PromptSpecError):
        BashSpec(window=0)


@pytest.mark.parametrize("action", ["ls", "cat <<'E'\n```\nx\n```\nE", "submit", EDIT, EDIT.replace("x", "````")])
def test_what_is_fenced_is_read_back(action):
    assert BashParser()(BashSpec().answer(action, "hm")) == Parsed(action)


def test_prompts_show_issue_turns_and_what_to_answer():
    spec, texts = prompt_specs.get("bash")(), env_text("aem/SWEBench-v0")
    assert isinstance(parsers.get(spec.parser)(), BashParser) and isinstance(texts, SwebenchText)
    turn = Exchange(1, FIRST, (5, 6), "said", "ls", "a.py\n[exit code 0]\n[8 steps left]")
    head, block, tail = spec.head(texts, FIRST), spec.block(texts, turn), spec.tail(texts, 2, turn.came, {})
    text = "".join(map(str, (*head, *block, *tail)))
    assert "`take` is off by one" in text and "< |im_end|>" in text and "<|im_end|>" not in text
    assert "[Action 1]\nls\n[Output]\na.py" in text and "action 2" in text and "```bash" in text
    messages = spec.messages(head, [block], tail)
    assert [m["role"] for m in messages] == ["user", "assistant", "user"]
    assert messages[1]["content"] == fenced("ls") and messages[2]["content"].startswith("a.py\n")


@pytest.mark.parametrize("issue", [10, 9_000])
@pytest.mark.parametrize("output", [10, 9_000])
@pytest.mark.parametrize("limit", [1_500, 2_500])
def test_prompts_that_are_too_long_keep_issue_and_newest_output(issue: int, output: int, limit: int) -> None:
    """Every character is a token here; actions alone are longer than what fits."""
    frame = ("<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n")
    prompter = TokenPrompter(BashSpec(), "aem/SWEBench-v0", lambda text: [*map(ord, text)], limit, frame)
    seen = FIRST.replace("More words", "w" * issue)
    for number in range(1, 6):
        ids, dropped = prompter.prompt(seen, {})
        text = "".join(map(chr, ids))
        assert len(ids) <= limit and text.startswith(frame[0]) and text.endswith(frame[1])
        assert text.count("<|") == 3, "what the environment says ends no message"
        assert "Repository embedded/toolz" in text and "Answer with what you think" in text
        if number > 1:
            assert f"[Action {number - 1}]\ncat > x" in text and "[exit code 0]\n[8 steps left]" in text
            assert "[Action 1]" not in text or number == 2
        action = "cat > x" + "y" * 3_000
        prompter.said(seen, Response(fenced(action), tuple(map(ord, fenced(action)))), action)
        seen = "z<|im_end|>" * (output // 10) + "\n[exit code 0]\n[8 steps left]"
    assert dropped == 3


def test_small_models_are_shown_the_title_and_how_commands_ended():
    texts = SwebenchText()
    intro = texts.intro(FIRST)
    assert intro.brief == "`take` is off by one" and intro.task.endswith("More words <|im_end|>") and not intro.scene
    assert texts.compact("lots\n[exit code 1]\n[3 steps left]") == "[exit code 1]"
    assert texts.compact("x" * 500) == "x" * 200


def episode(task: str, repeat: int = 0, **details) -> Episode:
    seconds = {"tests": 2.0, "commands": 1.0}
    info = {"score": 0.0, "won": False, "anchor": "", "action_error": None, "details": details, "seconds": seconds}
    turn = Turn("seen", Response("said"), "submit", info=info)
    return Episode("aem/SWEBench-v0", task, "t", "test", repeat, 1, turns=(turn, turn), terminated=True)


def test_patches_become_predictions_one_per_task():
    second, first = episode("b", 1, model_patch="2"), episode("b", 0, model_patch="1")
    died, later = episode("c"), episode("c", 1, model_patch="3")
    lost = replace(episode("b", 0, model_patch="0"), error="SandboxError: gone")
    found = predictions([second, lost, first, later, died, episode("a", model_patch="")], "m")
    assert [(one["instance_id"], one["model_patch"]) for one in found] == [("a", ""), ("b", "1"), ("c", "")]
    assert {one["model_name_or_path"] for one in found} == {"m"} and json.dumps(found)
    assert predictions([died], "m") == [], "no patches: another environment"


def test_summaries_hold_seconds_by_phase_and_means_of_details():
    told = [episode("a", fail_to_pass=1.0, exit_code=1), episode("b", fail_to_pass=0.0, verdict="x"), episode("c")]
    summary = summarize(told, env_id="aem/SWEBench-v0", split="test")
    assert summary.phases == {"commands": 2.0, "tests": 4.0}
    assert summary.verdicts == {"x": 1}
    assert summary.details == {"fail_to_pass": 0.5}, "whole numbers such as exit codes have no mean"


def test_instruct_models_get_the_prompt_of_the_environment():
    for env_id, name in (("aem/SWEBench-v0", "bash"), ("mine:aem/SWEBench-v0", "bash"), ("aem/Toy-v0", "think-action")):
        policy = make_policy("openai:m", env_id=env_id, base_url="http://localhost:1/v1")
        assert policy.spec.name == policy.parser.name == name
    assert make_policy("openai:m", base_url="http://localhost:1/v1").spec.name == "think-action"
    asked = make_policy("openai:m", env_id="aem/SWEBench-v0", prompt="plain", base_url="http://localhost:1/v1")
    assert asked.spec.name == "plain"
