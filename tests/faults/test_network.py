"""Nothing is sent for local inputs, as the system sees it: guards in Python miss what is written in other languages."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

STRACE = shutil.which("strace")
EVERY_VERB = """
import json, sys, warnings
from pathlib import Path
sys.path[:0] = {paths!r}
import peft
from saved import llama, save
from tests.capture.test_gguf import write
from tests.local_mcq import Tasks
from tests.local_mteb import similarity_task
from tests.probed import films
import thalweg
from thalweg.cli import main
from thalweg.reference import Plant, planted_llama

place = Path({place!r})
for name, height in {{"model": 2000.0, "trained/checkpoint-1": 2.0, "trained/checkpoint-20": 900.0}}.items():
    save(planted_llama(Plant(1, 2, {{3: height}}, (0, 1)), blocks=3, width=32), place / name)
save(llama(), place / "base")
with warnings.catch_warnings(action="ignore"):
    adapter = peft.get_peft_model(llama(), peft.LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    adapter.save_pretrained(place / "adapter")
settings = place / "adapter" / "adapter_config.json"
based = {{"base_model_name_or_path": str(place / "base")}}
settings.write_text(json.dumps(json.loads(settings.read_text()) | based))
write(place / "tiny.gguf")
texts = [f"{{row}} green bottles, " * (1 + row % 3) for row in range(8)]
(place / "p.jsonl").write_text("".join(json.dumps({{"text": text}}) + "\\n" for text in texts))
(place / "p.txt").write_text("\\n".join(texts))
Tasks(place / "tasks").choice(count=4)
films(place / "films.jsonl", 40, 1)
model, data, run = f"{{place}}/model", f"{{place}}/p.jsonl", f"{{place}}/run"
trained = f"lens {{model}} --data {{data}} --train-tuned --steps 2 --step-tokens 64 --out {{place}}/trained_lens"
commands = [
    f"survey {{model}} --data {{data}} --out {{run}}",
    f"survey {{place}}/tiny.gguf --data {{place}}/p.txt --limit 2 --out {{place}}/gguf",
    f"survey {{place}}/adapter --data {{data}} --limit 2 --out {{place}}/adapted",
    f"survey {{place}}/base --data {{data}} --limit 2 --out {{place}}/trusted --trust-remote-code --allow-pickle",
    f"survey --limit 2 --out {{place}}/bundled",
    f"checkpoints --checkpoint-dir {{place}}/trained --data {{data}} --out {{place}}/steps",
    f"contrast {{run}} --length any --top 2",
    f"heads {{run}}",
    f"scan {{model}} --out {{place}}/scanned",
    f"attribute {{run}}",
    f"ablate {{run}} --seeds 1",
    f"clip {{run}} --gamma 10,100",
    f"lens {{run}}",
    trained,
    f"lens {{model}} --data {{data}} --tuned {{place}}/trained_lens --out {{place}}/tuned",
    f"mcq {{model}} --task small_choice --include-path {{place}}/tasks --out {{place}}/asked",
    f"probe {{model}} --data {{place}}/films.jsonl --out {{place}}/probed",
    f"report {{run}}",
    f"figures {{run}}",
    f"advise {{run}}",
    f"table {{run}} phases",
    f"show {{run}}",
    f"compare {{run}} {{place}}/trusted --out {{place}}/compared",
    f"reproduce 23 --model {{model}} --data {{data}} --out {{place}}/reproduced",
    f"verify {{model}}",
    "list data",
    "list figures",
]
for command in commands:
    sys.argv = ["thalweg", *command.split()]
    try:
        main()
    except SystemExit as left:
        assert left.code in (0, None), (command, left.code)
thalweg.mteb(model, [similarity_task(place / "mteb")], out=place / "embedded")
sys.stderr.write("all of it ran")
"""


@pytest.mark.skipif(STRACE is None, reason="strace is not installed")
def test_no_verb_asks_the_network_for_local_inputs(tmp_path, monkeypatch):
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)  # where the hub may be asked, nobody asks it
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    tests = Path(__file__).parents[1]
    code = EVERY_VERB.format(paths=[str(tests.parent), str(tests)], place=str(tmp_path))
    seen = ["--seccomp-bpf", "-f", "-qq", "-e", "trace=network", "-o", str(tmp_path / "calls")]
    ran = subprocess.run(
        [STRACE, *seen, sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert ran.stderr.endswith("all of it ran"), ran.stderr[-2000:]
    calls = (tmp_path / "calls").read_text().splitlines()
    asked = [call for call in calls if re.search(r"(connect|sendto|sendmsg|sendmmsg)\(.*sa_family=AF_INET", call)]
    assert asked == []


@pytest.mark.skipif(STRACE is None, reason="strace is not installed")
def test_whoever_asks_is_seen(tmp_path):
    code = "import socket; s = socket.socket(type=socket.SOCK_DGRAM); s.connect(('127.0.0.1', 9))"
    seen = ["--seccomp-bpf", "-f", "-qq", "-e", "trace=network", "-o", str(tmp_path / "calls")]
    subprocess.run([STRACE, *seen, sys.executable, "-c", code], check=True)
    assert "sa_family=AF_INET" in (tmp_path / "calls").read_text()
