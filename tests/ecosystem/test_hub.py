"""push and pull: the real huggingface_hub client against a server on loopback that speaks the hub's protocol."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from headway.deployment.bundle import check_files, load_bundle
from headway.errors import Refused
from tests.deployment import toys
from tests.ecosystem.hubbing import ask, environment
from tests.hub_server import READER, TOKEN, Hub, hub_server
from tests.toy import files_of


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toys.bundle(tmp_path_factory.mktemp("toy"))


@pytest.fixture
def hub() -> Iterator[Hub]:
    with hub_server() as served:
        yield served


def test_push_and_pull__bring_every_byte_back(bundle: Path, hub: Hub, tmp_path: Path) -> None:
    pushed, pulled, again, repeated = ask(
        (f"push {bundle} somebody/toy --json", {}),
        ("pull somebody/toy --json", {}),
        ("pull somebody/toy toy", {}),
        (f"push {bundle} somebody/toy --json", {}),
        url=hub.url,
        home=tmp_path,
    )
    assert (pushed.code, pulled.code, again.code, repeated.code) == (0, 0, 0, 0), pushed.err
    repo, digest = hub.repos["models/somebody/toy"], load_bundle(bundle).digest
    files = files_of(bundle)
    size = sum((bundle / name).stat().st_size for name in files)
    assert pushed.told == {
        "repo": "somebody/toy",
        "url": f"{hub.url}/somebody/toy",
        "commit": repo.order[-1],
        "private": True,
        "digest": digest,
        "files": len(files),
        "bytes": size,
    }
    assert repo.private
    wanted = {name: (bundle / name).read_bytes() for name in files}
    assert {name: content for name, content in repo.commits[repo.order[-1]].items() if name[0] != "."} == wanted
    assert pulled.told == {
        "repo": "somebody/toy",
        "commit": repo.order[-1],
        "bundle": "toy",
        "digest": digest,
        "files": len(files),
    }
    assert {name: (tmp_path / "toy" / name).read_bytes() for name in files_of(tmp_path / "toy")} == wanted
    assert again.err == "note     toy/ is this bundle already; nothing was fetched\n"
    assert repeated.told["commit"] == repo.order[-1]  # nothing changed, so there is no new commit
    assert len(repo.order) == 2
    pixels = toys.images(2)
    same = load_bundle(tmp_path / "toy").logits(pixels)
    np.testing.assert_array_equal(same, load_bundle(bundle).logits(pixels))


def test_push__the_token_is_shown_to_the_hub_alone(bundle: Path, hub: Hub, tmp_path: Path) -> None:
    answers = ask((f"push {bundle} toy --verbose", {}), ("pull somebody/toy --verbose", {}), url=hub.url, home=tmp_path)
    assert [answer.code for answer in answers] == [0, 0]
    assert not any(TOKEN in answer.out + answer.err for answer in answers)
    stored = [token for _, path, token in hub.seen if path.startswith("/stored/")]
    assert stored
    assert not any(stored)  # where large files lie is another machine
    assert not any(TOKEN.encode() in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_push__replaces_a_bundle_and_leaves_what_others_put_there(bundle: Path, hub: Hub, tmp_path: Path) -> None:
    hub.make("somebody/toy", private=True).commit(
        {"config.json": b"{}", "probe/old.npy": b"1", "pictures/cat.txt": b"mine", "README.md": b"old"}
    )
    (answer,) = ask((f"push {toys.bundle(tmp_path / 'w', hidden=(5,))} somebody/toy", {}), url=hub.url, home=tmp_path)
    assert answer.code == 0, answer.err
    repo = hub.repos["models/somebody/toy"]
    after = repo.commits[repo.order[-1]]
    assert {"config.json", "probe/old.npy"}.isdisjoint(after)
    assert after["pictures/cat.txt"] == b"mine"
    assert after["README.md"].startswith(b"---\nlicense: apache-2.0\nlibrary_name: headway\n")


def test_push__what_is_refused_before_anything_is_sent(bundle: Path, hub: Hub, tmp_path: Path) -> None:
    hub.make("somebody/open")
    hub.make("somebody/mine", private=True)
    cases = {
        f"push {bundle} somebody/open": (
            "somebody/open is public: everybody would read the bundle. Say --public, or take another name."
        ),
        f"push {bundle} other/toy": (
            "the token may not write to other/toy. Take one that may: https://huggingface.co/settings/tokens"
        ),
        f"push {bundle} a/b/c": (
            "'a/b/c' is no name of a repository: expected user/name, of letters, digits, '-', '_' and '.'."
        ),
    }
    tokens = {
        "": "there is no token for the hub. Log in with: hf auth login (or set HF_TOKEN)",
        "hf_nobody": f"{hub.url} does not know the token. Log in with: hf auth login (or set HF_TOKEN)",
        READER: "the token may not write to somebody/mine. Take one that may: https://huggingface.co/settings/tokens",
    }
    asked = [(line, dict[str, str]()) for line in cases]
    asked += [(f"push {bundle} somebody/mine", {"HF_TOKEN": token}) for token in tokens]
    answers = ask(*asked, url=hub.url, home=tmp_path)
    assert [answer.err for answer in answers] == [f"headway: {text}\n" for text in [*cases.values(), *tokens.values()]]
    assert {answer.code for answer in answers} == {2}
    assert hub.objects == {}
    assert set(hub.repos) == {"models/somebody/open", "models/somebody/mine"}


def test_push__public_says_who_sees_what(bundle: Path, hub: Hub, tmp_path: Path) -> None:
    hub.make("somebody/mine", private=True)
    new, before = ask(
        (f"push {bundle} somebody/open --public", {}),
        (f"push {bundle} somebody/mine --public", {}),
        url=hub.url,
        home=tmp_path,
    )
    assert (new.code, before.code) == (0, 0)
    assert new.err == (
        "note     somebody/open is public, and probe/ holds a few of your validation images: all can see them\n"
    )
    assert before.err == (
        "note     somebody/mine was there before and stays private; its settings page makes it public\n"
    )
    assert not hub.repos["models/somebody/open"].private
    assert hub.repos["models/somebody/mine"].private


def test_pull__what_is_refused(bundle: Path, hub: Hub, tmp_path: Path) -> None:
    hub.put("somebody/toy", bundle, private=True)
    hub.make("somebody/text").commit({"README.md": b"words"})
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    cases = {
        "pull somebody/toi": (
            f"there is no repository somebody/toi on {hub.url}, or it is private and the token has no access."
        ),
        "pull somebody/text": "somebody/text is not a bundle: it has no manifest.json.",
        "pull somebody/toy --revision v9": "somebody/toy has no such revision.",
        "pull somebody/toy full": "full/ exists and is not this bundle. Give another DIR, or remove it.",
        "pull somebody/toy file": "file is a file; the bundle would be a folder of that name. Give another DIR.",
        "pull somebody/toy no/where": "no does not exist; the bundle would be written into it.",
    }
    private = (
        f"there is no repository somebody/toy on {hub.url}, or it is private and there is no token (hf auth login)."
    )
    asked = [(line, dict[str, str]()) for line in cases] + [("pull somebody/toy", {"HF_TOKEN": ""})]
    answers = ask(*asked, url=hub.url, home=tmp_path)
    assert [answer.err for answer in answers] == [f"headway: {text}\n" for text in [*cases.values(), private]]
    assert {answer.code for answer in answers} == {2}
    assert files_of(tmp_path / "full") == {"letter.txt"}


def test_pull__a_bundle_that_is_not_whole_leaves_nothing(bundle: Path, hub: Hub, tmp_path: Path) -> None:
    bad, less = shutil.copytree(bundle, tmp_path / "bad"), shutil.copytree(bundle, tmp_path / "less")
    content = bytearray((bad / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (bad / "model.safetensors").write_bytes(content)
    (less / "probe" / "logits.npy").unlink()
    hub.put("somebody/bad", bad)
    hub.put("somebody/less", less)
    answers = ask(("pull somebody/bad x", {}), ("pull somebody/less y", {}), url=hub.url, home=tmp_path)
    again = "Copy the bundle again"
    assert [answer.err for answer in answers] == [
        "headway: somebody/bad does not hold a whole bundle, so nothing was kept. model.safetensors is damaged: its "
        f"sha256 is not the one in manifest.json. {again}.\n",
        "headway: somebody/less does not hold a whole bundle, so nothing was kept. it is incomplete: no "
        f"probe/logits.npy. {again}, whole.\n",
    ]
    assert {answer.code for answer in answers} == {1}
    assert not (tmp_path / "x").exists()
    assert not (tmp_path / "y").exists()


def test_hub__offline(bundle: Path, hub: Hub, tmp_path: Path) -> None:
    """What was fetched before is there; all else is refused at once."""
    hub.put("somebody/toy", bundle)
    (first,) = ask(("pull somebody/toy", {}), url=hub.url, home=tmp_path)
    assert first.code == 0, first.err
    hub.seen.clear()
    kept, other, push = ask(
        ("pull somebody/toy again", {}),
        ("pull somebody/other", {}),
        (f"push {bundle} somebody/toy", {}),
        url=hub.url,
        home=tmp_path,
        HF_HUB_OFFLINE="1",
    )
    assert kept.code == 0, kept.err
    check_files(tmp_path / "again")
    assert other.err == (
        "headway: somebody/other is not on this machine, and HF_HUB_OFFLINE is set, so the hub is not asked.\n"
    )
    assert push.err == "headway: HF_HUB_OFFLINE is set, so the hub is not asked. Unset it to push.\n"
    assert hub.seen == []


def test_hub__out_of_reach(bundle: Path, tmp_path: Path) -> None:
    nowhere = "http://127.0.0.1:9"
    answers = ask((f"push {bundle} a/b", {}), ("pull a/b", {}), url=nowhere, home=tmp_path)
    assert [answer.err for answer in answers] == [f"headway: {nowhere} cannot be reached (ConnectError).\n"] * 2
    assert {answer.code for answer in answers} == {2}


_WITHOUT = """
import sys
sys.modules["huggingface_hub"] = None
import headway
try:
    headway.pull("a/b")
