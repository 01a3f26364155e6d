"""The report as a file: its numbers, its form, its manners with odd names and missing parts."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headway.errors import HeadwayError, Refused
from headway.reporting.page import draw, write_report
from headway.reporting.text import shown
from tests.reporting.fixture import PLANS, Plan, build_run, write_json
from tests.reporting.twin import PAYLOADS, skeleton, twin, visible

SECTIONS = ["next", "failures", "confidence", "learning", "data", "making"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    return {name: build_run(folder / name, plan) for name, plan in PLANS.items()}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return build_run(tmp_path / "run", PLANS["two"])


def parsed(page: str) -> ET.Element:
    """The page as XML, which forgives nothing; script and style are no markup and are left out."""
    body = re.sub(r"(?s)(<(script|style)>).*?(</\2>)", r"\1\3", page.removeprefix("<!DOCTYPE html>"))
    return ET.fromstring(body.encode("utf-8"))


def words(node: ET.Element | None) -> str:
    assert node is not None
    return " ".join(" ".join(node.itertext()).split())


def change(run: Path, name: str, edit: Callable[[Any], object]) -> None:
    value = json.loads((run / name).read_text())
    edit(value)
    write_json(run / name, value)


@pytest.mark.parametrize("name", PLANS)
def test_headline__equals_evaluation_json(runs: dict[str, Path], name: str) -> None:
    e = json.loads((runs[name] / "evaluation.json").read_text())["subsets"]["test"]
    page = parsed(write_report(runs[name]).read_text("utf-8"))
    low, high = e["interval"]
    expected = f"Right on {e['correct']:,} of {e['n']:,} test images: {e['accuracy']:.3f} [{low:.3f}, {high:.3f}]"
    assert words(page.find(".//h1")) == expected


@pytest.mark.parametrize("name", PLANS)
def test_strip__equals_evaluation_json(runs: dict[str, Path], name: str) -> None:
    evaluation = json.loads((runs[name] / "evaluation.json").read_text())
    e, n = evaluation["subsets"]["test"], evaluation["result"]["n"]
    page = parsed(draw(runs[name]))
    facts = {words(item.find("dt")): words(item.find("dd")) for item in page.findall(".//header/dl/div")}
    total = n["train"] + n["val"] + n["test"]
    assert facts["images"] == f"{total:,} {n['train']:,} train · {n['val']:,} val · {n['test']:,} test"
    assert facts["classes"] == str(len(evaluation["classes"]))
    assert facts["backbone"] == "tf_efficientnet_lite0 packaged weights, 224 px"
    assert facts["road"].startswith("probe ")
    assert facts["time"] == "13.4 s of which features 9.8 s"
    assert facts["machine"] == "2 cores AMD EPYC, 8 GB of memory"
    guess = e["constant_guess"]
    assert facts["guessing"] == f"{guess['accuracy']:.3f} always “{guess['class']}”"
    bounds = e["balanced_accuracy_interval"]
    note = f"[{bounds[0]:.3f}, {bounds[1]:.3f}]" if bounds else f"n={e['n']:,}, no interval"
    assert facts["balanced accuracy"] == f"{e['balanced_accuracy']:.3f} {note}"
    assert facts["macro-F1"].startswith(f"{e['macro_f1']:.3f} ")
    assert ("right among first five" in facts) == (e["top5"] is not None)


@pytest.mark.parametrize("name", PLANS)
def test_classes__every_row_equals_evaluation_json_worst_first(runs: dict[str, Path], name: str) -> None:
    e = json.loads((runs[name] / "evaluation.json").read_text())["subsets"]["test"]
    table = parsed(draw(runs[name])).find(".//table[@id='classes']/tbody")
    assert table is not None
    rows = {words(row.find("th")): [words(cell) for cell in row.findall("td")] for row in table}
    for c in e["per_class"]:
        low, high = c["recall_interval"]
        cells = rows[c["class"]]
        assert cells[1] == f"{c['recall']:.3f} [{low:.2f}, {high:.2f}]"
        assert cells[3:] == [f"{c['precision']:.3f}", f"{c['f1']:.3f}", f"{c['support']:,}", f"{c['predicted']:,}"]
    shown_recalls = [float(cells[1].split()[0]) for cells in rows.values()]
    assert shown_recalls == sorted(shown_recalls)
    assert len(rows) == len(e["per_class"])


@pytest.mark.parametrize("name", PLANS)
def test_page__is_well_formed_in_order_and_small(runs: dict[str, Path], name: str) -> None:
    text = draw(runs[name])
    page = parsed(text)
    assert [section.get("id") for section in page.findall(".//main/section")] == SECTIONS
    identities = [node.get("id") for node in page.iter() if node.get("id")]
    assert len(identities) == len(set(identities))
    links = [str(node.get("href")) for node in page.iter("a")]
    assert {link.removeprefix("#") for link in links} <= set(identities)
    assert all(image.get("alt") for image in page.iter("img"))
    assert all(drawing.get("aria-label") or drawing.get("aria-hidden") for drawing in page.iter("svg"))
    assert len(text.encode()) < 5_000_000
    assert "nan" not in visible(text).lower().split()


@pytest.mark.parametrize("name", PLANS)
def test_page__refers_to_nothing_outside(runs: dict[str, Path], name: str) -> None:
    text = draw(runs[name])
    for node in parsed(text).iter():
        assert "style" not in node.attrib
        for attribute in ("src", "href"):
            if attribute in node.attrib:
                assert node.attrib[attribute].startswith(("#", "data:image/jpeg;base64,", "data:,"))
    assert not re.search(r"https?:|//[a-z]|url\(|@import", re.sub(r"base64,[^\"]*", "", text).replace("text-wrap", ""))


def test_page__policy_admits_its_own_script_only(run: Path) -> None:
    text = draw(run)
    scripts = re.findall(r"(?s)<script>(.*?)</script>", text)
    assert len(scripts) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    policy = next(node.get("content") for node in parsed(text).iter("meta") if node.get("http-equiv"))
    start = f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'"
    assert str(policy).startswith(start)


def test_write_report__same_files_same_bytes_and_nothing_else_written(run: Path) -> None:
    before = sorted(path.name for path in run.iterdir())
    first = write_report(run).read_bytes()
    assert write_report(run).read_bytes() == first
    assert sorted(path.name for path in run.iterdir()) == sorted([*before, "report.html"])


def test_mistakes__have_their_thumbnails(runs: dict[str, Path]) -> None:
    evaluation = json.loads((runs["four"] / "evaluation.json").read_text())
    items = parsed(draw(runs["four"])).findall(".//ol[@class='mistakes']/li")
    assert len(items) == len(evaluation["mistakes"]) > 5
    for item, mistake in zip(items, evaluation["mistakes"], strict=True):
        image = item.find("img")
        assert image is not None
        assert base64.b64decode(image.get("src", "").split(",")[1])[:2] == b"\xff\xd8"
        assert image.get("alt") == f"{mistake['name']}, which is {mistake['label']}"
        assert words(item.find("p[@class='said']")) == f"{mistake['predicted']} {mistake['probability']:.2f}"


def test_mistakes__the_surest_of_the_others_stand_after_them(runs: dict[str, Path]) -> None:
    evaluation = json.loads((runs["hundred"] / "evaluation.json").read_text())
    page = parsed(draw(runs["hundred"]))
    lists = page.findall(".//section[@id='failures']//ol[@class='mistakes']")
    told = [[name.get("title") for name in mistakes.findall("li/p[@class='file']/bdi")] for mistakes in lists]
    assert told == [[one["name"] for one in evaluation[key]] for key in ("mistakes", "surest")]
    assert len(told[1]) == 12
    assert "Of the others, the surest" in words(page.find(".//section[@id='failures']"))
    assert "Of the others" not in words(parsed(draw(runs["four"])).find(".//section[@id='failures']"))


def test_confidence__equals_evaluation_json(run: Path) -> None:
    c = json.loads((run / "evaluation.json").read_text())["subsets"]["test"]["calibration"]
    section = words(parsed(draw(run)).find(".//section[@id='confidence']"))
    for key in ("nll", "brier", "ece"):
        assert f"{c['before'][key]:.3f} {c['after'][key]:.3f}" in section
    assert f"noise floor {c['ece_floor']:.3f}" in section
    assert f"a temperature of {c['temperature']:.2f}" in section


def test_learning__path_and_epochs(runs: dict[str, Path]) -> None:
    path = parsed(draw(runs["two"])).find(".//section[@id='learning']")
    epochs = parsed(draw(runs["hundred"])).find(".//section[@id='learning']")
    assert "taps all" in words(path)
    assert "chosen: L2 0.003" in words(path)
    assert (
        "Paired test of taps all against taps last on the 100 validation images: log-loss difference −0.0211 "
        in words(path)
    )
    assert "All 16 candidates" in words(path)
    assert "kept: epoch 19" in words(epochs)
    assert "training" in words(epochs)


def test_learning__says_where_the_chosen_head_is_not_the_lowest(run: Path) -> None:
    assert "as recorded" not in words(parsed(draw(run)).find(".//section[@id='learning']"))

    def edit(value: Any) -> None:
        for candidate in value["selection"]["candidates"]:
            candidate["val_log_loss"] = 0.0349 if candidate["chosen"] else 0.0315

    change(run, "evaluation.json", edit)
    section = words(parsed(draw(run)).find(".//section[@id='learning']"))
    told = "The chosen head has a validation log-loss of 0.0349; 15 other candidates show a lower one, as recorded."
    assert told in section


def test_data__set_aside_conflicts_and_calls_of_unlabelled(runs: dict[str, Path]) -> None:
    section = words(parsed(draw(runs["four"])).find(".//section[@id='data']"))
    assert "2 set aside. 5 other files were ignored." in section
    assert "truncated at 61 %" in section
    assert "eosinophil / lymphocyte" in section
    assert "train / test" in section
    assert "12 images without a label were called" in section


def test_data__long_lists_are_cut_and_say_so(run: Path) -> None:
    many = [{"name": f"{index}.jpg", "reason": "empty"} for index in range(1234)]
    change(run, "audit.json", lambda audit: audit.update(set_aside=many))
    section = words(parsed(draw(run)).find(".//section[@id='data']"))
    assert "1,234 set aside" in section
    assert "And 1034 more: the whole list stands in audit.json." in section


def test_making__command_versions_and_settings(run: Path) -> None:
    section = words(parsed(draw(run)).find(".//section[@id='making']"))
    for part in (
        "headway fit photos/ --seed 0",
        "onnxruntime 1.23.0",
        "3,374,858, of which trained 9,794",
        "features 9.8 s",
    ):
        assert part in section


@pytest.mark.parametrize("payload", PAYLOADS, ids=range(len(PAYLOADS)))
def test_twin__names_never_change_the_tags(run: Path, tmp_path: Path, payload: str) -> None:
    plain, other = draw(run), draw(twin(run, tmp_path / "twin", payload.__add__))
    assert skeleton(other) == skeleton(plain)
    assert shown(payload) in visible(other)
    parsed(other)


def test_twin__would_see_an_unescaped_name(run: Path) -> None:
    page = draw(run)
    assert skeleton(page.replace("cats", "<b>cats</b>", 1)) != skeleton(page)


def test_twin__hundred_hostile_classes(tmp_path: Path) -> None:
    plan = Plan(tuple(f"c{index:02}" for index in range(30)), (4,) * 30, 3.0, "epochs")
    run = build_run(tmp_path / "run", plan)
    for payload in PAYLOADS[::4]:
        folder = tmp_path / f"twin{len(list(tmp_path.iterdir()))}"
        other = draw(twin(run, folder, payload.__add__))
        assert skeleton(other) == skeleton(draw(run))


def none(*path: str) -> Callable[[Any], None]:
    def edit(value: Any) -> None:
        for key in path[:-1]:
            value = value[key]
        value[path[-1]] = None

    return edit


OPTIONAL = [
    ("next",),
    ("saved",),
    ("mistakes",),
    ("selection",),
    ("model",),
    ("command",),
    ("test_openings",),
    ("result", "seconds"),
    ("result", "features"),
    ("result", "n"),
    ("selection", "paired"),
    ("selection", "candidates"),
    ("selection", "l2"),
    ("model", "macs"),
    ("model", "layers"),
    ("subsets", "val"),
    ("subsets", "test"),
    ("subsets", "test", "calibration"),
    ("subsets", "test", "macro_f1_interval"),
    ("subsets", "test", "interval"),
    ("subsets", "test", "confusion"),
    ("subsets", "test", "averages"),
    ("subsets", "test", "constant_guess"),
    ("subsets", "test", "calibration", "bins"),
    ("subsets", "test", "calibration", "ece_floor"),
    ("subsets", "test", "calibration", "temperature"),
]


@pytest.mark.parametrize("path", OPTIONAL, ids=".".join)
def test_missing__a_null_leaves_a_whole_page(run: Path, path: tuple[str, ...]) -> None:
    change(run, "evaluation.json", none(*path))
    text = draw(run)
    assert [section.get("id") for section in parsed(text).findall(".//main/section")] == SECTIONS
    assert "None" not in visible(text)


@pytest.mark.parametrize(
    "name", ["audit.json", "history.csv", "resolved.json", "settings.yaml", "predictions.csv", "thumbnails.parquet"]
)
def test_missing__a_file_leaves_a_whole_page(run: Path, name: str) -> None:
    (run / name).unlink()
    assert [section.get("id") for section in parsed(draw(run)).findall(".//main/section")] == SECTIONS


def test_missing__class_without_test_images_has_no_recall(run: Path) -> None:
    empty = {"recall": 0.0, "recall_interval": None, "support": 0}
    change(run, "evaluation.json", lambda value: value["subsets"]["test"]["per_class"][1].update(empty))
    rows = parsed(draw(run)).findall(".//table[@id='classes']/tbody/tr")
    assert words(rows[-1]).startswith("2 dogs – ")


def test_headline__without_test_set_says_that_validation_flatters(run: Path) -> None:
    change(run, "evaluation.json", none("subsets", "test"))
    page = parsed(draw(run))
    assert words(page.find(".//h1")).startswith("Right on 99 of 100 validation images:")
    assert "these images also chose the model, so the number flatters" in words(page.find(".//header"))


def test_headline__second_opening_of_the_test_set_is_told(run: Path) -> None:
    change(run, "evaluation.json", lambda value: value.update(test_openings=3))
    assert "The test set was opened 3 times" in words(parsed(draw(run)).find(".//header"))


def test_strip__no_machine_where_the_run_does_not_tell(run: Path) -> None:
    change(run, "resolved.json", lambda value: value.update(machine={"system": "Linux"}))
    assert "machine" not in words(parsed(draw(run)).find(".//header/dl"))


def test_next__lines_of_the_terminal_become_sentences_and_a_class_keeps_its_name(run: Path) -> None:
    told = ["keep the head", "cats and dogs are taken for each other", "more images help."]
    change(run, "evaluation.json", lambda value: value.update(advice={"sentences": told}, next=None))
    section = words(parsed(draw(run)).find(".//section[@id='next']"))
    assert "Keep the head. cats and dogs are taken for each other. More images help." in section


def test_failures__no_mistake(run: Path) -> None:
    def edit(value: Any) -> None:
        value["mistakes"] = []
        value["subsets"]["test"].update(correct=300, accuracy=1.0)

    change(run, "evaluation.json", edit)
    section = words(parsed(draw(run)).find(".//section[@id='failures']"))
    assert "Not one of the 300 images was answered wrongly." in section


def test_refused__no_run(tmp_path: Path) -> None:
    with pytest.raises(Refused) as refused:
        write_report(tmp_path)
    assert str(refused.value) == (
        f"{tmp_path} has no evaluation.json, so there is nothing to report. Finish the run first: headway fit"
    )


def test_refused__newer_schema(run: Path) -> None:
    change(run, "evaluation.json", lambda value: value.update(schema=2))
    with pytest.raises(Refused) as refused:
        write_report(run)
    assert str(refused.value) == (
        f"{run / 'evaluation.json'} has schema 2; this headway reads schema 1. "
        "Use the version of headway that wrote the run."
    )
    assert not (run / "report.html").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("evaluation.json", b"{"),
        ("audit.json", b"[1]"),
        ("resolved.json", b"\xff\xfe"),
        ("settings.yaml", b"{"),
        ("history.csv", b"kind,step\nepoch,many\n"),
        ("thumbnails.parquet", b"PAR1"),
    ],
)
def test_damaged__one_line_that_names_the_file(run: Path, name: str, content: bytes) -> None:
    (run / name).write_bytes(content)
    with pytest.raises(HeadwayError) as failed:
        write_report(run)
    assert str(failed.value).startswith(f"{run / name} is damaged")
    assert "\n" not in str(failed.value)
