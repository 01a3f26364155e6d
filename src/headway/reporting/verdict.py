"""What a comparison says in words: which choice is best, which the cheapest good one, how to read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from headway.reporting.text import count, interval, listed, number, seconds

Choices = Sequence[Mapping[str, Any]]
Pairs = Sequence[Mapping[str, Any]]


def judge_choices(choices: Choices, pairs: Pairs) -> dict[str, Any]:
    """The verdict of a comparison, for comparison.json.

    highest    the choice with the highest test accuracy (of equal ones the cheapest)
    best       the same, where it is shown to be better than every other choice; else None
    worse      choices that are shown to be worse than another one
    cheapest   of the others the one that took the least time
    sentences  all of it in words
    """
    lost = [
        (pair["better"], pair["a"] if pair["better"] == pair["b"] else pair["b"]) for pair in pairs if pair["better"]
    ]
    worse = {loser for _, loser in lost}
    highest = min(choices, key=lambda own: (-own["test"]["accuracy"], cost(own)))
    beaten = {loser for winner, loser in lost if winner == highest["name"]}
    best = highest["name"] if len(beaten) == len(choices) - 1 else None
    cheapest = min((own for own in choices if own["name"] not in worse), key=cost)
    sentences = [
        _best_sentence(highest, beaten, choices),
        *([] if best else _worse_sentence([own for own in choices if own["name"] in worse], pairs)),
        _cheapest_sentence(cheapest, highest, choices),
        *_open_sentence(cheapest, highest, pairs),
    ]
    return {
        "highest": highest["name"],
        "best": best,
        "worse": [own["name"] for own in choices if own["name"] in worse],
        "cheapest": cheapest["name"],
        "sentences": sentences,
    }


def cost(choice: Mapping[str, Any]) -> float:
    """Seconds that a choice took, with those of the part of the pass that it found done, where they are known."""
    return float(choice["seconds"]["total"]) + float(choice["pass"]["saved_seconds"] or 0.0)


def _best_sentence(highest: Mapping[str, Any], beaten: set[str], choices: Choices) -> str:
    test, name = highest["test"], highest["name"]
    score = f"{number(test['accuracy'])} {interval(test['interval'])} on {count(test['n'])} test images"
    rivals = [own["name"] for own in choices if own["name"] not in beaten and own is not highest]
    if not rivals:
        others = "the other" if len(choices) == 2 else "each of the others"
        return f"{name} is best: {score}, shown to be better than {others} on the same images."
    equal = [own["name"] for own in choices if own["test"]["accuracy"] == test["accuracy"]]
    if len(equal) > 1:
        return f"No choice is shown to be best: {listed(equal)} are right equally often, {score}."
    between = f"between it and {listed(rivals)}" if len(rivals) == 1 else f"between it and any of {listed(rivals)}"
    start = f"No choice is shown to be best: {name} has the highest accuracy, {score}"
    return f"{start}, but no difference is shown {between}."


def _worse_sentence(worse: Choices, pairs: Pairs) -> list[str]:
    """Who is shown to be worse than whom."""
    parts = []
    for own in worse:
        better = [pair["better"] for pair in pairs if own["name"] in (pair["a"], pair["b"]) and pair["better"]]
        parts.append(
            f"{own['name']} is shown to be worse than {listed(name for name in better if name != own['name'])}"
        )
    return [f"{'; '.join(parts)}."] if parts else []


def _cheapest_sentence(cheapest: Mapping[str, Any], highest: Mapping[str, Any], choices: Choices) -> str:
    name, own = cheapest["name"], seconds(cost(cheapest))
    others = [other for other in choices if other is not cheapest]
    if all(cost(cheapest) <= cost(other) for other in others):
        start = (
            f"{name} is also the cheapest"
            if cheapest is highest
            else f"{name} is the cheapest and not shown to be worse"
        )
        return f"{start}: {own}, against {_costs(others)}."
    if cheapest is highest:
        quicker = [other for other in others if cost(other) < cost(cheapest)]
        return f"What is cheaper is shown to be worse: {_costs(quicker)}, against {own} for {name}."
    return f"The cheapest that is not shown to be worse is {name}: {own}, against {_costs([highest])}."


def _costs(choices: Choices) -> str:
    return listed(f"{seconds(cost(own))} for {own['name']}" for own in choices)


def _open_sentence(cheapest: Mapping[str, Any], highest: Mapping[str, Any], pairs: Pairs) -> list[str]:
    """How much better the highest may yet be than the cheapest: no difference shown does not say that there is none."""
    both = {cheapest["name"], highest["name"]}
    for pair in pairs:
        if {pair["a"], pair["b"]} == both:
            side = 1 if pair["a"] == highest["name"] else -1
            ends = [side * end for key in ("mcnemar", "bootstrap") for end in pair[key]["interval"]]
            points = f"{100 * max(ends):.1f} points"
            return [
                f"These {count(pair['n'])} images do not rule out that {highest['name']} is better by up to {points}."
            ]
    return []


def told_conditions(choices: Choices) -> list[str]:
    """What must be known to read the seconds and the accuracies of a comparison, one sentence each."""
    return [*_told_pass(choices), *_told_probe(choices), *_told_resumed(choices), _told_looks(choices)]


def _told_pass(choices: Choices) -> list[str]:
    """Who paid for the pass through the pretrained network, and who found it done."""
    found = [own for own in choices if own["pass"]["reused"]]
    paid = [own["name"] for own in choices if own["pass"]["needed"] and not own["pass"]["reused"]]
    if not found:
        return []
    parts = []
    for own in found:
        saved = own["pass"]["saved_seconds"]
        worth = f", about {seconds(saved)} of work" if saved else ""
        parts.append(f"{own['name']} ({count(own['pass']['reused'])} images{worth})")
    theirs = "its seconds are" if len(found) == 1 else "their seconds are"
    end = f"those of {listed(paid)} include the pass" if paid else "and no choice paid for all of it"
    added = " The verdict adds that work." if any(own["pass"]["saved_seconds"] for own in found) else ""
    return [
        f"{listed(parts)} found features in the cache: {theirs} without that part of the pass, {end}. "
        f"As they stand they cannot be compared.{added}"
    ]


def _told_probe(choices: Choices) -> list[str]:
    starting = [own["name"] for own in choices if own["begins_with_probe"]]
    if not starting:
        return []
    begins = "begins with a probe of its own" if len(starting) == 1 else "begin with probes of their own"
    return [f"{listed(starting)} {begins}; the seconds of training include that."]


def _told_resumed(choices: Choices) -> list[str]:
    resumed = [own["name"] for own in choices if own["seconds"]["resumed"]]
    if not resumed:
        return []
    was = "was" if len(resumed) == 1 else "were"
    return [f"{listed(resumed)} {was} interrupted and gone on with: of its starts only training is added up."]


def _told_looks(choices: Choices) -> str:
    return (
        f"The test images were looked at once by each of the {len(choices)} choices; "
        "taking the highest of several numbers flatters it, which is why the paired tests decide."
    )