except headway.errors.Refused as refused:
    print(refused)
"""


def test_hub__without_its_client(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", _WITHOUT], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout == "the hub needs huggingface_hub, which is not installed: pip install 'headway[hub]'\n"


def test_check_files__a_name_that_leads_out_of_the_bundle(bundle: Path, tmp_path: Path) -> None:
    from headway import files

    bad = shutil.copytree(bundle, tmp_path / "bad")
    value = files.read_json(bad / "manifest.json")
    del value["digest"]
    value["conformal"] = {"score": "new", "n": 3, "files": {"../../secret": "0" * 64}}
    files.write_json(bad / "manifest.json", {**value, "digest": files.digest_json(value)})
    files.write_text(tmp_path / "secret", "x")
    with pytest.raises(Refused) as caught:
        check_files(bad)
    assert str(caught.value) == f"{bad} is incomplete: no confidence/../../secret. Copy the bundle again, whole."


@pytest.mark.slow
def test_push__timm_loads_it_from_the_hub(hub: Hub, tmp_path: Path) -> None:
    """`hf-hub:` of timm on what was pushed gives the bundle's own logits."""
    from tests.test_exports import timm_bundle

    bundle = timm_bundle(tmp_path)
    (answer,) = ask((f"push {bundle} somebody/net", {}), url=hub.url, home=tmp_path)
    assert answer.code == 0, answer.err
    script = (
        "import numpy as np, sys, timm, torch\n"
        "net = timm.create_model('hf-hub:somebody/net', pretrained=True).eval()\n"
        "x = torch.from_numpy(np.load(sys.argv[1])).permute(0, 3, 1, 2) / 255\n"
        "np.save(sys.argv[2], net((x - 0.5) / 0.5).detach().numpy())\n"
    )
    command = [sys.executable, "-c", script, str(bundle / "probe" / "inputs.npy"), str(tmp_path / "out.npy")]
    subprocess.run(command, env=environment(hub.url, tmp_path / "home"), check=True, timeout=200)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), np.load(bundle / "probe" / "logits.npy"), atol=1e-4)
